"""What must hold whatever the flow of orders and books, and what must hold when something breaks."""

import csv
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testkit.paper import BTC, MA, RB, SPECS, order, snapshot, venue
from vnpy_core.domain.enums import Product
from vnpy_core.domain.errors import ConfigurationError, StorageFull
from vnpy_core.gateways.paper.contracts import _EXCHANGES
from vnpy_core.gateways.paper.model import ContractSpec, Snapshot, VenueAccount, VenueOrder, VenueTrade

D = Decimal
CALM = settings(max_examples=150, deadline=None, derandomize=True)
OFFSETS = ["OPEN", "OPEN", "CLOSE", "CLOSETODAY", "CLOSEYESTERDAY"]
TYPES = ["LIMIT", "LIMIT", "LIMIT", "MARKET", "STOP", "FAK", "FOK"]


@st.composite
def books(draw):
    best, depth = draw(st.integers(2990, 3010)), draw(st.integers(1, 3))
    sizes = draw(st.lists(st.integers(1, 5), min_size=2 * depth, max_size=2 * depth))
    bids = [(best - n, sizes[n]) for n in range(depth)]
    asks = [(best + 1 + n, sizes[depth + n]) for n in range(depth)]
    return ("book", bids, asks, draw(st.integers(0, 6)) == 0, draw(st.sampled_from([RB, MA, BTC])))


ORDERS = st.tuples(
    st.just("order"), st.sampled_from(["LONG", "SHORT"]), st.integers(1, 5), st.integers(2990, 3010),
    st.sampled_from(OFFSETS), st.sampled_from(TYPES), st.sampled_from([RB, MA, BTC]),
)  # fmt: skip
FLOWS = st.lists(st.one_of(books(), ORDERS, ORDERS, st.tuples(st.just("cancel"), st.integers(1, 12))), max_size=40)


def play(market, steps):
    """`(events, book or None)` of each step; the flow may go on with another venue that `send` gives."""
    day = 1
    for at, step in enumerate(steps):
        if step[0] == "book":
            day += step[3]
            book = snapshot(step[1], step[2], at=at, spec=step[4], day=date(2026, 11, 1) + timedelta(days=day))
            yield market[0].on_snapshot(book), book
        elif step[0] == "order":
            _, direction, volume, price, offset, kind, spec = step
            wanted = order(direction, volume, price, offset=offset, type=kind, spec=spec)
            yield market[0].place(wanted)[1], None
        else:
            yield market[0].cancel(f"{step[1]:012d}"), None


def state(market):
    held = {(p.symbol, p.direction): (p.volume, p.yd_volume, p.frozen, p.price) for p in market.positions()}
    return market.orders(), market.trades(), held, market._books.cash


@CALM
@given(FLOWS)
def test_money_balances_to_the_last_digit_and_is_free_when_nothing_is_held(tmp_path_factory, steps):
    market = [venue(tmp_path_factory.mktemp("flow") / "l.sqlite")]
    last: dict[str, Decimal] = {}
    for _, book in play(market, steps):
        if book:
            last[book.symbol] = D(repr(book.last_price))
        account = market[0].account()
        worth = D(1_000_000)
        for trade in market[0].trades():
            value = trade.price * trade.volume * SPECS[trade.symbol, trade.exchange].size
            worth -= trade.fee + (value if trade.direction == "LONG" else -value)
        for p in market[0].positions():
            volume = -p.volume if p.direction == "SHORT" else p.volume
            worth += volume * last[p.symbol] * SPECS[p.symbol, p.exchange].size
        assert account.balance == worth
        assert account.available == account.balance - account.frozen
        assert account.frozen >= 0
        if not market[0].positions() and not any(o.status.is_active for o in market[0].orders()):
            assert account.frozen == 0


@CALM
@given(FLOWS)
def test_no_snapshot_gives_more_than_it_displayed_at_any_price(tmp_path_factory, steps):
    market = [venue(tmp_path_factory.mktemp("flow") / "l.sqlite")]
    shown: dict[str, Snapshot] = {}
    filled: dict[tuple[str, str], list[VenueTrade]] = {}
    for events, book in play(market, steps):
        if book:
            shown[book.symbol] = book
            filled[book.symbol, "LONG"], filled[book.symbol, "SHORT"] = [], []
        for trade in events:
            if isinstance(trade, VenueTrade):
                filled[trade.symbol, trade.direction].append(trade)
        for (symbol, direction), trades in filled.items():
            buys = direction == "LONG"
            levels = shown[symbol].asks if buys else shown[symbol].bids
            for price in {t.price for t in trades}:
                # What traded at this price or nearer can only have come from levels at this price or nearer.
                near = sum(size for p, size in levels if (p <= price if buys else p >= price))
                took = sum(t.volume for t in trades if (t.price <= price if buys else t.price >= price))
                assert took <= near
            assert sum(t.volume for t in trades) <= sum(size for _, size in levels)


@CALM
@given(FLOWS, st.integers(0, 40), st.sampled_from([0, 1500]))
def test_a_restart_at_any_point_changes_nothing_that_is_kept(tmp_path_factory, steps, stop_at, latency_ms):
    path = tmp_path_factory.mktemp("flow") / "l.sqlite"
    market = [venue(path, latency_ms=latency_ms)]
    latest: dict[str, VenueOrder] = {}
    for number, (events, _) in enumerate(play(market, steps)):
        for event in events:
            if isinstance(event, VenueOrder):
                assert not (latest.get(event.orderid) and not latest[event.orderid].status.is_active)
                latest[event.orderid] = event
            if isinstance(event, VenueTrade):
                limit = latest[event.orderid]
                if limit.type in ("LIMIT", "FAK", "FOK"):
                    assert event.price <= limit.price if event.direction == "LONG" else event.price >= limit.price
        if number == stop_at:
            before = state(market[0])
            market[0]._ledger.close()
            market[0] = venue(path, latency_ms=latency_ms)
            assert state(market[0]) == before
    totals = market[0]._ledger.totals()
    assert totals.trades == len(market[0].trades())
    assert totals.fees == sum((t.fee for t in market[0].trades()), D(0))
    assert sum(totals.orders.values()) == len(market[0].orders())
    assert totals.cash == market[0]._books.cash
    for spec in (RB, MA):
        for side, other in (("LONG", "SHORT"), ("SHORT", "LONG")):
            opened = totals.volumes.get((spec.vt_symbol, side, "OPEN"), D(0))
            closed = sum(
                v for (s, d, o), v in totals.volumes.items() if (s, d) == (spec.vt_symbol, other) and o != "OPEN"
            )
            held = sum(p.volume for p in market[0].positions() if (p.symbol, p.direction) == (spec.symbol, side))
            assert opened - closed == held


@CALM
@given(FLOWS)
def test_vnpys_offset_converter_agrees_after_every_single_event(tmp_path_factory, steps):
    from vnpy.trader.constant import Direction, Exchange, Offset, OrderType, Status
    from vnpy.trader.constant import Product as VnPyProduct
    from vnpy.trader.converter import OffsetConverter
    from vnpy.trader.object import ContractData, OrderData, PositionData, TradeData

    def names(event):
        return {"gateway_name": "P", "symbol": event.symbol, "exchange": Exchange(event.exchange),
                "direction": Direction[event.direction]}  # fmt: skip

    contracts = {
        s.vt_symbol: ContractData(
            gateway_name="P", symbol=s.symbol, exchange=Exchange(s.exchange), name="", product=VnPyProduct.FUTURES,
            size=1, pricetick=1, net_position=s.net_position,
        )
        for s in SPECS.values()
    }  # fmt: skip
    converter = OffsetConverter(SimpleNamespace(get_contract=contracts.get))
    market = [venue(tmp_path_factory.mktemp("flow") / "l.sqlite")]

    def holdings():
        return {s.symbol: converter.get_position_holding(s.vt_symbol) for s in (RB, MA)}

    for events, _ in play(market, steps):
        for event in events:
            if isinstance(event, VenueOrder):
                converter.update_order(OrderData(
                    **names(event), orderid=event.orderid, type=OrderType[event.type], offset=Offset[event.offset],
                    price=float(event.price), volume=float(event.volume), traded=float(event.traded),
                    status=Status[event.status],
                ))  # fmt: skip
            elif isinstance(event, VenueTrade):
                converter.update_trade(TradeData(
                    **names(event), orderid=event.orderid, tradeid=event.tradeid, offset=Offset[event.offset],
                    price=float(event.price), volume=float(event.volume),
                ))  # fmt: skip
            elif not isinstance(event, VenueAccount):
                converter.update_position(PositionData(
                    **names(event), volume=float(event.volume), yd_volume=float(event.yd_volume),
                    frozen=float(event.frozen),
                ))  # fmt: skip
            for h in holdings().values():
                assert min(h.long_td, h.long_yd, h.short_td, h.short_yd) >= 0, event
        for symbol, h in holdings().items():
            held = {p.direction: (p.volume, p.yd_volume) for p in market[0].positions() if p.symbol == symbol}
            assert (h.long_pos, h.long_yd) == held.get("LONG", (0, 0))
            assert (h.short_pos, h.short_yd) == held.get("SHORT", (0, 0))


# --- what breaks ---


def fills(events):
    return [(e.orderid[-1], e.price, e.volume) for e in events if isinstance(e, VenueTrade)]


def status_of(market, orderid):
    return next(o for o in market.orders() if o.orderid == orderid).status


@pytest.mark.parametrize("kind", ["MARKET", "FAK", "FOK"])
def test_an_order_on_its_way_at_a_restart_keeps_its_kind(tmp_path, kind):
    path = tmp_path / "l.sqlite"
    first = venue(path, latency_ms=500)
    first.on_snapshot(snapshot([(3000, 5)], [(3001, 5)]))
    orderid, _ = first.place(order("LONG", 5, 3001, type=kind))
    second = venue(path, latency_ms=500)
    events = second.on_snapshot(snapshot([(3000, 5)], [(3001, 2)], at=1))
    assert fills(events) == ([] if kind == "FOK" else [("1", D(3001), D(2))])
    assert status_of(second, orderid) == "CANCELLED"


def test_an_order_from_before_a_recordings_first_tick_holds_nothing_up(tmp_path):
    market = venue(tmp_path / "l.sqlite", latency_ms=500)
    early, _ = market.place(order("LONG", 1, 3001))  # at the wall's time, years after the recording's
    old = snapshot([(3000, 5)], [(3001, 5)])
    market.on_snapshot(msgspec.structs.replace(old, time=datetime(2018, 10, 8, tzinfo=UTC)))
    late, _ = market.place(order("LONG", 1, 3001))
    market.on_snapshot(msgspec.structs.replace(old, time=datetime(2018, 10, 8, 0, 0, 1, tzinfo=UTC)))
    assert [status_of(market, i) for i in (early, late)] == ["ALLTRADED", "ALLTRADED"]


def test_what_rested_trades_before_what_arrives_with_the_same_snapshot(tmp_path):
    market = venue(tmp_path / "l.sqlite", latency_ms=500)
    market.on_snapshot(snapshot([(3000, 5)], [(3010, 5)]))
    market.place(order("LONG", 2, 3005))
    market.on_snapshot(snapshot([(3000, 5)], [(3010, 5)], at=1))
    market.place(order("LONG", 2, 3005))
    assert fills(market.on_snapshot(snapshot([(3000, 5)], [(3005, 2)], at=2))) == [("1", D(3005), D(2))]


def test_net_orders_that_reduce_share_the_one_holding(tmp_path):
    market = venue(tmp_path / "l.sqlite", balance=10_000)
    market.on_snapshot(snapshot([(60000, 99)], [(60000, 99)], spec=BTC))
    market.place(order("LONG", 1, 60000, spec=BTC, offset="NONE"))
    for _ in range(20):
        market.place(order("SHORT", 1, 60010, spec=BTC, offset="NONE"))
    market.on_snapshot(snapshot([(60020, 99)], [(60021, 99)], spec=BTC, at=1))
    assert market.account().available >= 0


def test_a_net_position_under_water_can_be_reduced(tmp_path):
    market = venue(tmp_path / "l.sqlite", balance=3100)
    market.on_snapshot(snapshot([(60000, 9)], [(60000, 9)], spec=BTC))
    market.place(order("LONG", 1, 60000, spec=BTC, offset="NONE"))
    market.on_snapshot(snapshot([(50000, 9)], [(50001, 9)], spec=BTC, at=9))
    assert market.account().available < 0
    orderid, _ = market.place(order("SHORT", 1, 50000, spec=BTC, offset="NONE"))
    assert status_of(market, orderid) == "ALLTRADED"


@pytest.mark.parametrize(("volume", "price"), [(1e300, 3000), (1, 1e300), (1e10, 3000)])
def test_absurd_numbers_are_refused_and_never_raise(tmp_path, volume, price):
    market = venue(tmp_path / "l.sqlite")
    assert status_of(market, market.place(order("LONG", volume, price, spec=MA))[0]) == "REJECTED"


def test_the_noise_of_floats_is_forgiven(tmp_path):
    market = venue(tmp_path / "l.sqlite")
    market.place(order("LONG", 0.1 + 0.2, 61234.1 + 0.2, spec=BTC, offset="NONE"))
    [only] = market.orders()
    assert (only.volume, only.price, only.status) == (D("0.3"), D("61234.3"), "NOTTRADED")


def test_a_call_that_cannot_be_written_has_not_happened(tmp_path):
    path = tmp_path / "l.sqlite"
    market = venue(path)
    market.on_snapshot(snapshot([(3000, 500)], [(3001, 500)]))
    market.place(order("LONG", 1, 3001))
    execute = market._ledger._connection.execute
    execute(f"pragma max_page_count = {execute('pragma page_count').fetchone()[0]}")
    before, refused = state(market), None
    while refused is None:
        before = state(market)
        try:
            market.place(order("LONG", 1, 3001))
        except StorageFull as error:
            refused = error
    assert "l.sqlite" in str(refused)
    assert state(market) == before
    execute("pragma max_page_count = 1000000")
    market.place(order("LONG", 1, 3001))
    assert state(venue(path)) == state(market)


def test_a_damaged_ledger_is_refused_with_its_name(tmp_path):
    path = tmp_path / "l.sqlite"
    market = venue(path)
    for _ in range(300):
        market.place(order("LONG", 1, 2900))
    market._ledger._connection.execute("pragma wal_checkpoint(truncate)")
    market._ledger.close()
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:8192] + b"\xff" * 4096 + whole[12288:]):
        path.write_bytes(damaged)
        with pytest.raises(ConfigurationError, match=r"l\.sqlite"):
            venue(path)


def test_a_holding_whose_contract_is_gone_is_not_forgotten_silently(tmp_path):
    path = tmp_path / "l.sqlite"
    market = venue(path)
    market.on_snapshot(snapshot([(3000, 5)], [(3001, 5)]))
    market.place(order("LONG", 1, 3001))
    with pytest.raises(ConfigurationError, match=r"rb2701\.SHFE"):
        venue(path, specs={})


def test_the_table_knows_vnpys_exchanges():
    from vnpy.trader.constant import Exchange

    assert {exchange.name for exchange in Exchange} == _EXCHANGES


# --- a recorded book ---

CU = ContractSpec(
    symbol="cu1909", exchange="SHFE", name="cu", product=Product.FUTURES, size=D(5), pricetick=D(10),
    fee_rate=D("0.00005"),
)  # fmt: skip


@pytest.mark.realdata
def test_a_market_order_walks_the_levels_of_a_recorded_copper_book(tmp_path, shared_data):
    path = shared_data / "tqsdk" / "shfe_cu1909_5level_ticks.csv"
    if not path.is_file():
        pytest.skip(f"no recording at {path}")
    with path.open(encoding="utf-8", newline="") as file:
        row = next(csv.DictReader(file))

    def side(name):
        return tuple((float(row[f"{name}_price{n}"]), float(row[f"{name}_volume{n}"])) for n in range(1, 6))

    market = venue(tmp_path / "l.sqlite", balance=100_000_000, specs={("cu1909", "SHFE"): CU})
    time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(row["datetime"]) // 1000)
    market.on_snapshot(Snapshot(
        symbol="cu1909", exchange="SHFE", time=time, trading_day=date(2019, 9, 16), bids=side("bid"), asks=side("ask"),
        last_price=float(row["last_price"]),
    ))  # fmt: skip
    events = market.place(order("LONG", 22, type="MARKET", spec=CU))[1]
    assert [(p, v) for _, p, v in fills(events)] == [(47820, 10), (47830, 10), (47850, 2)]
    events = market.place(order("SHORT", 100, type="MARKET", spec=CU))[1]
    assert [(p, v) for _, p, v in fills(events)] == [(47780, 10), (47770, 10), (47760, 80)]
    assert {e.time for e in events if isinstance(e, VenueTrade)} == {time}
    assert sum(t.fee for t in market.trades() if t.orderid.endswith("1")) == D("0.00005") * 5 * (
        47820 * 10 + 47830 * 10 + 47850 * 2
    )
