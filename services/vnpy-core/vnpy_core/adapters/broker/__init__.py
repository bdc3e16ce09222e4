"""The message bus outside the process: in memory for this process alone, or in Redis for everybody."""
