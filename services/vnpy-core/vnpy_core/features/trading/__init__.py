"""Trading by request: gateways, subscriptions, orders and what the read view knows of them."""
