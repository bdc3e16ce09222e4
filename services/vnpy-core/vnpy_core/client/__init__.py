"""An async Python client of the service: REST and `/ws`. Imports neither VnPy nor the service's rooms but `domain`."""
