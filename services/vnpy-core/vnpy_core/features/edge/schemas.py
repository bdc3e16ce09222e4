"""Examples of what an edge answers about itself."""

from typing import Any

READINESS_EXAMPLE: dict[str, Any] = {"status": "ok", "components": {"core": "ok", "channels": "ok", "registry": "ok"}}
UNREADY_EXAMPLE: dict[str, Any] = {
    "status": "down",
    "components": {"core": "down", "channels": "degraded", "registry": "ok"},
}
STATUS_EXAMPLE: dict[str, Any] = {
    "role": "edge",
    "version": "0.1.0",
    "node": "core",
    "started_at": "2026-11-21T01:00:00Z",
    "uptime_s": 3600.5,
    "status": "ok",
    "components": [{"name": "core", "state": "ok", "detail": "", "critical": True}],
    "feed": {
        "state": "FOLLOWING",
        "detail": "",
        "epoch": "8f14e45f",
        "seq": 120_000,
        "position": 120_001,
        "stream_seq": 120_001,
        "cache_seq": 120_000,
        "lag": 0,
        "silent_s": 0.2,
        "listening": True,
        "loads": 1,
        "interruptions": 0,
        "events": 4_200,
        "signals": 812_000,
        "mended": 3,
        "duplicates": 0,
        "foreign": 0,
        "undecodable": 0,
        "faults": 0,
    },
    "sessions": [],
}
METRICS_EXAMPLE = """# HELP vnpy_core_edge_lag Events that the core has published and this edge lacks.
# TYPE vnpy_core_edge_lag gauge
vnpy_core_edge_lag 0.0
"""
