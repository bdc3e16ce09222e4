"""Our own VnPy gateways, one folder each."""
