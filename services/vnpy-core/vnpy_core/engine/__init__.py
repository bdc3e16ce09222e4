"""The VnPy host: with gateways/ and plugin/ the only rooms that import vnpy."""
