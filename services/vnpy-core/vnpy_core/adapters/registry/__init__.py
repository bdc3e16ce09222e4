"""Who runs and who trades which account: in memory for this process alone, or in Redis for everybody."""
