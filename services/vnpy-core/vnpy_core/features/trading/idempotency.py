"""Send once, however often the request comes: what every client_order_id was used for and how it ended.

One name space for all callers, because `GET /orders/by-client-id` is one too: a key that another principal used for
another order is refused, never shared.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import msgspec

from vnpy_core.domain.commands import SubmittedOrder
from vnpy_core.domain.errors import IdempotencyMismatch, OrderDenied, OutcomeUnknown, RequestError, TryLater
from vnpy_core.features.trading.orders import OrderRequest
from vnpy_core.ports.clock import Clock

REMEMBERED = 100_000
"""Newest keys kept."""

Outcome = SubmittedOrder | OutcomeUnknown
"""How a request that reached the engine ended: the order, or that nobody knows yet."""


class Answer(msgspec.Struct, frozen=True):
    """The outcome of a request, and whether an earlier request with the same key caused it."""

    outcome: Outcome
    replayed: bool


class _Use:
    """One use of a key: under way while `running` is there, done once `outcome` is."""

    __slots__ = ("outcome", "request", "running")

    def __init__(self, request: OrderRequest) -> None:
        self.request = request
        self.running: asyncio.Task[Outcome] | None = None
        self.outcome: Outcome | None = None


class OrderKeys:
    """Loop thread only. Keeps the newest `capacity` keys, in memory.

    Remembered are requests that sent something or may have: an order, OUTCOME_UNKNOWN, and a fault of our own. A
    denial (RISK_DENIED, GATEWAY_NOT_CONNECTED, OVERLOADED, …) sent nothing and frees the key for another try.
    """

    def __init__(self, capacity: int = REMEMBERED) -> None:
        self._capacity = capacity
        self._uses: OrderedDict[str, _Use] = OrderedDict()

    def __contains__(self, key: str) -> bool:
        return key in self._uses

    def is_unknown(self, key: str) -> bool:
        """Whether it ended so that nobody knew what became of it."""
        return key in self._uses and isinstance(self._uses[key].outcome, OutcomeUnknown)

    def free(self, key: str) -> None:
        """Evidence came that nothing was sent: the key may be tried again."""
        del self._uses[key]

    async def once(self, key: str, request: OrderRequest, submit: Callable[[], Awaitable[SubmittedOrder]]) -> Answer:
        """`submit()` at the first use of `key`; the first use's outcome at every later one, waiting for it if need be.

        The submission runs in a task of its own, so a caller that goes away neither stops it nor takes it from those
        who wait. Raises IdempotencyMismatch where `key` stands for another request, and what `submit` raises.
        """
        use = self._uses.get(key)
        if use is None:
            return Answer(await asyncio.shield(self._start(key, request, submit)), replayed=False)
        if use.request != request:
            raise IdempotencyMismatch(f"{key!r} was used for another order request")
        if use.outcome is not None:
            return Answer(use.outcome, replayed=True)
        assert use.running is not None
        return Answer(await asyncio.shield(use.running), replayed=True)

    def _start(
        self, key: str, request: OrderRequest, submit: Callable[[], Awaitable[SubmittedOrder]]
    ) -> asyncio.Task[Outcome]:
        use = self._uses[key] = _Use(request)
        use.running = asyncio.create_task(self._run(key, use, submit))
        if len(self._uses) > self._capacity:
            self._uses.popitem(last=False)
        return use.running

    async def _run(self, key: str, use: _Use, submit: Callable[[], Awaitable[SubmittedOrder]]) -> Outcome:
        try:
            use.outcome = await submit()
        except OutcomeUnknown as unknown:
            # A fresh one without a traceback: it may be kept for long.
            known = {"client_order_id": key} | unknown.extra
            use.outcome = OutcomeUnknown(unknown.detail, errors=unknown.errors, **known)
        except (RequestError, OrderDenied, TryLater):
            if self._uses.get(key) is use:
                del self._uses[key]
            raise
        use.running = None
        return use.outcome


def sortable_ids(clock: Clock) -> Callable[[], str]:
    """A maker of ids of 32 hex digits that sort by the millisecond they were made in. Any thread."""

    def make() -> str:
        return f"{int(clock.now().timestamp() * 1000):012x}{secrets.token_hex(10)}"

    return make
