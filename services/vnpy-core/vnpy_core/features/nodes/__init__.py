"""The processes that belong together: who runs, where, how busy, and who trades which account."""
