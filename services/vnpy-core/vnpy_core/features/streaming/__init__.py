"""Live events over WebSocket: one bounded session per client, one encoding for all of them."""
