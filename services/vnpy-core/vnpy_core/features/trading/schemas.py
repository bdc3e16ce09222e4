"""Wire models of trading: what a request may hold, and examples of what comes back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

import msgspec
from pydantic import BaseModel, ConfigDict, Field, model_validator

from vnpy_core.domain.commands import SubmittedOrder
from vnpy_core.domain.enums import IntentState, Offset, OrderType, Product
from vnpy_core.domain.events import Order, Tick
from vnpy_core.domain.symbols import vt_symbol
from vnpy_core.features.trading.listing import StateFilter
from vnpy_core.features.trading.orders import ABSURD, OrderRequest
from vnpy_core.ports.store import OrderQuery, SeqKey, TradeQuery
from vnpy_core.web.inputs import DirectionInput, FiniteFloat, OffsetInput, OrderTypeInput, StatusInput, Time
from vnpy_core.web.problems import responses

VT_SYMBOL_PATTERN = r"^[^\x00-\x1f\x7f]{1,64}\.[A-Za-z0-9_]{1,32}$"
NAME_PATTERN = r"^[^\x00-\x1f\x7f/]{1,128}$"
CLIENT_ORDER_ID_PATTERN = r"^[\x21-\x7e]{1,64}$"

VtSymbol = Annotated[str, Field(pattern=VT_SYMBOL_PATTERN, description="`symbol.exchange`", examples=["rb2505.SHFE"])]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
ClientOrderId = Annotated[str, Field(pattern=CLIENT_ORDER_ID_PATTERN)]
Volume = Annotated[
    FiniteFloat,
    Field(
        gt=0,
        le=ABSURD,
        description="Lots (or coins): a multiple of `min_volume`",
        json_schema_extra={"exclusiveMinimum": 0, "maximum": ABSURD},  # FiniteFloat keeps them from the document
    ),
]
Price = Annotated[
    FiniteFloat,
    Field(
        ge=-ABSURD,
        le=ABSURD,
        description="A multiple of `pricetick`, above 0 except for a SPREAD; MARKET needs none",
        json_schema_extra={"minimum": -ABSURD, "maximum": ABSURD},
    ),
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# Requests


class ConnectBody(_Strict):
    """The gateway's own setting; what is left out stays as it was set before, or at the gateway's default."""

    setting: dict[str, str | int | FiniteFloat | bool] = Field(
        default_factory=dict, max_length=100, examples=[{"用户名": "000001", "密码": "…"}]
    )


class SubscribeBody(_Strict):
    """A contract whose ticks are wanted."""

    vt_symbol: VtSymbol
    gateway_name: Name | None = Field(default=None, description="May be left out where one gateway offers it")


class OrderBody(_Strict):
    """An order: `vt_symbol`, or `symbol` and `exchange`."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"required": ["vt_symbol"]}, {"required": ["symbol", "exchange"]}],
            "examples": [
                {
                    "vt_symbol": "rb2505.SHFE",
                    "direction": "LONG",
                    "offset": "OPEN",
                    "type": "LIMIT",
                    "volume": 2,
                    "price": 3500,
                    "client_order_id": "my-order-1",
                }
            ],
        }
    )

    vt_symbol: VtSymbol | None = None
    symbol: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,64}$", examples=["rb2505"])] | None = None
    exchange: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,32}$", examples=["SHFE"])] | None = None
    direction: DirectionInput
    offset: OffsetInput = Offset.NONE
    type: OrderTypeInput = OrderType.LIMIT
    volume: Volume
    price: Price = 0.0
    gateway_name: Name | None = Field(default=None, description="May be left out where one gateway offers the contract")
    reference: str = Field(default="", max_length=128, description="Yours to use; comes back with the order")
    client_order_id: ClientOrderId | None = Field(
        default=None, description="Makes the request idempotent, as the header Idempotency-Key does"
    )

    @model_validator(mode="after")
    def _one_contract(self) -> Self:
        if (self.symbol is None) != (self.exchange is None):
            raise ValueError("symbol and exchange go together")
        if self.symbol is None and self.vt_symbol is None:
            raise ValueError("vt_symbol, or symbol and exchange, must be given")
        if self.symbol is not None and self.exchange is not None:
            named = vt_symbol(self.symbol, self.exchange)
            if self.vt_symbol not in (None, named):
                raise ValueError(f"vt_symbol {self.vt_symbol!r} is not {named}")
        return self

    def request(self) -> OrderRequest:
        """The order as the service takes it."""
        symbol, _, exchange = (self.vt_symbol or f"{self.symbol}.{self.exchange}").rpartition(".")
        return OrderRequest(
            symbol=symbol,
            exchange=exchange,
            direction=self.direction,
            offset=self.offset,
            type=self.type,
            volume=self.volume,
            price=self.price,
            gateway_name=self.gateway_name,
            reference=self.reference,
        )


class BatchBody(_Strict):
    """Orders to send one after another."""

    orders: list[OrderBody] = Field(min_length=1, max_length=500)


class CancelAllBody(_Strict):
    """Which active orders; nothing given means all of them."""

    vt_symbol: VtSymbol | None = None
    gateway_name: Name | None = None
    strategy_name: Name | None = None

    def wanted(self) -> OrderQuery:
        """What the service is asked for."""
        return OrderQuery(
            active=True,
            vt_symbol=self.vt_symbol,
            gateway_name=self.gateway_name,
            strategy_name=self.strategy_name,
        )


class RunBody(_Strict):
    """Which gateway; every connected one where none is named."""

    gateway_name: Name | None = None


class AcceptBody(_Strict):
    """A gateway to trade through although it differs, and why."""

    gateway_name: Name
    reason: str = Field(min_length=1, max_length=1024, examples=["the broker confirmed the position by phone"])


class ResolveBody(_Strict):
    """What became of an intent, and how that is known."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"state": "NOT_SENT", "evidence": "not in the broker's list of 2026-11-21"},
                {
                    "state": "BOUND",
                    "vt_orderid": "CTP.1_2_3",
                    "evidence": "the broker's order 3 has our price and time",
                },
            ]
        }
    )

    state: Literal[IntentState.BOUND, IntentState.NOT_SENT]
    vt_orderid: Name | None = Field(default=None, description="The venue's order; goes with BOUND")
    evidence: str = Field(min_length=1, max_length=4096)

    @model_validator(mode="after")
    def _order_where_bound(self) -> Self:
        if (self.state is IntentState.BOUND) != (self.vt_orderid is not None):
            raise ValueError("vt_orderid goes with BOUND, and only with it")
        return self


# Queries


class PageQuery(_Strict):
    """Which page."""

    limit: int = Field(default=100, ge=1, le=1000)
    cursor: str | None = Field(default=None, max_length=512, description="`next_cursor` of the page before")


class SeqQuery(PageQuery):
    """Which part of what has a `seq`."""

    vt_symbol: VtSymbol | None = None
    gateway_name: Name | None = None
    strategy_name: Name | None = None
    start: Time | None = Field(default=None, description="The venue's time; counts in")
    end: Time | None = Field(default=None, description="The venue's time; does not count in")
    after_seq: int | None = Field(default=None, ge=0, le=2**63 - 1, description="Only what has a higher `seq`")

    def first(self) -> SeqKey:
        """The key that the list begins after, where there is no cursor."""
        return (0, "") if self.after_seq is None else (self.after_seq + 1, "")


class OrdersQuery(SeqQuery):
    """Which orders."""

    active: bool | None = None
    status: StatusInput | None = None

    def wanted(self) -> OrderQuery:
        """What the service is asked for."""
        return OrderQuery(
            active=self.active,
            vt_symbol=self.vt_symbol,
            gateway_name=self.gateway_name,
            status=self.status,
            strategy_name=self.strategy_name,
            start=self.start,
            end=self.end,
        )


class TradesQuery(SeqQuery):
    """Which trades."""

    vt_orderid: Name | None = None

    def wanted(self) -> TradeQuery:
        """What the service is asked for."""
        return TradeQuery(
            vt_symbol=self.vt_symbol,
            gateway_name=self.gateway_name,
            vt_orderid=self.vt_orderid,
            strategy_name=self.strategy_name,
            start=self.start,
            end=self.end,
        )


class AccountsQuery(PageQuery):
    """Which accounts."""

    gateway_name: Name | None = None

    def wanted(self) -> StateFilter:
        """The filter of the service."""
        return StateFilter(gateway_name=self.gateway_name)


class PositionsQuery(PageQuery):
    """Which positions."""

    vt_symbol: VtSymbol | None = None
    gateway_name: Name | None = None

    def wanted(self) -> StateFilter:
        """The filter of the service."""
        return StateFilter(vt_symbol=self.vt_symbol, gateway_name=self.gateway_name)


class TicksQuery(PageQuery):
    """Which ticks."""

    vt_symbol: VtSymbol | None = None
    gateway_name: Name | None = None
    exchange: Name | None = None

    def wanted(self) -> StateFilter:
        """The filter of the service."""
        return StateFilter(vt_symbol=self.vt_symbol, gateway_name=self.gateway_name, exchange=self.exchange)


class ContractsQuery(TicksQuery):
    """Which contracts."""

    product: Product | None = None

    def wanted(self) -> StateFilter:
        """The filter of the service."""
        return StateFilter(
            vt_symbol=self.vt_symbol, gateway_name=self.gateway_name, exchange=self.exchange, product=self.product
        )


# Answers


class PlacedOrder(Order, frozen=True, gc=False, kw_only=True):
    """An order as the engine first knew it; `child_orders` lists the parts where closing was split, else nothing."""

    child_orders: tuple[Order, ...] = ()

    @classmethod
    def of(cls, submitted: SubmittedOrder) -> PlacedOrder:
        """The answer to a submission."""
        return cls(**msgspec.structs.asdict(submitted.order), child_orders=submitted.children)


class GatewayAccepted(msgspec.Struct, frozen=True):
    """The gateway begins; topic `gateway.updated` and `GET /gateways` show how it ends."""

    gateway_name: str


class CancelAccepted(msgspec.Struct, frozen=True):
    """The venue was asked; topic `order.updated` shows how it ends."""

    vt_orderid: str


class ReconciliationStarted(msgspec.Struct, frozen=True):
    """The comparison begins; `GET /reconciliation` shows how it ends. Null stands for every connected gateway."""

    gateway_name: str | None


class BatchItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The status that this order would have had alone, and its order or problem."""

    status: int
    order: PlacedOrder | None = None
    problem: dict[str, Any] | None = None


class BatchItemModel(BaseModel):
    """The status that this order would have had alone, and its `order` or its `problem`."""

    status: int
    order: dict[str, Any] | None = Field(default=None, description="As `POST /orders` answers")
    problem: dict[str, Any] | None = Field(default=None, description="As `POST /orders` answers")


class BatchModel(BaseModel):
    """One item for each order, in the request's order."""

    items: list[BatchItemModel]


ORDER_EXAMPLE: dict[str, Any] = {
    "vt_orderid": "PAPER.260101-1",
    "orderid": "260101-1",
    "client_order_id": "my-order-1",
    "gateway_name": "PAPER",
    "vt_symbol": "rb2505.SHFE",
    "symbol": "rb2505",
    "exchange": "SHFE",
    "direction": "LONG",
    "offset": "OPEN",
    "type": "LIMIT",
    "price": 3500.0,
    "volume": 2.0,
    "traded": 0.0,
    "status": "NOTTRADED",
    "reason": "",
    "reference": "",
    "strategy_name": None,
    "datetime": "2026-11-21T02:00:00.123456Z",
    "updated_at": "2026-11-21T02:00:00.130000Z",
    "seq": 1234,
}
TRADE_EXAMPLE: dict[str, Any] = {
    "vt_tradeid": "PAPER.260101-1",
    "tradeid": "260101-1",
    "vt_orderid": "PAPER.260101-1",
    "orderid": "260101-1",
    "gateway_name": "PAPER",
    "vt_symbol": "rb2505.SHFE",
    "symbol": "rb2505",
    "exchange": "SHFE",
    "direction": "LONG",
    "offset": "OPEN",
    "price": 3500.0,
    "volume": 1.0,
    "strategy_name": None,
    "datetime": "2026-11-21T02:00:00.123456Z",
    "seq": 1235,
}
POSITION_EXAMPLE: dict[str, Any] = {
    "vt_positionid": "PAPER.rb2505.SHFE.LONG",
    "vt_symbol": "rb2505.SHFE",
    "symbol": "rb2505",
    "exchange": "SHFE",
    "direction": "LONG",
    "volume": 3.0,
    "frozen": 0.0,
    "price": 3490.0,
    "pnl": 300.0,
    "yd_volume": 1.0,
    "gateway_name": "PAPER",
    "seq": 1236,
}
ACCOUNT_EXAMPLE: dict[str, Any] = {
    "vt_accountid": "PAPER.PAPER",
    "accountid": "PAPER",
    "balance": 1_000_300.0,
    "frozen": 10_500.0,
    "available": 989_800.0,
    "gateway_name": "PAPER",
    "seq": 1237,
}
GATEWAY_EXAMPLE: dict[str, Any] = {
    "gateway_name": "PAPER",
    "connected": True,
    "state": "CONNECTED",
    "exchanges": ["SHFE"],
    "default_setting": {"feed": "generated"},
    "capabilities": {},
    "message": "",
}
SUBSCRIPTION_EXAMPLE = {"vt_symbol": "rb2505.SHFE", "gateway_name": "PAPER"}
CONTRACT_EXAMPLE: dict[str, Any] = {
    "gateway_name": "PAPER",
    "vt_symbol": "rb2505.SHFE",
    "symbol": "rb2505",
    "exchange": "SHFE",
    "name": "螺纹钢2505",
    "product": "FUTURES",
    "size": 10.0,
    "pricetick": 1.0,
    "min_volume": 1.0,
    "max_volume": None,
    "stop_supported": True,
    "net_position": False,
    "history_data": False,
    "option_strike": None,
    "option_underlying": None,
    "option_type": None,
    "option_listed": None,
    "option_expiry": None,
    "option_portfolio": None,
    "option_index": None,
}
TICK_EXAMPLE: dict[str, Any] = msgspec.to_builtins(
    Tick(
        gateway_name="PAPER",
        vt_symbol="rb2505.SHFE",
        symbol="rb2505",
        exchange="SHFE",
        datetime=datetime(2026, 11, 21, 2, 0, 0, 500_000, tzinfo=UTC),
        tick_seq=120,
        volume=1000.0,
        last_price=3500.0,
        bid_price_1=3499.0,
        bid_volume_1=12.0,
        ask_price_1=3500.0,
        ask_volume_1=7.0,
    )
)


INTENT_EXAMPLE: dict[str, Any] = {
    "client_order_id": "my-order-1",
    "gateway_name": "PAPER",
    "vt_symbol": "rb2505.SHFE",
    "symbol": "rb2505",
    "exchange": "SHFE",
    "direction": "LONG",
    "offset": "OPEN",
    "type": "LIMIT",
    "price": 3500.0,
    "volume": 2.0,
    "reference": "",
    "strategy_name": None,
    "created_at": "2026-11-21T02:00:00.120000Z",
}
OUTCOME_EXAMPLE: dict[str, Any] = {
    "client_order_id": "my-order-1",
    "gateway_name": "PAPER",
    "state": "NOT_SENT",
    "vt_orderid": "",
    "reason": "",
    "evidence": "not in the broker's list of 2026-11-21",
    "by": "admin",
    "at": "2026-11-21T02:05:00Z",
}
RECONCILIATION_EXAMPLE: dict[str, Any] = {
    "gateway_name": "PAPER",
    "state": "DIFFERENT",
    "started_at": "2026-11-21T02:00:10Z",
    "finished_at": "2026-11-21T02:00:11Z",
    "orders_seen": 12,
    "trades_seen": 7,
    "differences": [
        {
            "kind": "POSITION",
            "key": "rb2505.SHFE",
            "venue": "3",
            "books": "2",
            "resolved": False,
            "resolution": "",
            "evidence": "shown by the venue after the connect",
        }
    ],
    "unknown_intents": [{"intent": INTENT_EXAMPLE, "evidence": "the gateway cannot list its orders"}],
    "accepted_by": "",
    "accepted_reason": "",
}


def page_of(example: dict[str, Any]) -> dict[str, Any]:
    """The example of a list."""
    return {"items": [example], "next_cursor": None}


def answers(
    status: Literal[200, 201, 202, 207],
    example: dict[str, Any],
    *codes: str,
    headers: dict[str, Any] | None = None,
) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses`: an example of success, and these error codes (202 may be both)."""
    table = responses(*codes)
    entry = table.setdefault(status, {"description": SUCCESS[status]})
    if status == 202 and "OUTCOME_UNKNOWN" in codes:
        entry["description"] = "Accepted, or: the outcome is not known yet"
    entry.setdefault("content", {})["application/json"] = {"example": example}
    if headers:
        entry["headers"] = headers
    return table


SUCCESS = {200: "OK", 201: "Created", 202: "Accepted", 207: "One status for each"}
