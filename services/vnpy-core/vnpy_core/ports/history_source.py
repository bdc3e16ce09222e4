"""Where history can be had that is not in the store: gateways that offer it, and VnPy's datafeed."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from vnpy_core.domain.history import BarArray, Interval, TickArray


class HistorySource(Protocol):
    """Loop thread only. Times are aware. Answers are by time and may go beyond what was asked for.

    An empty answer means that the source has nothing of the range; VnPy's sources do not say why.

    Raises ValidationFailed (the contract's name), NotFound (no such gateway), ConfigurationError (no datafeed, or one
    that cannot be used), GatewayRefused (the source failed, in its words), Overloaded (no answer in time, or too many
    earlier questions without one).
    """

    async def query_bars(
        self, vt_symbol: str, interval: Interval, start: datetime, end: datetime, gateway_name: str = ""
    ) -> BarArray:
        """Bars from `gateway_name`, else from the gateway that offers the contract's history, else the datafeed."""
        ...

    async def query_ticks(self, vt_symbol: str, start: datetime, end: datetime) -> TickArray:
        """Ticks from the datafeed: VnPy's gateways have none."""
        ...
