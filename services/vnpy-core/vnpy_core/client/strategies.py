"""`/api/v1/strategies` of the service; as the other rooms in `rest`, all calls raise `domain.errors.CoreError`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import date
from datetime import datetime as Datetime
from typing import Any
from urllib.parse import quote

import msgspec

from vnpy_core.client.http import Http
from vnpy_core.domain.enums import LogLevel, Status, StrategyState
from vnpy_core.domain.events import Order, StopOrderUpdate, StrategyUpdate, Trade
from vnpy_core.domain.pnl import Equity, Pnl
from vnpy_core.domain.strategies import LoadError, Reloaded, StrategyClass

ROOM = "/strategies"
LINES = 1_000
"""Log lines that the service keeps of a strategy, and that one page holds."""


class Classes(msgspec.Struct, frozen=True):
    """What strategies may be made of, and the files that could not be loaded."""

    items: list[StrategyClass]
    next_cursor: str | None
    failed: list[LoadError]


class StrategyLogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a strategy's log; `number` counts them up from 1 since the service's start."""

    number: int
    level: LogLevel
    msg: str
    datetime: Datetime


class StrategyOutcome(msgspec.Struct, frozen=True):
    """One strategy where all were asked; `problem` (`code`, `detail`, …) where it could not be done."""

    strategy_name: str
    state: StrategyState
    problem: dict[str, Any] | None = None


class _Outcomes(msgspec.Struct, frozen=True):
    items: list[StrategyOutcome]


class Strategies:
    """`/api/v1/strategies`. Names are the strategies'."""

    def __init__(self, http: Http) -> None:
        self._http = http

    # Classes

    async def classes(self) -> Classes:
        """All of them by name, and the files that failed."""
        found = await self._http.get(f"{ROOM}/classes", Classes, limit=1000)
        while found.next_cursor is not None:
            more = await self._http.get(f"{ROOM}/classes", Classes, limit=1000, cursor=found.next_cursor)
            found = msgspec.structs.replace(more, items=found.items + more.items)
        return found

    async def strategy_class(self, class_name: str) -> StrategyClass:
        """One of them."""
        return await self._http.get(f"{ROOM}/classes/{quote(class_name, safe='')}", StrategyClass)

    async def reload(self) -> Reloaded:
        """Load all files again. Strategies that exist keep the code that they were made of."""
        return await self._http.call("POST", f"{ROOM}/classes/reload", Reloaded)

    # Reading

    def all(
        self, *, state: StrategyState | None = None, class_name: str | None = None, vt_symbol: str | None = None
    ) -> AsyncIterator[StrategyUpdate]:
        """Strategies by name."""
        return self._http.pages(ROOM, StrategyUpdate, state=state, class_name=class_name, vt_symbol=vt_symbol)

    async def get(self, name: str) -> StrategyUpdate:
        """One of them as it is now."""
        return await self._http.get(_path(name), StrategyUpdate)

    async def parameters(self, name: str) -> dict[str, Any]:
        """Its parameters."""
        return await self._http.get(f"{_path(name)}/parameters", dict[str, Any])

    async def variables(self, name: str) -> dict[str, Any]:
        """Its variables, as it last showed them."""
        return await self._http.get(f"{_path(name)}/variables", dict[str, Any])

    def orders(
        self,
        name: str,
        *,
        active: bool | None = None,
        status: Status | None = None,
        vt_symbol: str | None = None,
        start: Datetime | None = None,
        end: Datetime | None = None,
        after_seq: int | None = None,
    ) -> AsyncIterator[Order]:
        """Its orders by `seq`, live and past; one that changes meanwhile comes again."""
        return self._http.pages(
            f"{_path(name)}/orders", Order, active=active, status=status, vt_symbol=vt_symbol, start=start, end=end,
            after_seq=after_seq,
        )  # fmt: skip

    def trades(
        self,
        name: str,
        *,
        vt_symbol: str | None = None,
        start: Datetime | None = None,
        end: Datetime | None = None,
        after_seq: int | None = None,
    ) -> AsyncIterator[Trade]:
        """Its fills by `seq`."""
        return self._http.pages(
            f"{_path(name)}/trades", Trade, vt_symbol=vt_symbol, start=start, end=end, after_seq=after_seq
        )

    async def logs(self, name: str, *, level: LogLevel = LogLevel.DEBUG, lines: int = LINES) -> list[StrategyLogLine]:
        """Its newest `lines` (1,000 at most) of at least `level`, the newest last."""
        page = await self._http.page(f"{_path(name)}/logs", StrategyLogLine, level=level, limit=lines)
        return page.items

    async def pnl(self, name: str, *, start: date | None = None, end: date | None = None) -> Pnl:
        """What it has earned, and the days from `start` to `end`, which both count in."""
        return await self._http.get(f"{_path(name)}/pnl", Pnl, start=start, end=end)

    async def equity(
        self, name: str, resolution: str = "day", *, start: date | None = None, end: date | None = None
    ) -> Equity:
        """Its equity curve, by `day` or by `trade`."""
        return await self._http.get(f"{_path(name)}/equity", Equity, resolution=resolution, start=start, end=end)

    def stop_orders(self, *, strategy_name: str | None = None) -> AsyncIterator[StopOrderUpdate]:
        """The local stop orders that wait, oldest first."""
        return self._http.pages(f"{ROOM}/stop-orders", StopOrderUpdate, strategy_name=strategy_name)

    # Making, setting, removing

    async def add(
        self,
        class_name: str,
        name: str,
        vt_symbol: str,
        setting: Mapping[str, Any] | None = None,
        *,
        auto_start: bool = False,
    ) -> StrategyUpdate:
        """Make one; parameters that `setting` leaves out have the class's defaults."""
        body = {
            "class_name": class_name, "strategy_name": name, "vt_symbol": vt_symbol, "setting": setting or {},
            "auto_start": auto_start,
        }  # fmt: skip
        return await self._http.call("POST", ROOM, StrategyUpdate, body)

    async def set_parameters(self, name: str, setting: Mapping[str, Any]) -> dict[str, Any]:
        """Set them all, what is left out to its default; all come back."""
        return await self._http.call("PUT", f"{_path(name)}/parameters", dict[str, Any], setting)

    async def change_parameters(self, name: str, setting: Mapping[str, Any]) -> dict[str, Any]:
        """Set these, and leave the others; all come back."""
        return await self._http.call("PATCH", f"{_path(name)}/parameters", dict[str, Any], setting)

    async def set_auto_start(self, name: str, auto_start: bool) -> StrategyUpdate:
        """Whether each start of the service starts it."""
        return await self._http.call("PATCH", _path(name), StrategyUpdate, {"auto_start": auto_start})

    async def remove(self, name: str) -> None:
        """Forget it and its variables; Conflict while it trades or is initialising."""
        await self._http.send("DELETE", _path(name))

    # Their life

    async def init(self, name: str, *, wait_s: float = 0.0) -> StrategyUpdate:
        """Begin its on_init and wait at most `wait_s` (60, and less than the client's `timeout_s`) for the end.

        INITIALISING where it has not ended by then; Conflict has the reason where it failed.
        """
        return await self._http.call("POST", f"{_path(name)}/init", StrategyUpdate, wait_s=wait_s)

    async def start(self, name: str) -> StrategyUpdate:
        """Let it trade."""
        return await self._http.call("POST", f"{_path(name)}/start", StrategyUpdate)

    async def stop(self, name: str) -> StrategyUpdate:
        """Let it trade no more; its orders are asked to cancel."""
        return await self._http.call("POST", f"{_path(name)}/stop", StrategyUpdate)

    async def init_all(self) -> list[StrategyOutcome]:
        """Begin to initialise all that are not; waits for none."""
        return await self._all("init")

    async def start_all(self) -> list[StrategyOutcome]:
        """Let all trade that are initialised."""
        return await self._all("start")

    async def stop_all(self) -> list[StrategyOutcome]:
        """Let none of them trade."""
        return await self._all("stop")

    # Rollover

    async def plan_rollover(
        self, from_vt_symbol: str, to_vt_symbol: str, strategies: Iterable[str] | None = None, **more: object
    ) -> dict[str, Any]:
        """What a rollover would do now, and what speaks against it, as the API documents it; nothing is sent.

        `more`: `payup`, `max_volume`, `timeout_s` and what else the API takes.
        """
        return await self._rollover(from_vt_symbol, to_vt_symbol, strategies, more, dry_run=True)

    async def roll_over(
        self, from_vt_symbol: str, to_vt_symbol: str, strategies: Iterable[str] | None = None, **more: object
    ) -> dict[str, Any]:
        """Begin a rollover; `rollover` shows how it goes."""
        return await self._rollover(from_vt_symbol, to_vt_symbol, strategies, more, dry_run=False)

    def rollovers(self) -> AsyncIterator[dict[str, Any]]:
        """The last ones."""
        return self._http.pages(f"{ROOM}/rollovers", dict[str, Any])

    async def rollover(self, rollover_id: str) -> dict[str, Any]:
        """One of them."""
        return await self._http.get(f"{ROOM}/rollovers/{quote(rollover_id, safe='')}", dict[str, Any])

    # Inside

    async def _all(self, what: str) -> list[StrategyOutcome]:
        return (await self._http.call("POST", f"{ROOM}/{what}-all", _Outcomes)).items

    async def _rollover(
        self, old: str, new: str, strategies: Iterable[str] | None, more: Mapping[str, object], *, dry_run: bool
    ) -> dict[str, Any]:
        body = {"from_vt_symbol": old, "to_vt_symbol": new, **more, "dry_run": dry_run}
        if strategies is not None:
            body["strategies"] = list(strategies)
        return await self._http.call("POST", f"{ROOM}/rollover", dict[str, Any], body)


def _path(name: str) -> str:
    return f"{ROOM}/{quote(name, safe='')}"
