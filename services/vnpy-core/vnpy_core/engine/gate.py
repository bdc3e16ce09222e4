"""The intent gate: the one place below every patch of MainEngine through which an order reaches a venue.

It wraps each gateway's `send_order` and `send_quote` on the instance. Nothing passes during a halt, while a gateway is
not reconciled or while the journal cannot be written; what passes was journaled as an intent first.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from functools import partial
from typing import Any

from vnpy.trader.constant import Exchange

from vnpy_core.bus import records
from vnpy_core.domain import enums
from vnpy_core.domain.books import Intent
from vnpy_core.domain.commands import SubmitOrder
from vnpy_core.domain.enums import IntentState
from vnpy_core.domain.errors import (
    CoreError,
    GatewayNotReconciled,
    JournalFailed,
    OrderDenied,
    RequestError,
    RiskDenied,
    StorageFull,
    TradingHalted,
    TryLater,
    describe,
)
from vnpy_core.domain.events import Halt, OrderIntent, QuoteIntent
from vnpy_core.engine.sequencer import STRATEGY_REFERENCE
from vnpy_core.engine.stage import STALL_S, Stage
from vnpy_core.kit.failpoints import hit
from vnpy_core.ports.clock import Clock


class Origin:
    """The command behind the next send of this thread: its name, and its intent where that is durable already."""

    __slots__ = ("client_order_id", "intent", "sent")

    def __init__(self, client_order_id: str, intent: OrderIntent | None = None) -> None:
        self.client_order_id = client_order_id
        self.intent = intent
        self.sent = 0

    def next_id(self) -> str:
        """Where one command is sent in parts, the first carries its name."""
        self.sent += 1
        return self.client_order_id if self.sent == 1 else f"{self.client_order_id}.{self.sent}"


class IntentGate:
    """Any thread may call."""

    def __init__(
        self,
        stage: Stage,
        clock: Clock,
        *,
        new_id: Callable[[], str],
        reconciliation: Callable[[str], str],
        write_log: Callable[[str, str], None],
        require_account: Callable[[str], None] = lambda gateway_name: None,
        tell_strategy: Callable[[str, str], None] = lambda strategy_name, text: None,
    ) -> None:
        """`reconciliation(gateway_name)` says why a gateway may not be traded through yet, "" where it may;
        `write_log(text, gateway_name)` tells those who only see VnPy's log why they got "";
        `require_account(gateway_name)` raises TradingHalted where another core trades the gateway's account;
        `tell_strategy(strategy_name, text)` puts a line into the log of the strategy whose order was refused.
        """
        self.halts: dict[str, Halt] = {}
        """In force now, by what they are about; read and replaced as a whole."""
        self._stage = stage
        self._clock = clock
        self._new_id = new_id
        self._reconciliation = reconciliation
        self._write_log = write_log
        self._require_account = require_account
        self._tell_strategy = tell_strategy
        self._local = threading.local()
        self._wrapped: dict[tuple[str, type], tuple[Any, dict[str, Any]]] = {}
        """By name and class, so that a gateway that was made anew takes the place of the closed one."""
        self._undo: list[Callable[[], None]] = []
        self._is_gone = False

    # --- installing ---

    def install(self, gateway: Any, gateway_name: str = "") -> None:
        """Wrap a gateway; again does nothing. An engine that takes orders itself (PaperAccount) is wrapped alike."""
        name = gateway_name or gateway.gateway_name
        place = (name, type(gateway))
        if place in self._wrapped and self._wrapped[place][0] is gateway:
            return
        own = {method: vars(gateway).get(method) for method in ("send_order", "send_quote")}
        self._wrapped[place] = (gateway, own)
        gateway.send_order = partial(self._send_order, name, gateway.send_order)
        if hasattr(gateway, "send_quote"):
            gateway.send_quote = partial(self._send_quote, name, gateway.send_quote)

    def uninstall(self) -> None:
        """Give every gateway its own methods back. Who still holds one of ours reaches the gateway by it."""
        self._is_gone = True
        for gateway, own in self._wrapped.values():
            for name, before in own.items():
                if before is None:
                    vars(gateway).pop(name, None)
                else:
                    setattr(gateway, name, before)
        self._wrapped.clear()
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()

    def install_paper_account(self, main_engine: Any) -> None:
        """PaperAccount takes the place of MainEngine's and of every gateway's `send_order`: it is the venue then."""
        engine = main_engine.engines.get("PaperAccount")
        if engine is None or any(engine is wrapped for wrapped, _ in self._wrapped.values()):
            return
        originals = {name: getattr(engine, name) for name in ("send_order", "send_quote")}
        self.install(engine, sys.modules[type(engine).__module__].GATEWAY_NAME)
        # Whoever took hold of its methods before: MainEngine itself, and RiskManager where it was loaded later.
        for holder in (main_engine, *main_engine.engines.values()):
            for attribute, value in list(vars(holder).items()):
                for name, original in originals.items():
                    if holder is not engine and value == original:
                        setattr(holder, attribute, getattr(engine, name))
                        self._undo.append(partial(setattr, holder, attribute, original))

    # --- commands ---

    @contextmanager
    def sending(self, origin: Origin) -> Iterator[None]:
        """What this thread sends inside is sent for `origin`."""
        self._local.origin = origin
        try:
            yield
        finally:
            self._local.origin = None

    def take_refusal(self) -> CoreError | None:
        """Why the last order sent from this thread was refused here, once; None when it was not."""
        refusal: CoreError | None = getattr(self._local, "refusal", None)
        self._local.refusal = None
        return refusal

    def intent_of(self, command: SubmitOrder) -> OrderIntent:
        """What `command` is about to send."""
        return OrderIntent(
            client_order_id=command.client_order_id,
            gateway_name=command.gateway_name,
            vt_symbol=f"{command.symbol}.{Exchange[command.exchange].value}",
            symbol=command.symbol,
            exchange=command.exchange,
            direction=command.direction,
            offset=command.offset,
            type=command.type,
            price=command.price,
            volume=command.volume,
            reference=command.reference,
            strategy_name=_strategy(command.reference),
            created_at=self._clock.now(),
        )

    def require_open(self, gateway_name: str) -> None:
        """Raises TradingHalted, GatewayNotReconciled, StorageFull or JournalFailed where no order may pass now."""
        for halt in self.halts.values():
            raise TradingHalted(f"trading is halted: {halt.reason or 'no reason given'}", scope=halt.scope, by=halt.by)
        self._require_account(gateway_name)
        if reason := self._reconciliation(gateway_name):
            raise GatewayNotReconciled(reason, reconciliation=f"/api/v1/trading/reconciliation#{gateway_name}")
        if refusal := self._stage.refusal:
            error = StorageFull if self._stage.is_full or "has been full" in refusal else JournalFailed
            raise error(f"no order is taken: {refusal}")

    def journal(self, intent: Intent) -> Future[int]:
        """Begin to make an intent durable."""
        kind = records.ORDER_INTENT if isinstance(intent, OrderIntent) else records.QUOTE_INTENT
        return self._stage.record(kind, intent.client_order_id, intent)

    def give_up(self, intent: Intent, error: CoreError) -> None:
        """Nothing was sent for this intent, and nothing will be."""
        self._stage.close_intent(intent, IntentState.DENIED, reason=error.detail)

    # --- the gateways' own calls ---

    def _send_order(self, gateway_name: str, send: Callable[..., str], request: Any, *rest: Any) -> str:
        if self._is_gone:
            return send(request, *rest)
        origin: Origin | None = getattr(self._local, "origin", None)
        name = origin.next_id() if origin else self._new_id()
        durable = origin.intent if origin and origin.sent == 1 else None
        intent = durable or self._order_intent(name, gateway_name, request)
        return self._pass(intent, partial(send, request, *rest), durable=durable is not None)

    def _send_quote(self, gateway_name: str, send: Callable[..., str], request: Any, *rest: Any) -> str:
        if self._is_gone:
            return send(request, *rest)
        intent = self._quote_intent(self._new_id(), gateway_name, request)
        return self._pass(intent, partial(send, request, *rest), durable=False)

    def _pass(self, intent: Intent, send: Callable[[], str], *, durable: bool) -> str:
        self._local.refusal = None
        try:
            self.require_open(intent.gateway_name)
            _require_finite(intent)
            if not durable:
                self._make_durable(intent)
                durable = True
                self.require_open(intent.gateway_name)
        except (OrderDenied, TryLater) as error:
            if durable:
                self.give_up(intent, error)
            return self._refuse(intent, error)
        return self._call(intent, send)

    def _make_durable(self, intent: Intent) -> None:
        ticket = self.journal(intent)
        try:
            ticket.result(STALL_S)
        except (FutureTimeout, CoreError) as error:
            if isinstance(error, FutureTimeout):
                self._stage.note_slow()
                error = JournalFailed(f"the journal did not commit within {STALL_S * 1000:.0f} ms")
            self.give_up(intent, error)
            raise error from None
        except BaseException:  # a callback that hangs is ended so
            self.give_up(intent, JournalFailed("its sender was ended before anything was sent"))
            raise

    def _call(self, intent: Intent, send: Callable[[], str]) -> str:
        call = self._stage.begin_call(intent)
        venue_id, refusal = "", ""
        try:
            hit("gate.before_send")
            venue_id = send() or ""
            refusal = "" if venue_id else "the gateway took no order"
        except (OrderDenied, TryLater, RequestError) as error:  # one of our own gateways: it sent nothing
            refusal = describe(error)
            raise
        finally:
            hit("gate.after_send")
            # Whatever else it raised, the order may have reached the venue before.
            self._stage.end_call(call, venue_id, unknown=not venue_id and not refusal)
            if refusal and not call.venue_id:
                self._stage.close_intent(intent, IntentState.REFUSED, reason=refusal)
        return venue_id

    def _refuse(self, intent: Intent, error: CoreError) -> str:
        self._local.refusal = error
        words = f"{intent.vt_symbol}: not sent: {describe(error)}"
        self._write_log(f"vnpy_core: {words}", intent.gateway_name)
        if name := getattr(intent, "strategy_name", None):
            self._tell_strategy(name, words)
        return ""

    def _order_intent(self, client_order_id: str, gateway_name: str, request: Any) -> OrderIntent:
        return OrderIntent(
            client_order_id=client_order_id,
            gateway_name=gateway_name,
            vt_symbol=request.vt_symbol,
            symbol=request.symbol,
            exchange=request.exchange.name,
            direction=enums.Direction[request.direction.name],
            offset=enums.Offset[request.offset.name],
            type=enums.OrderType[request.type.name],
            price=float(request.price),
            volume=float(request.volume),
            reference=request.reference,
            strategy_name=_strategy(request.reference),
            created_at=self._clock.now(),
        )

    def _quote_intent(self, client_order_id: str, gateway_name: str, request: Any) -> QuoteIntent:
        return QuoteIntent(
            client_order_id=client_order_id,
            gateway_name=gateway_name,
            vt_symbol=request.vt_symbol,
            symbol=request.symbol,
            exchange=request.exchange.name,
            bid_price=float(request.bid_price),
            bid_volume=float(request.bid_volume),
            ask_price=float(request.ask_price),
            ask_volume=float(request.ask_volume),
            reference=request.reference,
            created_at=self._clock.now(),
        )


def _require_finite(intent: Intent) -> None:
    """A number that is none passes every comparison of a rule."""
    for name in intent.__struct_fields__:
        value = getattr(intent, name)
        if isinstance(value, float) and not math.isfinite(value):
            raise RiskDenied(f"the {name} is not a finite number", rule="FiniteNumbers")


def _strategy(reference: str) -> str | None:
    return reference.removeprefix(STRATEGY_REFERENCE) if reference.startswith(STRATEGY_REFERENCE) else None
