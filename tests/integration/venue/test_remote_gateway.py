"""RemotePaperGateway and the venue's process: a broker's client, and all that may go wrong between the two."""

import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from testkit.paper import order
from testkit.venue import BTC, RB, RawClient, Tape, VenueProcess, events_of, request
from vnpy_core.gateways.paper import wire
from vnpy_core.gateways.paper.model import VenueOrder


@pytest.fixture(scope="module")
def shared():
    with VenueProcess() as venue:
        yield venue


@pytest.fixture
def venue(shared, vnpy_home):
    """One process for this module's tests, with a market that does not move and no faults."""
    shared.control()
    shared.stall(0)
    shared.book()
    return shared


@pytest.fixture
def make(vnpy_home):
    from vnpy_core.gateways.paper.remote import RemotePaperGateway

    made = []

    def make_gateway(name="PAPER"):
        gateway = RemotePaperGateway(Tape(), name)
        gateway.tape = gateway.event_engine
        made.append(gateway)
        return gateway

    yield make_gateway
    for gateway in made:
        gateway.close()


@pytest.fixture
def gateway(venue, make):
    gateway = make()
    gateway.connect(venue.setting)
    assert gateway.connected
    return gateway


def orderid(vt_orderid: str) -> str:
    return vt_orderid.partition(".")[2]


def statuses(tape: Tape, vt_orderid: str) -> list[str]:
    return [shown.status.name for shown in tape.orders if shown.vt_orderid == vt_orderid]


# --- connecting ---


def test_connect_returns_once_the_books_have_been_shown(venue, make):
    first = make()
    first.connect(venue.setting)
    held = first.send_order(request())
    first.tape.until(lambda: first.tape.trades)
    second = make("OTHER")
    second.connect(venue.setting)
    tape = second.tape
    assert {contract.vt_symbol for contract in tape.all("eContract.")} == {RB, BTC}
    assert [account.accountid for account in tape.all("eAccount.")] == ["paper"]
    assert any(position.vt_symbol == RB for position in tape.all("ePosition."))
    assert f"OTHER.{orderid(held)}" in {shown.vt_orderid for shown in tape.orders}
    assert [trade.orderid for trade in tape.trades].count(orderid(held)) == 1
    kinds = [kind for kind, _ in tape._events if kind in ("eContract.", "eAccount.", "eOrder.")]
    assert kinds.index("eAccount.") > kinds.index("eContract.")
    assert kinds.index("eOrder.") > kinds.index("eAccount.")


def test_a_venue_that_is_not_there_is_logged_and_found_once_it_comes(make):
    with VenueProcess() as venue:
        venue.stop()
        gateway = make()
        began = time.monotonic()
        gateway.connect(venue.setting)
        assert not gateway.connected
        assert time.monotonic() - began < 5
        assert any("no connection" in line for line in gateway.tape.logs)
        assert gateway.send_order(request()) == ""
        venue.start()
        gateway.tape.until(lambda: gateway.connected)


def test_a_venue_that_does_not_answer_is_waited_for_as_long_as_the_setting_says(venue, make):
    venue.stall(60)
    gateway = make()
    began = time.monotonic()
    gateway.connect({**venue.setting, "timeout_s": 0.3})
    assert 0.3 <= time.monotonic() - began < 3
    assert not gateway.connected
    assert any("has not shown its books" in line for line in gateway.tape.logs)
    venue.stall(0)
    gateway.tape.until(lambda: gateway.connected)


def test_without_reconnect_a_lost_connection_stays_lost_until_connect_is_called(venue, make):
    gateway = make()
    gateway.connect({**venue.setting, "reconnect": False})
    venue.disconnect()
    gateway.tape.until(lambda: not gateway.connected)
    time.sleep(0.5)
    assert not gateway.connected
    gateway.connect(venue.setting)
    assert gateway.connected


def test_a_second_connect_is_only_logged_and_close_and_connect_work_again(gateway, venue):
    gateway.connect(venue.setting)
    assert any("connected already" in line for line in gateway.tape.logs)
    for _ in range(3):
        gateway.close()
        assert not gateway.connected
        gateway.close()
        gateway.connect(venue.setting)
        assert gateway.connected
    assert not [t for t in threading.enumerate() if t.name == "paper PAPER" and t is not gateway._thread]


def test_close_ends_at_once_while_the_venue_says_nothing(venue, make):
    gateway = make()
    gateway.connect(venue.setting)
    venue.stall(60)
    began = time.monotonic()
    gateway.close()
    assert time.monotonic() - began < 1


# --- orders ---


def test_an_order_is_submitting_before_it_is_sent_and_filled_after_it(gateway, venue):
    vt_orderid = gateway.send_order(request(volume=2, reference="mine"))
    gateway.tape.until(lambda: any(trade.vt_orderid == vt_orderid for trade in gateway.tape.trades))
    assert statuses(gateway.tape, vt_orderid) == ["SUBMITTING", "ALLTRADED"]
    shown = gateway.tape.last(vt_orderid)
    assert (shown.reference, shown.traded, shown.datetime.tzinfo is not None) == ("mine", 2, True)
    assert venue.orders()[orderid(vt_orderid)] == ("ALLTRADED", 2)


def test_ids_never_repeat_across_reconnects_and_gateways(gateway, venue, make):
    other = make()
    other.connect(venue.setting)
    ids = [g.send_order(request()) for g in (gateway, other) for _ in range(20)]
    venue.disconnect()
    gateway.tape.until(lambda: sum("connected to the venue" in line for line in gateway.tape.logs) == 2)
    ids += [gateway.send_order(request()) for _ in range(20)]
    assert "" not in ids
    assert len(set(ids)) == 60


def test_a_resting_order_is_cancelled_and_a_finished_one_answered_in_words(gateway, venue):
    venue.book(volume=0)
    vt_orderid = gateway.send_order(request(price=3400.0))
    tape = gateway.tape
    tape.until(lambda: "NOTTRADED" in statuses(tape, vt_orderid))
    gateway.cancel_order(tape.last(vt_orderid).create_cancel_request())
    tape.until(lambda: "CANCELLED" in statuses(tape, vt_orderid))
    gateway.cancel_order(tape.last(vt_orderid).create_cancel_request())
    tape.until(lambda: any("no active order" in line for line in tape.logs))


def test_a_refused_order_follows_as_rejected_with_its_reason(gateway):
    vt_orderid = gateway.send_order(request(price=3500.5))
    gateway.tape.until(lambda: "REJECTED" in statuses(gateway.tape, vt_orderid))
    assert "price tick" in gateway.tape.last(vt_orderid).extra["reason"]


def test_texts_that_cannot_be_sent_do_not_hurt(gateway, venue):
    broken = gateway.send_order(request(reference="cut \ud83d"))
    gateway.tape.until(lambda: "ALLTRADED" in statuses(gateway.tape, broken))
    before = len(venue.orders())
    assert gateway.send_order(request(reference="x" * 100_000)) == ""
    assert any("too large" in line for line in gateway.tape.logs)
    shown = gateway.tape.last(broken)
    shown.orderid = "\ud83d"
    gateway.cancel_order(shown.create_cancel_request())
    assert any("cannot be written" in line for line in gateway.tape.logs)
    assert len(venue.orders()) == before
    assert gateway.connected


def test_ticks_come_after_a_subscription_and_again_after_a_reconnect(gateway, venue):
    from vnpy.trader.constant import Exchange
    from vnpy.trader.object import SubscribeRequest

    tape = gateway.tape
    gateway.subscribe(SubscribeRequest(symbol="rb2701", exchange=Exchange.SHFE))
    gateway.subscribe(SubscribeRequest(symbol="nothing", exchange=Exchange.SHFE))
    assert any("no such contract" in line for line in tape.logs)
    gateway.query_orders()
    venue.book(bid=3600, ask=3601)
    tape.until(lambda: any(tick.bid_price_1 == 3600 for tick in tape.all("eTick.")))
    assert tape.all("eTick.")[-1].name == "rb2701"
    venue.disconnect()
    tape.until(lambda: sum("connected to the venue" in line for line in tape.logs) == 2)
    gateway.query_orders()
    venue.book(bid=3700, ask=3701)
    tape.until(lambda: any(tick.bid_price_1 == 3700 for tick in tape.all("eTick.")))


def test_account_and_positions_are_shown_again_on_request(gateway):
    tape = gateway.tape
    filled = gateway.send_order(request())
    tape.until(lambda: "ALLTRADED" in statuses(tape, filled))
    tape.clear()
    gateway.query_account()
    gateway.query_position()
    tape.until(lambda: tape.all("eAccount.") and tape.all("ePosition."))


def test_queries_say_whether_they_were_answered(gateway, venue):
    vt_orderid = gateway.send_order(request())
    gateway.tape.until(lambda: gateway.tape.last(vt_orderid).status.name == "ALLTRADED")
    gateway.tape.clear()
    assert gateway.query_orders() is True
    assert gateway.query_trades() is True
    assert gateway.tape.last(vt_orderid).status.name == "ALLTRADED"
    assert [trade.vt_orderid for trade in gateway.tape.trades].count(vt_orderid) == 1
    gateway._settings = type(gateway._settings)(socket=str(venue.socket), timeout_s=0.2)
    venue.stall(60)
    assert gateway.query_orders() is False
    waiting = threading.Thread(target=gateway.query_trades)
    waiting.start()
    venue.disconnect()
    waiting.join(5)
    assert not waiting.is_alive()
    assert gateway.query_orders() is False


def test_it_works_in_vnpys_own_engine(venue, vnpy_home):
    from vnpy.event import EventEngine
    from vnpy.trader.engine import MainEngine

    from vnpy_core.gateways.paper.remote import RemotePaperGateway

    main = MainEngine(EventEngine())
    try:
        main.add_gateway(RemotePaperGateway, "PAPER")
        main.connect(venue.setting, "PAPER")
        vt_orderid = main.send_order(request(), "PAPER")
        deadline = time.monotonic() + 10
        while not (shown := main.get_order(vt_orderid)) or shown.status.name != "ALLTRADED":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert main.get_contract(RB).size == 10
        assert main.get_all_accounts()
    finally:
        main.close()


# --- what may go wrong ---


def test_lost_answers_500_orders_stay_submitting_until_asked_and_stand_once(gateway, venue):
    before = len(venue.orders())
    venue.control(lose_answers=500)
    tape = gateway.tape
    sent = [gateway.send_order(request(reference=f"lost {n}")) for n in range(500)]
    heard = gateway.send_order(request())
    tape.until(lambda: tape.last(heard).status.name == "ALLTRADED")
    assert {tuple(statuses(tape, vt_orderid)) for vt_orderid in sent} == {("SUBMITTING",)}
    assert {trade.vt_orderid for trade in tape.trades} & set(sent) == set()
    assert len(venue.orders()) == before + 501
    assert venue.counters().answers_lost >= 500
    assert gateway.query_orders()
    assert gateway.query_trades()
    assert {tuple(statuses(tape, vt_orderid)) for vt_orderid in sent} == {("SUBMITTING", "ALLTRADED")}
    fills = Counter(trade.vt_orderid for trade in tape.trades)
    assert {fills[vt_orderid] for vt_orderid in sent} == {1}
    references = Counter(r for (r,) in venue.query("select reference from orders where reference like 'lost %'"))
    assert references == {f"lost {n}": 1 for n in range(500)}
    venue.assert_sound()


def test_lost_answers_are_shown_by_a_reconnect_too(gateway, venue):
    venue.control(lose_answers=3)
    venue.book(volume=0)
    tape = gateway.tape
    sent = [gateway.send_order(request(price=3400.0)) for _ in range(3)]
    tape.until(lambda: venue.counters().answers_lost >= 3)
    venue.book(bid=3300, ask=3301)  # they are filled, and nobody hears of it
    assert gateway.query_trades()
    assert {shown.status.name for shown in tape.orders if shown.vt_orderid in sent} == {"SUBMITTING"}
    venue.disconnect()
    tape.until(lambda: all(tape.last(vt_orderid).status.name == "ALLTRADED" for vt_orderid in sent))


def test_answers_are_lost_by_chance_as_the_seed_says(gateway, venue):
    before = venue.counters().answers_lost
    venue.control(lose_answers_p=0.5)
    for _ in range(200):
        gateway.send_order(request())
    assert gateway.query_orders()
    assert 60 <= venue.counters().answers_lost - before <= 140


def test_lost_requests_are_never_executed(gateway, venue):
    before = len(venue.orders())
    venue.control(lose_requests=5)
    tape = gateway.tape
    sent = [gateway.send_order(request()) for _ in range(5)]
    heard = gateway.send_order(request())
    tape.until(lambda: tape.last(heard).status.name == "ALLTRADED")
    assert gateway.query_orders()
    assert len(venue.orders()) == before + 1
    assert {tuple(statuses(tape, vt_orderid)) for vt_orderid in sent} == {("SUBMITTING",)}


def test_doubled_events_come_twice(gateway, venue):
    venue.control(double_p=1.0)
    tape = gateway.tape
    vt_orderid = gateway.send_order(request())
    tape.until(lambda: len([trade for trade in tape.trades if trade.vt_orderid == vt_orderid]) == 2)
    assert statuses(tape, vt_orderid) == ["SUBMITTING", "ALLTRADED", "ALLTRADED"]
    assert len({trade.vt_tradeid for trade in tape.trades if trade.vt_orderid == vt_orderid}) == 1


def test_late_events_come_behind_others_and_all_of_them_come(gateway, venue):
    venue.control(late_p=1.0, late_ms=100)
    tape = gateway.tape
    tape.clear()
    sent = [gateway.send_order(request()) for _ in range(20)]
    tape.until(lambda: len(tape.trades) == 20)
    kinds = [kind for kind, data in tape._events if kind == "eAccount." or getattr(data, "traded", 0)]
    assert kinds[0] == "eAccount."
    tape.until(lambda: all(tape.last(vt_orderid).status.name == "ALLTRADED" for vt_orderid in sent))
    assert venue.counters().late >= 40


def test_reordered_events_change_places_and_none_is_missing(gateway, venue):
    venue.control(reorder=6)
    tape = gateway.tape
    tape.clear()
    for _ in range(30):
        gateway.send_order(request())
    tape.until(lambda: len(tape.trades) == 30)
    venue.control()
    numbers = [int(trade.tradeid) for trade in tape.trades]
    assert numbers != sorted(numbers)
    assert len(set(numbers)) == 30
    assert venue.counters().reordered > 0


def test_a_stalled_venue_executes_what_it_was_sent_only_after_it(gateway, venue):
    before = len(venue.orders())
    venue.stall(60)
    sent = [gateway.send_order(request()) for _ in range(300)]
    assert "" not in sent
    time.sleep(0.3)
    assert len(venue.orders()) == before
    venue.stall(0)
    tape = gateway.tape
    tape.until(lambda: tape.last(sent[-1]).status.name == "ALLTRADED")
    assert len(venue.orders()) == before + 300


def test_a_venue_that_never_reads_is_no_reason_to_wait_or_to_grow(gateway, venue):
    venue.stall(60)
    sent, began = 0, time.monotonic()
    while gateway.send_order(request(reference="x" * 2000)):
        sent += 1
        assert sent < 5000
    assert time.monotonic() - began < 10
    assert any("does not read" in line for line in gateway.tape.logs)
    shown = len(gateway.tape.orders)
    assert gateway.send_order(request(reference="x" * 2000)) == ""
    assert len(gateway.tape.orders) == shown
    venue.stall(0)
    gateway.tape.until(lambda: gateway.connected and gateway.send_order(request()), 30)


def test_100_flaps_while_orders_are_sent_make_no_order_twice(make, monkeypatch):
    monkeypatch.setattr("vnpy_core.gateways.paper.remote.FIRST_WAIT_S", 0.01)
    with VenueProcess() as venue:
        venue.book()
        gateway = make()
        gateway.connect(venue.setting)
        flap_100_times(venue, gateway)
        gateway.close()


def flap_100_times(venue, gateway):
    tape, ids, stop = gateway.tape, {}, threading.Event()

    def send() -> None:
        while not stop.wait(0.002):
            reference = f"flap {len(ids)}"
            ids[reference] = gateway.send_order(request(reference=reference))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for _ in range(100):
            tape.until(lambda: gateway.connected and len(ids) % 3 == 0)
            assert venue.disconnect().clients == 0
            tape.until(lambda: not gateway.connected)
    finally:
        stop.set()
        sender.join()
    tape.until(lambda: gateway.connected)
    booked = venue.query("select reference, orderid from orders where reference like 'flap %'")
    assert set(Counter(reference for reference, _ in booked).values()) == {1}
    assert all(ids[reference] == f"PAPER.{venue_id}" for reference, venue_id in booked)
    assert gateway.query_orders()
    known = {orderid for orderid in ids.values() if orderid}
    missing = known - {f"PAPER.{venue_id}" for _, venue_id in booked}
    for vt_orderid in known - missing:
        assert tape.last(vt_orderid).status.name == "ALLTRADED"
    assert {tuple(statuses(tape, vt_orderid)) for vt_orderid in missing} <= {("SUBMITTING",)}
    venue.assert_sound()


def test_a_flapping_venue_drops_the_connection_as_often_as_it_was_told(venue):
    before = venue.counters().dropped
    for number in range(2):
        with RawClient(venue.socket) as client:
            client.log_in()
            if number == 0:
                venue.flap(2, every_ms=2000)
            with pytest.raises((EOFError, ConnectionError)):
                client.read()
    with RawClient(venue.socket) as client:
        client.log_in()
        assert client.query("account")
    assert venue.counters().dropped == before + 2


def test_one_seed_makes_the_same_luck():
    def lost(seed: int) -> list[str]:
        with VenueProcess(seed=seed) as venue, RawClient(venue.socket) as client:
            client.log_in()
            venue.book()
            venue.control(lose_answers_p=0.3)
            ids = [client.place(order("LONG", 1, 3501)) for _ in range(100)]
            client.send(wire.Query(number=1000, topic="account"))
            told = client.until(lambda answer: isinstance(answer, wire.Shown) and answer.number == 1000)
            heard = {event.orderid for event in events_of(told) if isinstance(event, VenueOrder)}
            return [orderid for orderid in ids if orderid not in heard]

    assert lost(7) == lost(7) != lost(8)


# --- the client dies ---

CLIENT = """
import sys
from pathlib import Path
from testkit.venue import RawClient
from testkit.paper import order
client = RawClient(Path(sys.argv[1]))
client.log_in()
with open(sys.argv[2], "a", buffering=1) as intents:
    number = 0
    while True:
        number += 1
        intents.write(f"{client.welcome.session}-{number}\\n")
        client.place(order("LONG", 1, 3501, offset="OPEN"), number=number)
        client.read()
"""


def test_a_client_that_is_killed_at_any_moment_leaves_venue_and_ledger_right(venue, tmp_path):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    luck = random.Random(seed)
    intents = tmp_path / "intents"
    before = set(venue.orders())
    for _ in range(20):
        sessions = venue.counters().sessions
        tests = Path(__file__).parents[2]
        command = [sys.executable, "-c", CLIENT, str(venue.socket), str(intents)]
        process = subprocess.Popen(command, cwd=tests)
        while venue.counters().sessions == sessions:
            assert process.poll() is None
            time.sleep(0.005)
        time.sleep(luck.uniform(0, 0.05))
        process.kill()
        process.wait()
    with RawClient(venue.socket) as client:
        shown = {e.orderid for e in client.log_in() if isinstance(e, VenueOrder)}
    meant = set(intents.read_text().split())
    booked = set(venue.orders()) - before
    assert booked <= meant
    assert len(meant) - len(booked) <= 20  # at most the last one of each
    assert booked <= shown
    venue.assert_sound()
