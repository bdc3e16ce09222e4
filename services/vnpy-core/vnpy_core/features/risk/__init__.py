"""Risk: halting and resuming trading."""
