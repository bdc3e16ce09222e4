"""Facades of VnPy's apps: they turn None and \"\" into typed results and errors."""
