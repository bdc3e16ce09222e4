"""History from gateways and VnPy's datafeed: foreign code, which blocks, fails in many ways and may never return."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from vnpy.trader.constant import Exchange
from vnpy.trader.constant import Interval as VnpyInterval
from vnpy.trader.database import DB_TZ
from vnpy.trader.datafeed import BaseDatafeed, get_datafeed
from vnpy.trader.engine import MainEngine
from vnpy.trader.object import HistoryRequest
from vnpy.trader.setting import SETTINGS

from vnpy_core.domain.errors import (
    ConfigurationError,
    CoreError,
    GatewayRefused,
    NotFound,
    Overloaded,
    ValidationFailed,
    describe,
)
from vnpy_core.domain.history import BarArray, Interval, TickArray
from vnpy_core.engine.database import bar_array, tick_array
from vnpy_core.kit.tasks import in_own_thread

DEADLINE_S = 300.0
"""So long a source may take for one question."""
UNANSWERED = 4
"""So many questions may be under way, those given up included, whose threads cannot be ended."""

_T = TypeVar("_T")


class HistoryQueries:
    """Implements `ports.history_source.HistorySource` for a MainEngine. Each question has a thread of its own."""

    def __init__(self, main_engine: MainEngine, *, deadline_s: float = DEADLINE_S) -> None:
        self._main_engine = main_engine
        self._deadline_s = deadline_s
        self._under_way = 0

    async def query_bars(
        self, vt_symbol: str, interval: Interval, start: datetime, end: datetime, gateway_name: str = ""
    ) -> BarArray:
        """See the port."""
        request = _request(vt_symbol, start, end, VnpyInterval(interval.value))
        gateway_name = gateway_name or self._offering(vt_symbol)
        if not gateway_name:
            return await self._ask("the datafeed", lambda: bar_array(_feed_bars(request)))
        gateway = self._main_engine.gateways.get(gateway_name)
        if gateway is None:
            raise NotFound(f"there is no gateway {gateway_name}")

        def query() -> BarArray:
            bars = gateway.query_history(request)
            if bars is None:
                raise GatewayRefused(f"{gateway_name} gave no history of {vt_symbol}")
            return bar_array(bars)

        return await self._ask(gateway_name, query)

    async def query_ticks(self, vt_symbol: str, start: datetime, end: datetime) -> TickArray:
        """See the port."""
        request = _request(vt_symbol, start, end)
        return await self._ask("the datafeed", lambda: tick_array(_feed_ticks(request)))

    def _offering(self, vt_symbol: str) -> str:
        contract = self._main_engine.get_contract(vt_symbol)
        return contract.gateway_name if contract is not None and contract.history_data else ""

    async def _ask(self, source: str, query: Callable[[], _T]) -> _T:
        if self._under_way >= UNANSWERED:
            raise Overloaded(f"{self._under_way} questions for history have no answer yet")
        self._under_way += 1
        answer = asyncio.ensure_future(in_own_thread(partial(_guarded, source, query)))
        answer.add_done_callback(self._on_answer)
        try:
            # Shielded, so that a question given up counts until its thread has really ended.
            return await asyncio.wait_for(asyncio.shield(answer), self._deadline_s)
        except TimeoutError:
            raise Overloaded(f"{source} gave no history within {self._deadline_s:g} s") from None

    def _on_answer(self, answer: asyncio.Future[Any]) -> None:
        self._under_way -= 1
        if not answer.cancelled():
            answer.exception()  # of a question that was given up, nobody else asks


def _guarded(source: str, query: Callable[[], _T]) -> _T:
    try:
        return query()
    except CoreError:
        raise
    except Exception as error:  # a guarded door: the source is foreign code
        raise GatewayRefused(f"{source} failed: {describe(error)}") from error


def _request(vt_symbol: str, start: datetime, end: datetime, interval: VnpyInterval | None = None) -> HistoryRequest:
    """Times as VnPy's own apps give them."""
    symbol, _, suffix = vt_symbol.rpartition(".")
    try:
        exchange = Exchange(suffix)
    except ValueError:
        raise ValidationFailed(f"{vt_symbol!r} is not like rb2505.SHFE, with an exchange that VnPy knows") from None
    return HistoryRequest(symbol, exchange, start.astimezone(DB_TZ), end.astimezone(DB_TZ), interval)


def _feed_bars(request: HistoryRequest) -> list[Any]:
    return _heard(lambda output: _datafeed().query_bar_history(request, output))


def _feed_ticks(request: HistoryRequest) -> list[Any]:
    return _heard(lambda output: _datafeed().query_tick_history(request, output))


def _datafeed() -> BaseDatafeed:
    name = SETTINGS["datafeed.name"]
    if not name:
        raise ConfigurationError("no datafeed is configured: set datafeed.name in vt_setting.json")
    feed = get_datafeed()
    if type(feed) is BaseDatafeed:
        raise ConfigurationError(f"datafeed.name: vnpy_{name} is not installed")
    return feed


def _heard(query: Callable[[Callable[[str], None]], list[Any] | None]) -> list[Any]:
    """A datafeed tells its failures by words and gives nothing then."""
    words: list[str] = []
    rows = query(lambda text: words.append(str(text)))
    if not rows and words:
        raise GatewayRefused(f"the datafeed: {'; '.join(words[-3:])}")
    return rows or []
