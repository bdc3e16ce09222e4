"""A real engine that asks for its account before each order, beside another core that wants it too."""

import pytest

from integration.engine.test_host import connected, gateway, order, until
from testkit.leases import SharedRegistry
from vnpy_core.domain.errors import GatewayNotReconciled, TradingHalted
from vnpy_core.engine.settings import GatewaySettings
from vnpy_core.features.nodes.leases import TOPICS, AccountLeases
from vnpy_core.kit.clock import SystemClock

LEASE_S = 1.0
NAME = "account:testkit.gateways:PlainGateway:1"


class Leasing:
    """Brings account leases to a host, as the composition root does."""

    def __init__(self, registry):
        self.registry = registry
        self.leases = None

    def require(self, gateway_name):
        self.leases.require(gateway_name)

    def before(self, host):
        self.leases = AccountLeases(
            self.registry, SystemClock(), owner="me", lease_s=LEASE_S, scope=host.account_scope,
            reconcile=host.reconcile_now,
        )  # fmt: skip
        host.bus.subscribe(TOPICS, self.leases.take)
        self.leases.start()


@pytest.fixture
def registry():
    return SharedRegistry(SystemClock())


@pytest.fixture
async def leasing(registry):
    leasing = Leasing(registry)
    yield leasing
    await leasing.leases.close()


async def test_a_gateway_of_any_make_is_leased_by_its_class_and_account(run_host, leasing, registry):
    settings = {"P": gateway("PlainGateway")}
    async with run_host(gateways=settings, require_account=leasing.require, before=leasing.before) as host:
        await connected(host)
        await until(lambda: leasing.leases.holders() == {NAME: "me"})
        assert (await host.submit_order(order())).order.vt_orderid == "P.000001"
        assert await registry.hold(NAME, "another", LEASE_S) == "me"
    await leasing.leases.close()
    assert await registry.hold(NAME, "another", LEASE_S) == "another"


async def test_orders_are_refused_while_another_core_has_the_account_and_cancels_pass(run_host, leasing, registry):
    settings = {"P": gateway("PlainGateway")}
    async with run_host(gateways=settings, require_account=leasing.require, before=leasing.before) as host:
        await connected(host)
        await until(lambda: leasing.leases.holders() == {NAME: "me"})
        first = (await host.submit_order(order())).order
        registry.flush()
        assert await registry.hold(NAME, "another", 5.0) == "another"
        await until(lambda: leasing.leases.holders() == {NAME: "another"})
        with pytest.raises(TradingHalted) as refused:
            await host.submit_order(order(client_order_id="c2"))
        assert refused.value.extra == {"scope": "gateway", "by": "another"}
        # What a strategy sends goes past the host, and is told in VnPy's log.
        await host._commands.run(lambda: host.main_engine.gateways["P"].send_order(_vnpy_request(host)))
        await until(lambda: any("not sent: another core" in getattr(m.data, "msg", "") for m in host.messages))
        await host.cancel_order(first.vt_orderid)
        await until(lambda: not host.view.active_orders)
        assert len(host.main_engine.gateways["P"].orders) == 1

        # It comes back: reconciled first, then traded.
        report = host._recovery.report("P")
        await registry.release(NAME, "another")
        await until(lambda: leasing.leases.holders() == {NAME: "me"})
        with pytest.raises((TradingHalted, GatewayNotReconciled)):
            await host.submit_order(order(client_order_id="c3"))
        await until(lambda: leasing.leases.problem == "", seconds=30)
        assert host._recovery.report("P").started_at > report.started_at
        await host.submit_order(order(client_order_id="c4"))


async def test_the_paper_market_inside_needs_no_lease(run_host, leasing, registry):
    paper = GatewaySettings(class_="vnpy_core.gateways.paper.gateway:PaperGateway")
    remote = GatewaySettings(class_="vnpy_core.gateways.paper.remote:RemotePaperGateway")
    shared = gateway("PlainGateway", auto_connect=False, capabilities={"exclusive_account": False})
    gateways = {"PAPER": paper, "REMOTE": remote, "SHARED": shared}
    async with run_host(gateways=gateways, require_account=leasing.require, before=leasing.before) as host:
        assert host.account_scope("PAPER") == host.account_scope("SHARED") == host.account_scope("NONE") == ""
        assert host.account_scope("REMOTE") == "vnpy_core.gateways.paper.remote:RemotePaperGateway"
        for name in ("PAPER", "SHARED"):
            leasing.require(name)
        with pytest.raises(TradingHalted):
            leasing.require("REMOTE")


def _vnpy_request(host):
    from vnpy.trader.constant import Direction, Exchange, Offset, OrderType
    from vnpy.trader.object import OrderRequest

    return OrderRequest(
        symbol="rb2701", exchange=Exchange.SHFE, direction=Direction.LONG, type=OrderType.LIMIT, volume=1,
        price=3000, offset=Offset.OPEN,
    )  # fmt: skip
