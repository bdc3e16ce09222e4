"""An async Python client of the service: REST and `/ws`. Imports neither VnPy nor the service's rooms but `domain`."""

from vnpy_core.client.client import Client
from vnpy_core.client.http import Page, ServiceUnreachable, Unexpected
from vnpy_core.client.messages import (
    Connected,
    Disconnected,
    Encoding,
    Gap,
    Snapshot,
    StreamMessage,
    Subscribed,
    Unsubscribed,
    Update,
)
from vnpy_core.client.mirror import Mirror, MirrorCounters
from vnpy_core.client.session import Counters
from vnpy_core.client.stream import Stream

__all__ = [
    "Client",
    "Connected",
    "Counters",
    "Disconnected",
    "Encoding",
    "Gap",
    "Mirror",
    "MirrorCounters",
    "Page",
    "ServiceUnreachable",
    "Snapshot",
    "Stream",
    "StreamMessage",
    "Subscribed",
    "Unexpected",
    "Unsubscribed",
    "Update",
]
