"""Who trades an account: at most one core of those that share a registry.

A core holds a lease on each account that its gateways show and renews it three times while it lasts. An order passes
while the lease is ours. Where another core holds it none passes; where nobody has looked yet none passes, for the
milliseconds that takes. Redis must not stop trading: while the registry does not answer, what was last known holds, and
an account that nobody is known to hold may be traded.

What a lease cannot do is call back an order that has passed the gate: a process that is stopped between the gate and
the venue sends when it goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
import structlog

from vnpy_core.bus import topics
from vnpy_core.bus.message import Message
from vnpy_core.domain.enums import GatewayState
from vnpy_core.domain.errors import CoreError, RegistryUnavailable, TradingHalted, describe
from vnpy_core.domain.events import Account, Gateway
from vnpy_core.features.nodes.timing import CLOSE_S, RENEWALS, pause
from vnpy_core.kit.retry import Wait, wait_for_event
from vnpy_core.kit.tasks import BackgroundTasks
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.registry import Registry

TOPICS = (topics.ACCOUNT_UPDATED, topics.GATEWAY_UPDATED)
"""What `take` is to be subscribed to."""
_AWAY = (GatewayState.DISCONNECTED, GatewayState.FAILED)

V = TypeVar("V")

_log = structlog.get_logger(__name__)


class _Lease(msgspec.Struct, frozen=True):
    """What is known of one account. Times are monotonic seconds."""

    holder: str = ""
    """Empty: nobody has looked yet."""
    held_from: float = 0.0
    """When we last began to ask and were told that it is ours: until a lease later nobody else can have it."""
    slept: bool = False
    """Ours when we last looked, but then this process stood still: another may have come and gone."""


class AccountLeases:
    """Loop thread only, but for `require`. One task renews, `close` ends it."""

    def __init__(
        self,
        registry: Registry,
        clock: Clock,
        *,
        owner: str,
        lease_s: float,
        scope: Callable[[str], str],
        reconcile: Callable[[str], Awaitable[None]],
        wait: Wait = wait_for_event,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`scope(gateway_name)`: within what its accounts' names are unique (the gateway's class); empty for a gateway
        whose accounts nobody else can reach. Any thread. `reconcile(gateway_name)` compares a gateway with its venue
        and returns when that is done; raises CoreError.
        """
        self._registry = registry
        self._clock = clock
        self._owner = owner
        self._lease_s = lease_s
        self._scope = scope
        self._reconcile = reconcile
        self._wait = wait
        self._jitter = jitter
        # Replaced as a whole, because other threads read them.
        self._accounts: dict[str, frozenset[str]] = {}
        """Gateway -> the leases it needs."""
        self._leases: dict[str, _Lease] = {}
        self._unchecked: dict[str, int] = {}
        """Gateways whose account came back to us and that were not reconciled since, each with the count of returns."""
        self._looked_at = clock.monotonic()
        """When the last look at the registry ended, whatever it found; long ago means that this process stood still."""
        self._away = ""
        """Why the last look failed."""
        self._states: dict[str, GatewayState] = {}
        self._returns = 0
        self._woken = asyncio.Event()
        self._stop = asyncio.Event()
        self._tasks = BackgroundTasks()
        self._task: asyncio.Task[None] | None = None

    # --- what others ask ---

    def require(self, gateway_name: str) -> None:
        """Raises TradingHalted where this gateway's account is another's, or may be. Any thread."""
        if not self._scope(gateway_name):
            return
        names = self._accounts.get(gateway_name)
        if not names:
            raise _refusal(
                f"gateway {gateway_name} has shown no account yet, so it is not known whether another core trades it"
            )
        now = self._clock.monotonic()
        stalled = now - self._looked_at > self._lease_s
        for name in names:
            lease = self._leases.get(name, _Lease())
            if lease.holder not in ("", self._owner):
                raise _refusal(_lost(name, lease), by=lease.holder)
            is_ours = lease.holder == self._owner and not lease.slept and now - lease.held_from < self._lease_s
            if not is_ours and (stalled or not self._away):
                raise _refusal(f"it is not decided yet which core trades {_account(name)}")
        if gateway_name in self._unchecked:
            raise _refusal(f"the account of gateway {gateway_name} came back to this core and is being reconciled")

    @property
    def problem(self) -> str:
        """What an operator should know; empty when all is well."""
        problems = [_lost(name, lease) for name, lease in self._leases.items() if self._is_lost(lease)]
        if self._away:
            problems.append(f"trading goes on without account leases: {self._away}")
        problems += [f"the account of gateway {name} came back and is being reconciled" for name in self._unchecked]
        return "; ".join(problems)

    def holders(self) -> dict[str, str]:
        """Lease -> who holds it, as last seen; empty where nobody has looked yet."""
        return {name: lease.holder for name, lease in self._leases.items()}

    # --- what it is told ---

    def take(self, message: Message) -> None:
        """Learn accounts and connections; a subscriber of the bus for `TOPICS`."""
        match message.data:
            case Account(gateway_name=gateway_name, accountid=accountid):
                scope = self._scope(gateway_name)
                known = self._accounts.get(gateway_name, frozenset())
                if scope and (name := f"account:{scope}:{accountid}") not in known:
                    self._accounts = {**self._accounts, gateway_name: known | {name}}
                    self._woken.set()
            case Gateway(gateway_name=gateway_name, state=state) if self._states.get(gateway_name) is not state:
                self._states[gateway_name] = state
                if state is GatewayState.CONNECTING:  # with perhaps another account; it reconciles by itself
                    self._accounts = _without(self._accounts, gateway_name)
                    self._unchecked = _without(self._unchecked, gateway_name)
                self._woken.set()
            case _:
                pass

    def start(self) -> None:
        """Begin to renew."""
        self._task = asyncio.create_task(self._run(), name="account leases")

    async def close(self) -> None:
        """Give back what is ours: after trading has come to rest. Does not raise; waits 2 s at most."""
        self._stop.set()
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait({self._task})
        await self._tasks.cancel()
        ours = [name for name, lease in self._leases.items() if lease.holder == self._owner]
        self._leases = {}
        with contextlib.suppress(RegistryUnavailable, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                for name in ours:
                    await self._registry.release(name, self._owner)

    # --- the task ---

    async def _run(self) -> None:
        while not self._stop.is_set():
            self._woken.clear()
            began = self._clock.monotonic()
            self._doubt(began - self._looked_at)
            away = await self._look()
            self._looked_at = self._clock.monotonic()
            self._doubt(self._looked_at - began)
            self._say(away)
            await self._wait(self._woken, pause(self._lease_s, self._jitter()))

    def _wanted(self) -> set[str]:
        """A gateway that is connected no more needs none: its leases run out."""
        connected = (names for gateway, names in self._accounts.items() if self._states.get(gateway) not in _AWAY)
        return set().union(*connected)

    def _doubt(self, passed: float) -> None:
        """Where nobody looked for as long as a lease lasts, what was ours may have been another's meanwhile."""
        if passed > self._lease_s:
            self._leases = {
                name: msgspec.structs.replace(lease, slept=True) if lease.holder == self._owner else lease
                for name, lease in self._leases.items()
            }

    async def _look(self) -> str:
        """Take or renew all that is wanted; why the registry could not be asked, or ""."""
        wanted, now = self._wanted(), self._clock.monotonic()
        # What runs out is forgotten: the next connect begins anew.
        kept = {n: lease for n, lease in self._leases.items() if n in wanted or now - lease.held_from < self._lease_s}
        self._leases = kept
        if not wanted:
            return ""
        try:
            # So that the next look ends before a lease has passed since this one: `require` relies on it.
            async with asyncio.timeout(self._lease_s / RENEWALS):
                await self._registry.open()
                for name in sorted(wanted):
                    asked_at = self._clock.monotonic()
                    self._note(name, await self._registry.hold(name, self._owner, self._lease_s), asked_at)
        except RegistryUnavailable as error:
            return describe(error)
        except TimeoutError:
            return "the registry does not answer in time"
        except Exception as error:  # noqa: BLE001 - a guarded door: whatever a driver raises must not stop trading
            _log.exception("the registry failed unexpectedly")
            return describe(error)
        return ""

    def _note(self, name: str, holder: str, asked_at: float) -> None:
        before = self._leases.get(name, _Lease())
        if holder == self._owner:
            if self._is_lost(before) or before.slept:
                self._came_back(name, before)  # before the lease is shown as ours
            self._leases = {**self._leases, name: _Lease(holder, asked_at)}
        else:
            if before.holder != holder:
                _log.error("another core trades this account; orders are refused here", lease=name, holder=holder)
            self._leases = {**self._leases, name: _Lease(holder)}

    def _say(self, away: str) -> None:
        if away and not self._away:
            _log.warning("the registry is away; trading goes on by what was last known of the accounts", detail=away)
        elif self._away and not away:
            _log.info("the registry is back; account leases are renewed")
        self._away = away

    def _is_lost(self, lease: _Lease) -> bool:
        return lease.holder not in ("", self._owner)

    def _gateways_of(self, name: str) -> list[str]:
        return [gateway_name for gateway_name, names in self._accounts.items() if name in names]

    # --- an account that comes back ---

    def _came_back(self, name: str, before: _Lease) -> None:
        _log.warning("an account came back to this core; it is reconciled first", lease=name, held_by=before.holder)
        for gateway_name in self._gateways_of(name):
            self._returns += 1
            self._unchecked = {**self._unchecked, gateway_name: self._returns}
            self._tasks.spawn(self._check(gateway_name, self._returns), f"reconcile {gateway_name}")

    async def _check(self, gateway_name: str, turn: int) -> None:
        # Who had it may not know yet that it has it no more, and sends until its next look: within a lease.
        await self._wait(self._stop, self._lease_s)
        if self._stop.is_set() or self._unchecked.get(gateway_name) != turn:
            return
        try:
            await self._reconcile(gateway_name)
        except CoreError as error:  # the gate keeps a gateway closed that is not reconciled
            _log.error("an account that came back is not reconciled", gateway_name=gateway_name, detail=describe(error))
        except Exception:  # noqa: BLE001 - a guarded door: or nobody would ever let the gateway trade again
            _log.exception("an account that came back could not be reconciled", gateway_name=gateway_name)
        if self._unchecked.get(gateway_name) == turn:  # it was not lost and won once more
            self._unchecked = _without(self._unchecked, gateway_name)
            _log.info("the account that came back may be traded again", gateway_name=gateway_name)


def _account(name: str) -> str:
    return name.replace(":", " ", 1)


def _lost(name: str, lease: _Lease) -> str:
    return f"another core, {lease.holder}, trades {_account(name)}"


def _refusal(reason: str, by: str = "") -> TradingHalted:
    return TradingHalted(reason, scope="gateway", by=by)


def _without(mapping: dict[str, V], name: str) -> dict[str, V]:
    return {other: value for other, value in mapping.items() if other != name}
