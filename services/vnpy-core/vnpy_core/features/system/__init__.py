"""How the service itself is: health, status, metrics and VnPy's log."""
