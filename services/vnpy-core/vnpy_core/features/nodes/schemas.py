"""Examples of what comes back."""

from typing import Any

NODES_EXAMPLE: dict[str, Any] = {
    "items": [
        {
            "id": "core@desk-1a2b3c4d5e6f",
            "node": "core",
            "role": "core",
            "address": "http://10.0.0.5:8006",
            "version": "0.1.0",
            "pid": 4242,
            "epoch": "5f0c9e7d",
            "seq": 1240,
            "gateways": {"CTP": True},
            "load": {"cpu": 0.21, "memory_mb": 212.5, "sessions": 3, "events_per_s": 1480.0},
            "started_at": "2026-11-21T01:00:00Z",
            "seen_at": "2026-11-21T02:00:00Z",
        }
    ],
    "complete": True,
    "detail": "",
}
