"""A client that keeps a mirror and checks it: what came twice, what is missing, and whether it equals the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Self

import msgspec

from vnpy_core.client import Client, Connected, Disconnected, Mirror, Stream, StreamMessage, Subscribed, Update
from vnpy_core.domain.errors import CoreError, TryLater
from vnpy_core.domain.events import Event, Order, Trade

DEADLINE_S = 60.0
HEAL_PAUSE_S = 0.2
EVERYTHING = ("*",)


class Report(msgspec.Struct, kw_only=True):
    """What must hold of a run: `gaps`, `repeats` and `disorder` 0, `differences` empty."""

    applied: int
    """Live events that the mirror took."""
    connects: int
    resumed: int
    gaps: int
    untold_gaps: int
    repeats: int
    """Lossless events that reached the reader twice."""
    disorder: int
    """Lossless events that came behind a later one."""
    duplicates_dropped: int
    """Lossless events that the service sent twice and the client kept from the reader."""
    heals: int
    differences: list[str]


class CheckingClient:
    """A stream, its mirror and a reader task. An async context; loop thread only.

    `client` is where the truth is read: the core, or the edge that the stream comes from.
    """

    def __init__(
        self,
        client: Client,
        *,
        topics: Iterable[str] = EVERYTHING,
        urls: Iterable[str] | None = None,
        encoding: str = "json",
        conflate: bool = True,
        after_seq: int | None = 0,
        stream: Stream | None = None,
    ) -> None:
        self.client = client
        self.stream = stream or client.stream(topics, urls=urls, encoding=encoding, conflate=conflate)
        self.mirror = Mirror(after_seq=after_seq)
        self.disconnects: list[str] = []
        self.repeats = self.disorder = 0
        self._came: set[tuple[str, int]] = set()
        self._newest = ("", 0)
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._reader = asyncio.create_task(self._read(), name="checking client")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._reader is not None
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self.stream.close()

    async def until(self, condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
        """Wait for something of the mirror or the counters. Raises AssertionError, or what ended the reader."""
        try:
            async with asyncio.timeout(deadline_s):
                while not condition():
                    self._still_reads()
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"it did not happen: {what}; {self.report()}") from None

    async def settled(self, deadline_s: float = DEADLINE_S) -> Report:
        """Wait until the mirror equals the service, which must be quiet by then, or the deadline has come."""
        differences = ["never compared"]
        try:
            async with asyncio.timeout(deadline_s):
                while differences:
                    self._still_reads()
                    await asyncio.sleep(0.1)
                    if not self.mirror.needs_heal:
                        differences = await self._compared()
        except TimeoutError:
            pass
        return self.report(differences)

    def report(self, differences: list[str] | None = None) -> Report:
        counters = self.stream.counters
        return Report(
            applied=self.mirror.counters.applied,
            connects=counters.connects,
            resumed=counters.resumed,
            gaps=counters.gaps,
            untold_gaps=counters.untold_gaps,
            repeats=self.repeats + self.mirror.counters.duplicates,
            disorder=self.disorder,
            duplicates_dropped=counters.duplicates,
            heals=self.mirror.counters.heals,
            differences=differences or [],
        )

    async def differences(self) -> list[str]:
        """What the service says otherwise than the mirror, topic by topic."""
        trading, mirror = self.client.trading, self.mirror
        after = mirror._after_seq or 0
        told: dict[str, tuple[dict[Any, Event], dict[Any, Event]]] = {
            "active order": (mirror.active_orders, await _by("vt_orderid", trading.orders(active=True))),
            "order": (
                {name: order for name, order in mirror.orders.items() if order.seq > after},
                await _by("vt_orderid", trading.orders(after_seq=after)),
            ),
            "trade": (dict(mirror.trades), await _by("seq", trading.trades(after_seq=after))),
            "position": (mirror.positions, await _by("vt_positionid", trading.positions())),
            "account": (mirror.accounts, await _by("vt_accountid", trading.accounts())),
            "tick": (mirror.ticks, await _by("vt_symbol", trading.ticks())),
        }
        return [line for kind, (ours, theirs) in told.items() for line in _differences(kind, ours, theirs)]

    async def _compared(self) -> list[str]:
        try:
            return await self.differences()
        except CoreError as error:
            return [f"cannot be compared: {error.detail}"]

    def _still_reads(self) -> None:
        if self._reader is not None and self._reader.done():
            self._reader.result()
            raise AssertionError("the stream ended")

    async def _read(self) -> None:
        async for message in self.stream:
            self._check(message)
            self.mirror.apply(message)
            if self.mirror.needs_heal:
                await self._heal()

    async def _heal(self) -> None:
        while self.mirror.needs_heal:
            try:
                await self.mirror.heal(self.client)
            except TryLater:
                await asyncio.sleep(HEAL_PAUSE_S)

    def _check(self, message: StreamMessage) -> None:
        """By itself, not by what the stream and the mirror count."""
        match message:
            case Disconnected():
                self.disconnects.append(message.reason)
            case Subscribed(resumed=resumed) if resumed is not True:
                self._newest = (message.epoch, 0)
                self._came.clear()  # it begins anew, and may rightly tell what was told before
            case Update(prev_seq=int()):
                place = (message.epoch, message.seq)
                self.repeats += place in self._came
                self.disorder += place[0] == self._newest[0] and place[1] < self._newest[1]
                self._came.add(place)
                self._newest = place
            case Connected() | _:
                pass


async def _by(name: str, items: AsyncIterator[Any]) -> dict[Any, Event]:
    return {getattr(item, name): item async for item in items}


def _differences(kind: str, ours: dict[Any, Any], theirs: dict[Any, Any]) -> list[str]:
    found = [f"{kind} {key} is missing" for key in theirs.keys() - ours.keys()]
    found += [f"{kind} {key} should not be there" for key in ours.keys() - theirs.keys()]
    for key in ours.keys() & theirs.keys():
        if _content(ours[key]) != _content(theirs[key]):
            found.append(f"{kind} {key}: {ours[key]} instead of {theirs[key]}")
    return sorted(found)


def _content(event: Event) -> Event:
    """An order and a trade with their seq; of the rest the seq only says when it was told."""
    if isinstance(event, Order | Trade) or not hasattr(event, "seq"):
        return event
    return msgspec.structs.replace(event, seq=0)
