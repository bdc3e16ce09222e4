"""The schema's history, forward only. Each step may be run again after it was cut short: MySQL cannot undo one."""
