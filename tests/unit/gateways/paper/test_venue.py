from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testkit.paper import BTC, MA, RB, SPECS, START, order, snapshot, venue
from vnpy_core.domain.enums import Direction, Offset, Status
from vnpy_core.gateways.paper.model import VenueAccount, VenueOrder, VenuePosition, VenueTrade

D = Decimal


@pytest.fixture
def market(tmp_path):
    return venue(tmp_path / "ledger.sqlite")


def orders(events):
    return [e for e in events if isinstance(e, VenueOrder)]


def trades(events):
    return [e for e in events if isinstance(e, VenueTrade)]


def fills(events):
    return [(t.price, t.volume) for t in trades(events)]


def states(events):
    return [o.status for o in orders(events)]


def reason(events):
    [only] = orders(events)
    assert only.status is Status.REJECTED
    return only.reason


def position(market, direction="LONG"):
    return next((p for p in market.positions() if p.direction == direction), None)


def test_an_order_larger_than_the_first_level_walks_the_levels(market):
    market.on_snapshot(snapshot([(3000, 5)], [(3001, 2), (3002, 3), (3005, 4)]))
    _, events = market.place(order("LONG", 6, 3005))
    assert fills(events) == [(D(3001), D(2)), (D(3002), D(3)), (D(3005), D(1))]
    assert states(events) == ["PARTTRADED", "PARTTRADED", "ALLTRADED"]


def test_the_order_is_told_before_its_fill_and_funds_come_last(market):
    market.on_snapshot(snapshot([(3000, 5)], [(3001, 2)]))
    _, events = market.place(order("LONG", 1, 3001))
    assert [type(e) for e in events] == [VenueOrder, VenueTrade, VenuePosition, VenueAccount]


def test_a_limit_order_never_trades_beyond_its_price_and_rests_with_what_is_left(market):
    market.on_snapshot(snapshot([(3000, 5)], [(3001, 2), (3002, 3)]))
    orderid, events = market.place(order("LONG", 4, 3001))
    assert fills(events) == [(D(3001), D(2))]
    assert market.orders()[-1].status is Status.PARTTRADED
    assert trades(market.on_snapshot(snapshot([(3000, 5)], [(3002, 9)], at=1))) == []
    events = market.on_snapshot(snapshot([(2990, 5)], [(2995, 9)], at=2))
    assert fills(events) == [(D(3001), D(2))]  # a resting order trades at its own price
    assert [o.orderid for o in orders(events)] == [orderid]


def test_displayed_volume_that_was_taken_is_gone_until_the_next_snapshot(market):
    market.on_snapshot(snapshot([(3000, 5)], [(3001, 3)]))
    assert fills(market.place(order("LONG", 2, 3001))[1]) == [(D(3001), D(2))]
    assert fills(market.place(order("LONG", 2, 3001))[1]) == [(D(3001), D(1))]
    assert fills(market.place(order("LONG", 2, 3001))[1]) == []
    assert fills(market.on_snapshot(snapshot([(3000, 5)], [(3001, 3)], at=1))) == [(D(3001), D(1)), (D(3001), D(2))]


def test_our_orders_trade_by_price_and_then_by_time(market):
    market.on_snapshot(snapshot([(3000, 5)], [(3010, 3)]))
    ids = [market.place(order("LONG", 2, price))[0] for price in (3001, 3003, 3003, 3002)]
    events = market.on_snapshot(snapshot([(2990, 5)], [(3000, 5)], at=1))
    assert [(t.orderid, t.volume) for t in trades(events)] == [(ids[1], D(2)), (ids[2], D(2)), (ids[3], D(1))]


def test_a_market_order_takes_what_is_shown_and_the_rest_is_cancelled_with_a_reason(market):
    market.on_snapshot(snapshot([(3000, 5)], [(3001, 2), (3009, 1)]))
    _, events = market.place(order("LONG", 5, type="MARKET"))
    assert fills(events) == [(D(3001), D(2)), (D(3009), D(1))]
    assert orders(events)[-1].status is Status.CANCELLED
    assert "displayed volume" in orders(events)[-1].reason


def test_fak_cancels_the_rest_and_fok_fills_all_or_nothing(market):
    market.on_snapshot(snapshot([(3000, 5)], [(3001, 2), (3002, 2)]))
    _, events = market.place(order("LONG", 3, 3001, type="FAK"))
    assert (fills(events), states(events)[-1]) == ([(D(3001), D(2))], "CANCELLED")
    _, events = market.place(order("LONG", 3, 3002, type="FOK"))
    assert (fills(events), states(events)) == ([], ["CANCELLED"])
    _, events = market.place(order("LONG", 2, 3002, type="FOK"))
    assert (fills(events), states(events)) == ([(D(3002), D(2))], ["ALLTRADED"])


def test_a_stop_waits_for_its_price_and_then_takes_each_book_until_it_is_filled(market):
    market.on_snapshot(snapshot([(3000, 5)], [(3001, 2)]))
    _, events = market.place(order("LONG", 3, 3010, type="STOP"))
    assert states(events) == ["NOTTRADED"]
    assert trades(market.on_snapshot(snapshot([(3008, 5)], [(3009, 2)], at=1, last=3009))) == []
    assert fills(market.on_snapshot(snapshot([(3009, 5)], [(3011, 2)], at=2, last=3010))) == [(D(3011), D(2))]
    assert fills(market.on_snapshot(snapshot([(3000, 5)], [(3005, 2)], at=3, last=3004))) == [(D(3005), D(1))]


def test_slippage_worsens_a_takers_price_but_not_beyond_its_limit(tmp_path):
    import msgspec

    slippery = msgspec.structs.replace(RB, slippage=2)
    market = venue(tmp_path / "l.sqlite", specs={("rb2701", "SHFE"): slippery})
    market.on_snapshot(snapshot([(3000, 5)], [(3001, 2)]))
    assert fills(market.place(order("LONG", 1, type="MARKET"))[1]) == [(D(3003), D(1))]
    assert fills(market.place(order("LONG", 1, 3002))[1]) == [(D(3002), D(1))]
    assert fills(market.place(order("SHORT", 1, type="MARKET"))[1]) == [(D(2998), D(1))]


def test_an_order_reaches_the_book_after_the_latency_in_feed_time(tmp_path):
    market = venue(tmp_path / "l.sqlite", latency_ms=500)
    market.on_snapshot(snapshot([(3000, 5)], [(3001, 2)]))
    orderid, events = market.place(order("LONG", 1, 3001))
    assert states(events) == ["SUBMITTING"]
    assert trades(market.on_snapshot(snapshot([(3000, 5)], [(3001, 2)], at=0.4))) == []
    assert fills(market.on_snapshot(snapshot([(2999, 5)], [(3000, 2)], at=0.5))) == [(D(3000), D(1))]
    orderid, _ = market.place(order("LONG", 1, 2000))
    market.on_snapshot(snapshot([(2999, 5)], [(3000, 2)], at=2))
    assert market.cancel(orderid) == []
    assert states(market.on_snapshot(snapshot([(2999, 5)], [(3000, 2)], at=3))) == ["CANCELLED"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (order("LONG", float("nan"), 3000), "volume"),
        (order("LONG", float("inf"), 3000), "volume"),
        (order("LONG", -1, 3000), "volume"),
        (order("LONG", 0, 3000), "volume"),
        (order("LONG", 1.5, 3000), "lot"),
        (order("LONG", 101, 3000), "largest"),
        (order("LONG", 1, float("nan")), "price"),
        (order("LONG", 1, float("-inf")), "price"),
        (order("LONG", 1, -3000), "price"),
        (order("LONG", 1, 3000.5), "price tick"),
        (order("LONG", 1, 3301), "above the day's limit"),
        (order("LONG", 1, 2699), "below the day's limit"),
        (order("LONG", 1, 3000, offset="NONE"), "offset"),
        (order("NET", 1, 3000), "LONG or SHORT"),
        (order("LONG", 1, 3000, type="RFQ"), "not supported"),
        (order("SHORT", 1, 3000, offset="CLOSE"), "not enough long"),
        (order("SHORT", 1, 3000, offset="CLOSETODAY"), "today's position"),
        (order("LONG", 100, 3000, spec=MA, type="MARKET"), "no market data"),
    ],
)
def test_every_refusal_carries_its_reason(market, wrong, said):
    market.on_snapshot(snapshot([(3000, 5)], [(3001, 5)], limit_up=3300, limit_down=2700))
    assert said in reason(market.place(wrong)[1])
    assert market.account().frozen == 0


def test_an_unknown_contract_and_too_little_money_are_refused_with_a_reason(tmp_path):
    market = venue(tmp_path / "l.sqlite", balance=3010)
    market.on_snapshot(snapshot([(3000, 5)], [(3001, 5)]))
    nowhere = order("LONG", 1, 1).__class__(
        symbol="xx", exchange="SHFE", direction=Direction.LONG, offset=Offset.OPEN,
        type=order("LONG", 1).type, volume=1, price=1,
    )  # fmt: skip
    assert "unknown contract" in reason(market.place(nowhere)[1])
    assert fills(market.place(order("LONG", 1, 3001))[1]) == [(D(3001), D(1))]
    assert "insufficient funds" in reason(market.place(order("LONG", 1, 3001))[1])


def test_a_resting_order_reserves_funds_and_gives_them_back_when_it_is_cancelled(market):
    market.on_snapshot(snapshot([(3000, 5)], [(3001, 5)]))
    orderid, _ = market.place(order("LONG", 2, 2900))
    assert market.account().frozen == 2 * (2900 * 10 * D("0.1") + 2)
    assert states(market.cancel(orderid)) == ["CANCELLED"]
    assert market.account().frozen == 0
    assert market.cancel(orderid) == market.cancel("000000000099") == []


def test_shfe_tells_todays_position_from_yesterdays(market):
    market.on_snapshot(snapshot([(3000, 9)], [(3001, 9)]))
    market.place(order("LONG", 3, 3001))
    assert "yesterday's position" in reason(market.place(order("SHORT", 1, 3000, offset="CLOSE"))[1])
    assert fills(market.place(order("SHORT", 1, 3000, offset="CLOSETODAY"))[1]) == [(D(3000), D(1))]
    assert trades([*market.trades()])[-1].fee == 5
    market.on_snapshot(snapshot([(3000, 9)], [(3001, 9)], at=9, day=date(2026, 11, 23)))
    assert (position(market).volume, position(market).yd_volume) == (2, 2)
    assert "today's position" in reason(market.place(order("SHORT", 1, 3000, offset="CLOSETODAY"))[1])
    assert fills(market.place(order("SHORT", 2, 3000, offset="CLOSE"))[1]) == [(D(3000), D(2))]
    assert market.trades()[-1].fee == 4
    assert market.positions() == []


def test_closing_orders_freeze_the_position_so_that_it_is_closed_once(market):
    market.on_snapshot(snapshot([(3000, 9)], [(3001, 9)]))
    market.place(order("LONG", 3, 3001))
    orderid, events = market.place(order("SHORT", 2, 3100, offset="CLOSETODAY"))
    assert next(e for e in events if isinstance(e, VenuePosition)).frozen == 2
    assert "1 available" in reason(market.place(order("SHORT", 2, 3100, offset="CLOSETODAY"))[1])
    market.cancel(orderid)
    assert position(market).frozen == 0


def test_resting_futures_orders_end_with_their_trading_day_and_crypto_orders_do_not(market):
    market.on_snapshot(snapshot([(3000, 9)], [(3001, 9)]))
    market.on_snapshot(snapshot([(60000, 9)], [(60001, 9)], spec=BTC))
    market.place(order("LONG", 1, 2900))
    market.place(order("LONG", 1, 50000, spec=BTC, offset="NONE"))
    events = market.on_snapshot(snapshot([(3000, 9)], [(3001, 9)], at=9, day=date(2026, 11, 23)))
    assert [(o.status, o.reason) for o in orders(events)] == [("CANCELLED", "end of trading day")]
    assert (
        orders(market.on_snapshot(snapshot([(60000, 9)], [(60001, 9)], spec=BTC, at=10, day=date(2026, 11, 23)))) == []
    )


def test_a_net_position_flips_through_zero_with_the_right_profit(market):
    market.on_snapshot(snapshot([(60000, 9)], [(60000.1, 9)], spec=BTC))
    market.place(order("LONG", 0.5, 60000.1, spec=BTC, offset="OPEN"))
    market.on_snapshot(snapshot([(61000, 9)], [(61001, 9)], spec=BTC, at=1))
    market.place(order("SHORT", 0.8, 61000, spec=BTC, offset="CLOSE"))
    [net] = market.positions()
    assert (net.direction, net.volume, net.price) == ("NET", D("-0.3"), D(61000))
    fees = sum(t.fee for t in market.trades())
    assert market.account().balance == 1_000_000 + D("0.5") * D("999.9") - fees


def test_ids_and_books_go_on_after_a_restart(tmp_path):
    path = tmp_path / "ledger.sqlite"
    first = venue(path)
    first.on_snapshot(snapshot([(3000, 9)], [(3001, 2)]))
    first.place(order("LONG", 3, 3001))
    second = venue(path)
    assert second.orders() == first.orders()
    assert second.trades() == first.trades()
    assert [p.volume for p in second.positions()] == [2]
    assert second.account().frozen == first.account().frozen
    assert second.place(order("LONG", 1, 2000))[0] == "000000000002"
    assert fills(second.on_snapshot(snapshot([(3000, 9)], [(3001, 5)], at=1))) == [(D(3001), D(1))]
    assert second.trades()[-1].tradeid == "000000000002"


def test_the_same_flow_gives_the_same_ids_orders_and_trades(tmp_path):
    def run(path):
        market = venue(path)
        for second in range(20):
            market.on_snapshot(snapshot([(3000 - second, 3)], [(3001 - second, 2)], at=second))
            market.place(order("LONG", 3, 2995))
        return market.orders(), market.trades()

    assert run(tmp_path / "a.sqlite") == run(tmp_path / "b.sqlite")


PRICES = st.integers(2990, 3010)
VOLUMES = st.integers(1, 5)


@st.composite
def flows(draw):
    """A random walk of books with random orders and cancels between."""
    steps = []
    for _ in range(draw(st.integers(1, 25))):
        if draw(st.booleans()):
            best = draw(PRICES)
            depth = draw(st.integers(1, 3))
            sizes = draw(st.lists(VOLUMES, min_size=2 * depth, max_size=2 * depth))
            bids = [(best - n, sizes[n]) for n in range(depth)]
            asks = [(best + 1 + n, sizes[depth + n]) for n in range(depth)]
            steps.append(("book", bids, asks, draw(st.integers(0, 6)) == 0, draw(st.sampled_from([RB, MA, BTC]))))
        else:
            steps.append(
                (
                    "order",
                    draw(st.sampled_from(["LONG", "SHORT"])),
                    draw(VOLUMES),
                    draw(PRICES),
                    draw(st.sampled_from(["OPEN", "CLOSE", "CLOSETODAY", "CLOSEYESTERDAY"])),
                    draw(st.sampled_from(["LIMIT", "LIMIT", "MARKET", "STOP", "FAK", "FOK"])),
                    draw(st.sampled_from([RB, MA, BTC])),
                )
            )
        if draw(st.integers(0, 5)) == 0:
            steps.append(("cancel", draw(st.integers(1, 10))))
    return steps


def play(market, steps, seen):
    """Every event of a flow, checked as it comes."""
    day, at = 20, 0.0
    for step in steps:
        at += 1
        if step[0] == "book":
            day += step[3]
            book = snapshot(step[1], step[2], at=at, spec=step[4], day=date(2026, 11, min(day, 30)))
            seen(market.on_snapshot(book), book)
        elif step[0] == "order":
            _, direction, volume, price, offset, kind, spec = step
            seen(market.place(order(direction, volume, price, offset=offset, type=kind, spec=spec))[1], None)
        else:
            seen(market.cancel(f"{step[1]:012d}"), None)


FORWARD = {"SUBMITTING": 0, "NOTTRADED": 1, "PARTTRADED": 2, "ALLTRADED": 3, "CANCELLED": 3, "REJECTED": 3}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(flows())
def test_the_books_balance_whatever_happens(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("flow") / "ledger.sqlite"
    market = venue(path)
    latest: dict[str, VenueOrder] = {}

    def seen(events, book):
        for event in events:
            if isinstance(event, VenueOrder):
                before = latest.get(event.orderid)
                if before is not None:
                    assert FORWARD[event.status] >= FORWARD[before.status]
                    assert FORWARD[before.status] < 3, "a finished order changed"
                    assert event.traded >= before.traded
                assert event.traded <= event.volume
                latest[event.orderid] = event
            elif isinstance(event, VenueTrade):
                placed = latest[event.orderid]
                if placed.type in ("LIMIT", "FAK", "FOK"):
                    better = event.price <= placed.price if event.direction == "LONG" else event.price >= placed.price
                    assert better
            elif isinstance(event, VenueAccount):
                assert event.frozen >= 0
                assert event.available == event.balance - event.frozen

    play(market, steps, seen)
    assert {o.orderid: o for o in market.orders()} == latest
    assert "000000000001" not in latest or latest["000000000001"] == market.orders()[0]
    filled: dict[str, Decimal] = {}
    for trade in market.trades():
        filled[trade.orderid] = filled.get(trade.orderid, D(0)) + trade.volume
    assert filled == {o.orderid: o.traded for o in market.orders() if o.traded}

    # Position is the sum of the trades, and money comes from nowhere.
    for spec in SPECS.values():
        net = sum(
            (t.volume if t.direction == "LONG" else -t.volume) for t in market.trades() if t.symbol == spec.symbol
        )
        held = sum(
            (-p.volume if p.direction == "SHORT" else p.volume) for p in market.positions() if p.symbol == spec.symbol
        )
        assert net == held
    cash = D(1_000_000)
    for t in market.trades():
        size = next(s.size for s in SPECS.values() if s.symbol == t.symbol)
        cash -= t.fee + (t.price * t.volume * size if t.direction == "LONG" else -t.price * t.volume * size)
    holdings = sum(
        (-p.volume if p.direction == "SHORT" else p.volume)
        * next(s.size for s in SPECS.values() if s.symbol == p.symbol)
        * market._last_prices[(p.symbol, p.exchange)]
        for p in market.positions()
    )
    assert abs(market.account().balance - (cash + holdings)) < D("1e-15")

    # A restart changes nothing.
    again = venue(path)
    assert again.orders() == market.orders()
    assert again.trades() == market.trades()
    assert {(p.symbol, p.direction, p.volume, p.yd_volume, p.frozen) for p in again.positions()} == {
        (p.symbol, p.direction, p.volume, p.yd_volume, p.frozen) for p in market.positions()
    }


@settings(max_examples=100, deadline=None, derandomize=True)
@given(flows())
def test_vnpys_offset_converter_fed_with_our_events_holds_what_the_venue_holds(tmp_path_factory, steps):
    from types import SimpleNamespace

    from vnpy.trader.converter import OffsetConverter

    from vnpy_core.gateways.paper import translate

    contracts = {s.vt_symbol: translate.contract(s, "PAPER", server_stops=False, history=False) for s in SPECS.values()}
    converter = OffsetConverter(SimpleNamespace(get_contract=contracts.get))
    market = venue(tmp_path_factory.mktemp("flow") / "ledger.sqlite")

    def seen(events, book):
        for event in events:
            match event:
                case VenueOrder():
                    converter.update_order(translate.order(event, "PAPER"))
                case VenueTrade():
                    converter.update_trade(translate.trade(event, "PAPER"))
                case VenuePosition():
                    converter.update_position(translate.position(event, "PAPER"))
        for spec in (RB, MA):
            holding = converter.get_position_holding(spec.vt_symbol)
            held = {p.direction: p for p in market.positions() if p.symbol == spec.symbol}
            for direction, total, yesterday in (
                ("LONG", holding.long_pos, holding.long_yd),
                ("SHORT", holding.short_pos, holding.short_yd),
            ):
                expected = held.get(direction)
                assert (total, yesterday) == ((expected.volume, expected.yd_volume) if expected else (0, 0))

    play(market, steps, seen)


# --- orders that their clients name ---


def test_an_order_keeps_the_clients_name_and_a_doubled_name_is_the_known_order(tmp_path):
    market = venue(tmp_path / "ledger.sqlite")
    market.on_snapshot(snapshot([(3000, 9)], [(3001, 9)]))
    orderid, events = market.place(order("LONG", 2, 3001), "7-1")
    assert orderid == "7-1"
    assert {event.orderid for event in events if isinstance(event, VenueOrder | VenueTrade)} == {"7-1"}
    again, [known] = market.place(order("SHORT", 5, 2990), "7-1")
    assert (again, known) == ("7-1", market.order("7-1"))
    assert (len(market.orders()), len(market.trades())) == (1, 1)


def test_named_and_counted_orders_stay_in_the_order_they_came_across_a_restart(tmp_path):
    market = venue(tmp_path / "ledger.sqlite")
    market.on_snapshot(snapshot([(3000, 9)], [(3001, 9)]))
    names = ["10-1", "", "9-2", "", "10-2"]
    placed = [market.place(order("LONG", 1, 2990), name)[0] for name in names]
    assert placed == ["10-1", "000000000002", "9-2", "000000000004", "10-2"]
    later = venue(tmp_path / "ledger.sqlite")
    assert [entry.orderid for entry in later.orders()] == placed
    later.on_snapshot(snapshot([(2980, 9)], [(2989, 2)]))
    assert [trade.orderid for trade in later.trades()] == placed[:2]
    assert later.place(order("LONG", 1, 2990), "10-2")[1] == [later.order("10-2")]


def test_an_order_that_could_not_be_taken_is_told_as_refused_and_is_in_no_book(tmp_path):
    market = venue(tmp_path / "ledger.sqlite")
    refused = market.refusal(order("LONG", float("nan"), 3001), "7-1", "the disk is full")
    assert (refused.status, refused.reason, refused.orderid) == ("REJECTED", "the disk is full", "7-1")
    assert market.orders() == []


def test_the_clock_of_a_market_that_shows_little_goes_on_and_never_back(tmp_path):
    market = venue(tmp_path / "ledger.sqlite")
    market.advance(START + timedelta(seconds=99))
    market.on_snapshot(snapshot([(3000, 9)], [(3001, 9)], at=10))
    market.advance(START + timedelta(seconds=20))
    market.advance(START + timedelta(seconds=15))
    orderid, _ = market.place(order("LONG", 1, 3001))
    assert market.order(orderid).time == START + timedelta(seconds=20)
