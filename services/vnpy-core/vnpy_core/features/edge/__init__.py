"""A core's life as seen through Redis: what an edge node knows, and how it keeps knowing it."""
