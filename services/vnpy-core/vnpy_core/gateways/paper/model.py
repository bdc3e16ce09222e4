"""The words of the paper venue, shared by its market feeds, its matching engine and its gateway.

Market data is float as it came; money and volumes of orders, fills and accounts are Decimal.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Protocol

import msgspec

from vnpy_core.domain.enums import Direction, Offset, OrderType, Product, Status

Level = tuple[float, float]
"""(price, displayed volume)"""


class Snapshot(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One market data snapshot. Levels are best first and only those that the recording shows (0 to 5)."""

    symbol: str
    exchange: str
    time: datetime
    """The venue's time, aware, in UTC."""
    trading_day: date
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    last_price: float = 0.0
    last_volume: float = 0.0
    volume: float = 0.0
    turnover: float = 0.0
    open_interest: float = 0.0
    limit_up: float = 0.0
    limit_down: float = 0.0
    open_price: float = 0.0
    high_price: float = 0.0
    low_price: float = 0.0
    pre_close: float = 0.0

    @property
    def vt_symbol(self) -> str:
        """VnPy's name of the contract."""
        return f"{self.symbol}.{self.exchange}"


class ContractSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What `contracts.toml` says of one contract.

    Fees are `fee_rate` x turnover plus `fee_per_lot` x volume, with their own values for closing today's position.
    `slippage` is in price ticks against the taker. `net_position` is the crypto way: one signed position, no offsets.
    """

    symbol: str
    exchange: str
    name: str
    product: Product
    size: Decimal
    pricetick: Decimal
    min_volume: Decimal = Decimal(1)
    max_volume: Decimal | None = None
    net_position: bool = False
    margin_rate: Decimal = Decimal("0.1")
    fee_rate: Decimal = Decimal(0)
    fee_per_lot: Decimal = Decimal(0)
    close_today_fee_rate: Decimal | None = None
    close_today_fee_per_lot: Decimal | None = None
    slippage: int = 0

    @property
    def vt_symbol(self) -> str:
        """VnPy's name of the contract."""
        return f"{self.symbol}.{self.exchange}"

    @property
    def close_today_separately(self) -> bool:
        """SHFE and INE tell closing today's position from closing yesterday's."""
        return self.exchange in ("SHFE", "INE")


class NewOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A request as the gateway hands it over."""

    symbol: str
    exchange: str
    direction: Direction
    offset: Offset
    type: OrderType
    volume: float
    price: float
    reference: str = ""

    def writable(self) -> NewOrder:
        """Itself, but for lone surrogates, as in text cut in two, which cannot be written as UTF-8."""
        texts = (self.symbol, self.exchange, self.reference)
        if all(text.isascii() for text in texts):
            return self
        symbol, exchange, reference = (text.encode(errors="replace").decode() for text in texts)
        return msgspec.structs.replace(self, symbol=symbol, exchange=exchange, reference=reference)


class VenueOrder(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag=True):
    """An order's state at the venue."""

    orderid: str
    symbol: str
    exchange: str
    direction: Direction
    offset: Offset
    type: OrderType
    price: Decimal
    volume: Decimal
    traded: Decimal
    status: Status
    reason: str
    reference: str
    time: datetime
    triggered: bool = False
    """A stop whose price was reached; it takes what it can get from then on."""
    number: int = 0
    """Which of the venue's orders it is, from 1 on: times may be equal, and ids may be the client's."""


class VenueTrade(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag=True):
    """One fill at the venue."""

    tradeid: str
    orderid: str
    symbol: str
    exchange: str
    direction: Direction
    offset: Offset
    price: Decimal
    volume: Decimal
    fee: Decimal
    time: datetime


class VenuePosition(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag=True):
    """A holding. LONG and SHORT apart for futures, one NET with signed volume where the contract nets."""

    symbol: str
    exchange: str
    direction: Direction
    volume: Decimal
    yd_volume: Decimal
    frozen: Decimal
    price: Decimal
    """Average open price."""
    pnl: Decimal
    """Unrealised, at the last price."""


class VenueAccount(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag=True):
    """Funds: `balance` is equity (cash + unrealised), `frozen` margin held and reserved by orders."""

    accountid: str
    balance: Decimal
    frozen: Decimal
    available: Decimal


VenueEvent = VenueOrder | VenueTrade | VenuePosition | VenueAccount


class Venue(Protocol):
    """The matching engine. One thread at a time; calls return the events they caused, in order.

    Time is the feed's: `on_snapshot` moves it; between snapshots it stands still.
    """

    def place(self, order: NewOrder, orderid: str = "") -> tuple[str, list[VenueEvent]]:
        """Take an order; returns its orderid and what happened (at least its first state, maybe REJECTED).

        `orderid` is the client's own name for it, with a `-` to differ from the venue's; "" lets the venue name it.
        One that is known already is never a second order: the answer is the known one as it stands.
        """
        ...

    def cancel(self, orderid: str) -> list[VenueEvent]:
        """Cancel an active order; an unknown or finished one gives no event."""
        ...

    def on_snapshot(self, snapshot: Snapshot) -> list[VenueEvent]:
        """The market moved: match what rests, trigger stops, mark positions; then it is the current book."""
        ...

    def orders(self) -> list[VenueOrder]:
        """All orders of the ledger, oldest first."""
        ...

    def trades(self) -> list[VenueTrade]:
        """All fills of the ledger, oldest first."""
        ...

    def positions(self) -> list[VenuePosition]:
        """Current holdings."""
        ...

    def account(self) -> VenueAccount:
        """Current funds."""
        ...
