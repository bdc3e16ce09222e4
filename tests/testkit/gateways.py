"""VnPy gateways for tests that need an odd one; ordinary trading is tested on the paper gateway."""

import threading
from datetime import UTC, datetime

from vnpy.trader.constant import Direction, Exchange, Product, Status
from vnpy.trader.gateway import BaseGateway
from vnpy.trader.object import AccountData, ContractData, PositionData, TickData

from vnpy_core.domain.errors import StorageFull


class PlainGateway(BaseGateway):
    """As third-party gateways are: says nothing of its connection, accepts orders and lets them rest."""

    default_name = "PLAIN"
    default_setting = {"user": "", "password": ""}
    exchanges = [Exchange.SHFE]

    def __init__(self, event_engine, gateway_name):
        super().__init__(event_engine, gateway_name)
        self.settings = []
        self.subscribed = []
        self.closed = 0
        self.orders = {}

    def connect(self, setting):
        self.settings.append(setting)
        for symbol in ("rb2701", "ru2701"):
            self.on_contract(
                ContractData(
                    gateway_name=self.gateway_name, symbol=symbol, exchange=Exchange.SHFE, name=symbol,
                    product=Product.FUTURES, size=10, pricetick=1,
                )
            )  # fmt: skip
        self.on_account(AccountData(gateway_name=self.gateway_name, accountid="1", balance=100))

    def close(self):
        self.closed += 1

    def subscribe(self, req):
        self.subscribed.append(req.vt_symbol)

    def send_order(self, req):
        orderid = f"{len(self.orders) + 1:06d}"
        order = req.create_order_data(orderid, self.gateway_name)
        order.datetime = datetime.now(UTC)
        order.status = Status.NOTTRADED
        self.orders[orderid] = order
        self.on_order(order)
        return order.vt_orderid

    def cancel_order(self, req):
        order = self.orders[req.orderid]
        cancelled = type(order)(
            **{**{k: v for k, v in vars(order).items() if k in order.__dataclass_fields__ and k != "extra"}}
        )
        cancelled.status = Status.CANCELLED
        self.on_order(cancelled)

    def query_account(self):
        pass

    def query_position(self):
        pass

    def tick(self, symbol="rb2701", price=3000.0):
        self.on_tick(
            TickData(
                gateway_name=self.gateway_name, symbol=symbol, exchange=Exchange.SHFE, datetime=datetime.now(UTC),
                last_price=price, bid_price_1=price - 1, ask_price_1=price + 1, bid_volume_1=5, ask_volume_1=5,
            )
        )  # fmt: skip


class RefusingGateway(PlainGateway):
    """Takes no order and says why in its log, as CTP's does."""

    def send_order(self, req):
        self.write_log("market is closed")
        return ""


class MuteGateway(PlainGateway):
    """Sends orders and never hears of them again."""

    def send_order(self, req):
        return f"{self.gateway_name}.77"


class RaisingGateway(PlainGateway):
    """Fails to connect."""

    def connect(self, setting):
        raise OSError("no route to the broker")


class UnloadableGateway(PlainGateway):
    """Fails while it is made."""

    def __init__(self, event_engine, gateway_name):
        raise RuntimeError("the broker's library is missing")


class ThrowingGateway(PlainGateway):
    """Fails in the middle of sending."""

    def send_order(self, req):
        raise OSError("the socket broke")


class EurexGateway(PlainGateway):
    """Trades where VnPy's suffix (EUX) is not the exchange's name."""

    exchanges = [Exchange.EUREX]

    def connect(self, setting):
        self.on_contract(
            ContractData(
                gateway_name=self.gateway_name, symbol="FDAX", exchange=Exchange.EUREX, name="DAX",
                product=Product.FUTURES, size=25, pricetick=1,
            )
        )  # fmt: skip


class FullGateway(PlainGateway):
    """One of ours whose disk is full: it did nothing, and says so."""

    def send_order(self, req):
        raise StorageFull("the disk is full")


class StubbornGateway(PlainGateway):
    """Raises where it is asked to cancel its first order."""

    def cancel_order(self, req):
        if req.orderid == "000001":
            raise OSError("the socket broke")
        super().cancel_order(req)


class SlowGateway(PlainGateway):
    """Says itself whether it is connected; its connect waits for `go`, and it cannot subscribe rb2701."""

    connected = False
    entered = False
    go = threading.Event()

    def connect(self, setting):
        self.entered = True
        self.go.wait(10)
        super().connect(setting)
        self.connected = True

    def close(self):
        super().close()
        self.connected = False

    def subscribe(self, req):
        if req.symbol == "rb2701":
            raise OSError("no such channel")
        super().subscribe(req)


class HoldingGateway(PlainGateway):
    """Shows its positions at each connect; they are the class's, so they outlive a gateway as a venue's do."""

    holdings: dict[str, float] = {}

    def connect(self, setting):
        super().connect(setting)
        self.query_position()

    def query_position(self):
        for symbol, volume in self.holdings.items():
            self.on_position(
                PositionData(
                    gateway_name=self.gateway_name, symbol=symbol, exchange=Exchange.SHFE, direction=Direction.LONG,
                    volume=volume,
                )
            )  # fmt: skip
