"""The service's REST calls, room by room. All of them raise `domain.errors.CoreError`, as the service names it.

Lists are async iterators over all their pages. Reads are tried again where the connection breaks; what changes
something is sent once, and raises OutcomeUnknown where its answer is lost.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime as Datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from vnpy_core.client.http import Http, Page
from vnpy_core.client.results import (
    Bar,
    CancelledAll,
    Halted,
    Me,
    Node,
    PlacedOrder,
    RiskState,
    Stored,
    Subscription,
)
from vnpy_core.domain.enums import Direction, Offset, OrderType, Product, Status
from vnpy_core.domain.errors import OutcomeUnknown
from vnpy_core.domain.events import Account, Contract, Gateway, Halt, Job, Order, Position, Tick, Trade


def new_client_order_id() -> str:
    """A name that no other order has."""
    return uuid4().hex


class Trading:
    """`/api/v1/trading`."""

    def __init__(self, http: Http, new_id: Callable[[], str] = new_client_order_id) -> None:
        self._http = http
        self._new_id = new_id

    async def gateways(self) -> list[Gateway]:
        """All gateways and the state of their connection."""
        return (await self._http.page("/trading/gateways", Gateway)).items

    async def connect(self, gateway_name: str, setting: Mapping[str, object] | None = None) -> None:
        """Begin to connect (admin); topic `gateway.updated` shows how it ends."""
        await self._http.send("POST", f"/trading/gateways/{_part(gateway_name)}/connect", {"setting": setting or {}})

    async def disconnect(self, gateway_name: str) -> None:
        """Close the connection (admin)."""
        await self._http.send("POST", f"/trading/gateways/{_part(gateway_name)}/disconnect")

    async def subscriptions(self) -> list[Subscription]:
        """The contracts whose ticks are asked for."""
        return (await self._http.page("/trading/subscriptions", Subscription)).items

    async def subscribe(self, vt_symbol: str, gateway_name: str | None = None) -> Subscription:
        """Ask a gateway for ticks, now and after each restart."""
        body = _given(vt_symbol=vt_symbol, gateway_name=gateway_name)
        return await self._http.call("POST", "/trading/subscriptions", Subscription, body)

    async def unsubscribe(self, vt_symbol: str) -> None:
        """Ask no more after the next connect."""
        await self._http.send("DELETE", f"/trading/subscriptions/{_part(vt_symbol)}")

    async def place_order(
        self,
        vt_symbol: str,
        direction: Direction | str,
        volume: float,
        *,
        price: float = 0.0,
        offset: Offset | str = Offset.NONE,
        type: OrderType | str = OrderType.LIMIT,
        gateway_name: str | None = None,
        reference: str = "",
        client_order_id: str | None = None,
    ) -> PlacedOrder:
        """Send an order, once per `client_order_id`; one is made where none is given.

        It is never sent again by itself. OutcomeUnknown says that it may have been sent; its `extra` has the
        `client_order_id`, under which `order_by_client_id` finds it and the same call may be made again.
        """
        name = client_order_id or self._new_id()
        body = _given(
            vt_symbol=vt_symbol, direction=direction, offset=offset, type=type, volume=volume, price=price,
            gateway_name=gateway_name, reference=reference, client_order_id=name,
        )  # fmt: skip
        try:
            return await self._http.call("POST", "/trading/orders", PlacedOrder, body)
        except OutcomeUnknown as error:
            error.extra["client_order_id"] = name
            raise

    async def cancel_order(self, vt_orderid: str) -> None:
        """Ask the venue to cancel; topic `order.updated` shows how it ends. Conflict where it is no longer active."""
        await self._http.send("POST", f"/trading/orders/{_part(vt_orderid)}/cancel")

    async def cancel_all(
        self, *, vt_symbol: str | None = None, gateway_name: str | None = None, strategy_name: str | None = None
    ) -> CancelledAll:
        """Ask the venues to cancel every active order that fits."""
        body = _given(vt_symbol=vt_symbol, gateway_name=gateway_name, strategy_name=strategy_name)
        return await self._http.call("POST", "/trading/orders/cancel-all", CancelledAll, body)

    async def order(self, vt_orderid: str) -> Order:
        """One order as it is now."""
        return await self._http.get(f"/trading/orders/{_part(vt_orderid)}", Order)

    async def order_by_client_id(self, client_order_id: str) -> Order:
        """The order that a caller named so."""
        return await self._http.get(f"/trading/orders/by-client-id/{_part(client_order_id)}", Order)

    def orders(
        self,
        *,
        active: bool | None = None,
        vt_symbol: str | None = None,
        gateway_name: str | None = None,
        status: Status | None = None,
        strategy_name: str | None = None,
        start: Datetime | None = None,
        end: Datetime | None = None,
        after_seq: int | None = None,
    ) -> AsyncIterator[Order]:
        """Orders by `seq`, live and past; one that changes meanwhile comes again. StoreUnavailable where some miss."""
        return self._http.pages(
            "/trading/orders", Order, active=active, vt_symbol=vt_symbol, gateway_name=gateway_name, status=status,
            strategy_name=strategy_name, start=start, end=end, after_seq=after_seq,
        )  # fmt: skip

    def trades(
        self,
        *,
        vt_symbol: str | None = None,
        gateway_name: str | None = None,
        vt_orderid: str | None = None,
        strategy_name: str | None = None,
        start: Datetime | None = None,
        end: Datetime | None = None,
        after_seq: int | None = None,
    ) -> AsyncIterator[Trade]:
        """Fills by `seq`. StoreUnavailable where past ones are missing."""
        return self._http.pages(
            "/trading/trades", Trade, vt_symbol=vt_symbol, gateway_name=gateway_name, vt_orderid=vt_orderid,
            strategy_name=strategy_name, start=start, end=end, after_seq=after_seq,
        )  # fmt: skip

    def positions(self, *, vt_symbol: str | None = None, gateway_name: str | None = None) -> AsyncIterator[Position]:
        """Positions by `vt_positionid`."""
        return self._http.pages("/trading/positions", Position, vt_symbol=vt_symbol, gateway_name=gateway_name)

    def accounts(self, *, gateway_name: str | None = None) -> AsyncIterator[Account]:
        """Accounts by `vt_accountid`."""
        return self._http.pages("/trading/accounts", Account, gateway_name=gateway_name)

    def contracts(
        self,
        *,
        vt_symbol: str | None = None,
        gateway_name: str | None = None,
        exchange: str | None = None,
        product: Product | None = None,
    ) -> AsyncIterator[Contract]:
        """What can be traded, by `vt_symbol`; once for each gateway that offers it."""
        return self._http.pages(
            "/trading/contracts", Contract, vt_symbol=vt_symbol, gateway_name=gateway_name, exchange=exchange,
            product=product,
        )  # fmt: skip

    def ticks(self, *, gateway_name: str | None = None, exchange: str | None = None) -> AsyncIterator[Tick]:
        """The last tick of each contract, by `vt_symbol`."""
        return self._http.pages("/trading/ticks", Tick, gateway_name=gateway_name, exchange=exchange)

    async def tick(self, vt_symbol: str) -> Tick:
        """The last tick of one contract."""
        return await self._http.get(f"/trading/ticks/{_part(vt_symbol)}", Tick)


class Risk:
    """`/api/v1/risk`."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def halts(self) -> list[Halt]:
        """The halts in force."""
        return (await self._http.get("/risk/state", RiskState)).halts

    async def halt(self, reason: str = "", *, cancel: bool = True) -> Halted:
        """Refuse every new order from now on and (`cancel`) ask the venues to cancel the active ones."""
        return await self._http.call("POST", "/risk/halt", Halted, {"reason": reason, "cancel": cancel})

    async def resume(self, reason: str = "") -> Halt:
        """Take the halt back. Conflict where there is none."""
        return await self._http.call("POST", "/risk/resume", Halt, {"reason": reason})


class Data:
    """`/api/v1/data`, its reading half. Without `start`, pages go from `end` (now) into the past."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def bars(
        self, vt_symbol: str, interval: str, *, start: Datetime | None = None, end: Datetime | None = None
    ) -> AsyncIterator[Bar]:
        """Stored bars, or built from what is stored."""
        return self._http.pages("/data/bars", Bar, vt_symbol=vt_symbol, interval=interval, start=start, end=end)

    def ticks(
        self, vt_symbol: str, *, start: Datetime | None = None, end: Datetime | None = None
    ) -> AsyncIterator[Tick]:
        """Stored ticks."""
        return self._http.pages("/data/ticks", Tick, vt_symbol=vt_symbol, start=start, end=end)

    def overview(self, *, vt_symbol: str | None = None, kind: str | None = None) -> AsyncIterator[Stored]:
        """What the store has, series by series."""
        return self._http.pages("/data/overview", Stored, vt_symbol=vt_symbol, kind=kind)

    def jobs(self) -> AsyncIterator[Job]:
        """Imports, exports and downloads."""
        return self._http.pages("/data/jobs", Job)

    async def job(self, job_id: str) -> Job:
        """One of them."""
        return await self._http.get(f"/data/jobs/{_part(job_id)}", Job)

    async def cancel_job(self, job_id: str) -> Job:
        """End it."""
        return await self._http.call("DELETE", f"/data/jobs/{_part(job_id)}", Job)


class System:
    """`/api/v1/system`, `/health` and who one is."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def status(self) -> dict[str, Any]:
        """Everything about the running service at a glance, as the API documents it."""
        return await self._http.get("/system/status", dict[str, Any])

    async def nodes(self) -> list[Node]:
        """The cores and edges that announced themselves."""
        page: Page[Node] = await self._http.page("/system/nodes", Node)
        return page.items

    async def health(self) -> dict[str, Any]:
        """`{status, components}`, also while a critical part is down. Open."""
        return await self._http.ready()

    async def me(self) -> Me:
        """Whose token it is, its role and when it ends."""
        return await self._http.get("/auth/me", Me)


def _part(name: str) -> str:
    """A name as one part of a path."""
    return quote(name, safe="")


def _given(**fields: object) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}
