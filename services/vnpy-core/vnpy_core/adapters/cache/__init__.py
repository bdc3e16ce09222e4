"""The latest of everything: in memory for this process alone, or in Redis for everybody."""
