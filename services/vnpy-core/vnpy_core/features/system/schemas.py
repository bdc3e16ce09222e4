"""Wire models of the system: which log lines, and examples of what comes back."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vnpy_core.domain.enums import LogLevel
from vnpy_core.features.system.service import LogFilter
from vnpy_core.web.inputs import Time


class LogsQuery(BaseModel):
    """Which log lines."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: LogLevel = Field(default=LogLevel.DEBUG, description="This level and above")
    source: str | None = Field(default=None, max_length=128, description="The gateway or app that wrote it")
    contains: str | None = Field(default=None, max_length=256, description="Part of the text, in any case")
    start: Time | None = Field(default=None, description="Not before")
    limit: int = Field(default=100, ge=1, le=1000)
    cursor: str | None = Field(default=None, max_length=512, description="`next_cursor` of the page before")

    def wanted(self) -> LogFilter:
        """The filter of the service."""
        return LogFilter(level=self.level, source=self.source, contains=self.contains, start=self.start)


READINESS_EXAMPLE: dict[str, Any] = {
    "status": "degraded",
    "components": {
        "event_thread": "ok",
        "journal": "ok",
        "store": "degraded",
        "gateway.PAPER": "ok",
        "gateway.CTP": "degraded",
    },
}
UNREADY_EXAMPLE: dict[str, Any] = {"status": "down", "components": {"event_thread": "down", "gateway.PAPER": "ok"}}
STATUS_EXAMPLE: dict[str, Any] = {
    "version": "0.1.0",
    "started_at": "2026-11-21T01:00:00Z",
    "uptime_s": 3600.5,
    "status": "ok",
    "components": [{"name": "event_thread", "state": "ok", "detail": "", "critical": True}],
    "event_thread": {
        "alive": True,
        "queue_length": 0,
        "lag_ms": 0.4,
        "events_handled": 120_000,
        "handler_errors": 0,
        "slow_events": 0,
        "ticks_conflated": 0,
        "bridge_backlog": 0,
    },
    "apps": {"CtaStrategy": "loaded"},
    "journal": {
        "epoch": "8f14e45f",
        "first_seq": 1,
        "last_seq": 120_000,
        "size_bytes": 52_428_800,
        "reserve": True,
        "waiting": 0,
        "refusal": "",
    },
    "sessions": [],
    "sinks": [{"name": "store", "seq": 119_990, "lag": 10, "written": 20_000, "dead_letters": 0, "error": ""}],
}
LOG_EXAMPLE: dict[str, Any] = {
    "number": 42,
    "level": "INFO",
    "source": "PAPER",
    "msg": "connected",
    "datetime": "2026-11-21T02:00:00.123456Z",
}
METRICS_EXAMPLE = """# HELP vnpy_core_event_queue_length Events waiting for VnPy.
# TYPE vnpy_core_event_queue_length gauge
vnpy_core_event_queue_length 0.0
"""
