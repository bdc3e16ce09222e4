"""VnPy Core Service: a VnPy trader without a screen, served over REST and WebSocket."""

__version__ = "0.1.0"
