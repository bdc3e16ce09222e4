"""The bus inside the process: topics, messages, subscriptions and the read view. Loop thread only."""
