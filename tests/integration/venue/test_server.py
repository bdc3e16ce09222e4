"""The venue's process, spoken to without VnPy."""

import os
import re
import resource
import signal
import socket
import stat
import struct
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from testkit.paper import BTC as BTC_SPEC
from testkit.paper import order
from testkit.venue import BTC, RB, RawClient, VenueProcess, events_of, has_order, has_trade
from vnpy_core.domain.enums import Status
from vnpy_core.gateways.paper import wire
from vnpy_core.gateways.paper.model import VenueAccount, VenueOrder, VenuePosition, VenueTrade


@pytest.fixture(scope="module")
def shared():
    with VenueProcess() as venue:
        yield venue


@pytest.fixture
def venue(shared):
    """One process for this module's tests, with a market that does not move and no faults."""
    shared.control()
    shared.stall(0)
    shared.book()
    return shared


@pytest.fixture
def client(venue):
    with RawClient(venue.socket) as client:
        client.snapshot = client.log_in()
        yield client


def test_an_order_is_filled_told_and_booked_under_the_clients_own_name(venue, client):
    orderid = client.place(order("LONG", 2, 3501))
    told = list(events_of(client.until(has_trade(orderid))))
    assert [type(event) for event in told] == [VenueOrder, VenueTrade, VenuePosition, VenueAccount]
    assert (told[0].orderid, told[0].status, told[1].volume) == (orderid, Status.ALLTRADED, 2)
    assert venue.orders()[orderid] == ("ALLTRADED", 2)
    assert (told[1].tradeid, orderid, 2) in venue.trades()
    venue.assert_sound()


def test_a_resting_order_is_cancelled_and_filled_in_part(venue, client):
    venue.book(volume=0)
    resting, cancelled = client.place(order("LONG", 5, 3501)), client.place(order("LONG", 5, 3400))
    client.until(has_order(cancelled, "NOTTRADED"))
    client.send(wire.Cancel(orderid=cancelled))
    client.until(has_order(cancelled, "CANCELLED"))
    venue.book(volume=2)
    client.until(has_order(resting, "PARTTRADED"))
    venue.book(volume=0)
    assert venue.orders()[resting] == ("PARTTRADED", 2)
    assert venue.orders()[cancelled] == ("CANCELLED", 0)


def test_an_order_that_is_sent_twice_is_one_order_and_its_second_answer_is_the_known_state(venue, client):
    orderid = client.place(order("LONG", 1, 3501), number=7)
    client.until(has_order(orderid, "ALLTRADED"))
    before = len(venue.orders()), len(venue.trades())
    assert client.place(order("LONG", 1, 3501), number=7) == orderid
    [known] = list(events_of(client.until(has_order(orderid, "ALLTRADED"))))
    assert (known.orderid, known.traded) == (orderid, 1)
    assert (len(venue.orders()), len(venue.trades())) == before


def test_every_login_has_a_session_of_its_own_and_sees_the_others_orders(venue, client):
    with RawClient(venue.socket) as other:
        other.log_in()
        assert other.welcome.session != client.welcome.session
        orderid = client.place(order("LONG", 1, 3501))
        other.until(has_trade(orderid))


def test_the_snapshot_has_contracts_funds_holdings_orders_and_trades(venue, client):
    venue.book(volume=0)
    resting = client.place(order("LONG", 3, 3400))
    client.until(has_order(resting, "NOTTRADED"))
    venue.book(BTC, 100, 100.1)
    bought = client.place(order("LONG", 0.5, 100.1, spec=BTC_SPEC, offset="NONE"))
    client.until(has_trade(bought))
    with RawClient(venue.socket) as later:
        snapshot = later.log_in()
    assert {spec.vt_symbol for spec in later.welcome.contracts} == {RB, BTC}
    orders = {event.orderid: event for event in snapshot if isinstance(event, VenueOrder)}
    assert orders[resting].status is Status.NOTTRADED
    assert [e.orderid for e in snapshot if isinstance(e, VenueTrade)].count(bought) == 1
    assert {e.symbol for e in snapshot if isinstance(e, VenuePosition)} >= {"BTCUSDT"}
    assert isinstance(snapshot[0], VenueAccount)


def test_queries_show_todays_and_with_since_also_older_ones(tmp_path):
    folder = tmp_path if len(str(tmp_path)) < 60 else None
    with VenueProcess(folder) as venue, RawClient(venue.socket) as client:
        client.log_in()
        venue.book()
        orderid = client.place(order("LONG", 1, 3501))
        client.until(has_trade(orderid))
        venue.stop()
        long_ago = datetime.now(UTC) - timedelta(days=30)
        _age(venue, long_ago)
        venue.start()
        with RawClient(venue.socket) as later:
            assert not [event for event in later.log_in() if isinstance(event, VenueOrder | VenueTrade)]
            assert later.query("orders") == later.query("trades") == []
            [found] = later.query("orders", since=long_ago - timedelta(hours=1))
            assert found.orderid == orderid
            [fill] = later.query("trades", since=long_ago - timedelta(hours=1))
            assert fill.orderid == orderid
            assert later.query("orders", since=long_ago + timedelta(hours=1)) == []
            [account] = later.query("account")
            assert account.accountid == "paper"
            assert [p.volume for p in later.query("positions")] == [1]


def _age(venue: VenueProcess, moment: datetime) -> None:
    import sqlite3
    from contextlib import closing

    micros = int(moment.timestamp() * 1_000_000)
    with closing(sqlite3.connect(venue.ledger)) as books:
        books.execute("update orders set time = ?", (micros,))
        books.execute("update trades set time = ?", (micros,))
        books.commit()


def test_ticks_come_to_those_who_subscribed_only(venue, client):
    with RawClient(venue.socket) as other:
        other.log_in()
        client.send(wire.Subscribe(symbol="rb2701", exchange="SHFE"))
        client.query("account")  # the subscription was heard
        venue.book(bid=3510, ask=3511, volume=4)
        [tick] = client.until(lambda answer: isinstance(answer, wire.Tick))
        assert (tick.snapshot.bids, tick.snapshot.asks) == (((3510.0, 4.0),), ((3511.0, 4.0),))
        other.send(wire.Subscribe(symbol="xx", exchange="SHFE"))
        [notice] = other.until(lambda answer: isinstance(answer, wire.Notice))
        assert "xx.SHFE" in notice.text


def test_a_cancel_of_an_unknown_or_finished_order_is_answered_in_words(venue, client):
    done = client.place(order("LONG", 1, 3501))
    client.until(has_trade(done))
    for orderid in (done, "99999-1", "nonsense"):
        client.send(wire.Cancel(orderid=orderid))
        [notice] = client.until(lambda answer: isinstance(answer, wire.Notice))
        assert orderid in notice.text


def test_a_wrong_order_is_rejected_with_its_reason_and_booked_as_such(venue, client):
    for wrong in (order("LONG", float("nan"), 3501), order("LONG", 1, 3501.5), order("LONG", 1e300, 3501)):
        orderid = client.place(wrong)
        [told] = list(events_of(client.until(has_order(orderid, "REJECTED"))))
        assert told.reason
        assert venue.orders()[orderid][0] == "REJECTED"


def test_thousands_of_orders_that_one_move_of_the_market_fills_and_the_longest_texts_fit_in_frames():
    with VenueProcess() as venue, RawClient(venue.socket) as client:
        client.log_in()
        venue.book(volume=0)
        wrong = msgspec.structs.replace(order("LONG", 1, 3501), symbol="x" * 3_000, reference="y" * 900)
        for number in range(1, 1502):
            client.place(order("LONG", 1, 3400) if number % 3 else wrong, number=number)
        client.until(has_order("1-1501", "NOTTRADED"), 30)
        venue.book(bid=3300, ask=3301)
        filled = client.until(has_order("1-1501", "ALLTRADED"), 30)
        assert len([e for e in events_of(filled) if isinstance(e, VenueOrder) and e.status == "ALLTRADED"]) == 1001
        with RawClient(venue.socket) as later:
            assert len([e for e in later.log_in() if isinstance(e, VenueOrder)]) == 1501
        venue.assert_sound()


def test_snapshot_and_stream_have_no_gap_and_no_repeat_while_others_trade(venue):
    """Trade ids are counted, so that what a client saw must be 1 to the last, each once, however often it comes."""
    stop = threading.Event()
    trader = threading.Thread(target=_trade_until, args=(venue, stop))
    trader.start()
    streamed_total = 0
    try:
        for _ in range(40):
            with RawClient(venue.socket) as watcher:
                shown = [e.tradeid for e in watcher.log_in() if isinstance(e, VenueTrade)]
                streamed: list[str] = []
                while len(streamed) < 5:
                    streamed += [e.tradeid for e in events_of([watcher.read()]) if isinstance(e, VenueTrade)]
                numbers = [int(tradeid) for tradeid in (*shown, *streamed)]
                assert numbers == list(range(1, len(numbers) + 1))
                streamed_total += len(streamed)
    finally:
        stop.set()
        trader.join()
    assert streamed_total >= 200
    venue.assert_sound()


def _trade_until(venue: VenueProcess, stop: threading.Event) -> None:
    with RawClient(venue.socket) as trader:
        trader.log_in()
        while not stop.is_set():
            trader.until(has_trade(trader.place(order("LONG", 1, 3501))))


# --- what must not hurt it ---


def _msgpack(value: object) -> bytes:
    body = msgspec.msgpack.encode(value)
    return struct.pack(">I", len(body)) + body


BAD = {
    "noise": os.urandom(64) + b"\xff" * 64,
    "too large": struct.pack(">I", wire.REQUEST_LIMIT + 1) + b"x" * 100,
    "no message": _msgpack([1, 2, 3]),
    "unknown message": _msgpack({"m": "Launch"}),
    "wrong field": _msgpack({"m": "Query", "number": "one", "topic": "orders"}),
    "empty frame": struct.pack(">I", 0),
    "deep": struct.pack(">I", 4_000) + b"\x91" * 4_000,
    "bad text": struct.pack(">I", 4) + b"\xa3\xff\xfe\xfd",
    "order before login": wire.frame(wire.Place(orderid="1-1", order=order("LONG", 1, 3501))),
    "other protocol": wire.frame(wire.Login(protocol=99)),
    "login twice": wire.frame(wire.Login()) * 2,
    "id of no session": wire.frame(wire.Login()) + wire.frame(wire.Place(orderid="x", order=order("LONG", 1, 3501))),
    "naive since": wire.frame(wire.Login())
    + wire.frame(wire.Query(number=1, topic="orders", since=datetime(2026, 1, 1))),
    "bad switch": wire.frame(wire.Switches(double_p=2.0)),
    "book of nothing": wire.frame(wire.Book(symbol="zz1", exchange="SHFE", bid=1, ask=2, volume=1)),
}


@pytest.mark.parametrize("name", BAD)
def test_a_client_that_speaks_nonsense_is_disconnected_and_nobody_else_is(venue, client, name):
    before = venue.orders()
    with RawClient(venue.socket) as bad:
        bad.socket.sendall(BAD[name])
        with pytest.raises((EOFError, ConnectionError)):
            while True:
                bad.read()
    assert venue.orders() == before
    orderid = client.place(order("LONG", 1, 3501))
    client.until(has_trade(orderid))


def test_a_client_that_goes_in_the_middle_of_a_frame_leaves_no_order(venue, client):
    before = len(venue.orders())
    whole = wire.frame(wire.Login()) + wire.frame(wire.Place(orderid="424242-1", order=order("LONG", 1, 3501)))
    for cut in (1, 5, len(whole) - 1):
        with RawClient(venue.socket) as gone:
            gone.socket.sendall(whole[:cut])
    client.query("account")
    assert len(venue.orders()) == before


def test_bye_ends_the_connection(client):
    client.send(wire.Bye())
    with pytest.raises((EOFError, ConnectionError)):
        client.read()


def test_controls_are_refused_without_faults():
    with VenueProcess(faults=False) as venue, RawClient(venue.socket) as client:
        client.send(wire.Ask())
        with pytest.raises((EOFError, ConnectionError)):
            client.read()


def test_a_client_that_stops_reading_is_disconnected_and_memory_stays_bounded():
    generated = VenueProcess(market="generated", rate=4000)
    with generated as venue, RawClient(venue.socket) as deaf, RawClient(venue.socket) as reader:
        for client in (deaf, reader):
            client.log_in()
        deaf.send(wire.Subscribe(symbol="rb2701", exchange="SHFE"))
        deaf.send(wire.Subscribe(symbol="BTCUSDT", exchange="GLOBAL"))
        before, deadline = venue.rss_mb(), time.monotonic() + 60
        while not venue.counters().overflowed:
            assert time.monotonic() < deadline, "it was never disconnected"
            time.sleep(0.05)
        assert venue.rss_mb() < before + 40
        assert reader.query("account")
        assert venue.counters().clients == 1


def test_a_client_that_asks_and_does_not_read_is_not_heard_until_it_does(venue, client):
    for _ in range(1500):
        last = client.place(order("LONG", 1, 3501))
    client.until(has_trade(last), 30)
    with RawClient(venue.socket, timeout=0.5) as greedy:
        greedy.send(wire.Login())
        before = venue.rss_mb()
        with pytest.raises(TimeoutError):
            for number in range(1, 200_000):
                greedy.send(wire.Query(number=number, topic="orders"))
        assert venue.rss_mb() < before + 40
        assert client.query("account")


# --- its files and its life ---


def test_only_its_user_can_open_the_socket(venue):
    mode = venue.socket.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


def _refusal(venue: VenueProcess) -> str:
    done = subprocess.run(venue.command, check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_the_socket_of_a_living_venue_is_refused_and_of_a_dead_one_replaced(tmp_path):
    with VenueProcess() as venue:
        with socket.socket(socket.AF_UNIX) as dead:
            venue.stop()
            dead.bind(str(venue.socket))
        assert stat.S_ISSOCK(venue.socket.stat().st_mode)
        venue.start()
        assert "in use by another venue" in _refusal(venue)
        venue.counters()
        other = VenueProcess(venue.folder)
        other.command[other.command.index("--socket") + 1] = str(venue.folder / "other.sock")
        assert "ledger.sqlite is in use" in _refusal(other)
        venue.counters()


def test_what_is_no_venues_socket_is_left_alone():
    with VenueProcess() as venue:
        venue.stop()
        venue.socket.write_text("mine")
        assert "no socket" in _refusal(venue)
        assert venue.socket.read_text() == "mine"
        venue.socket.unlink()
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.bind(str(venue.socket))
            stranger.listen()
            assert "somebody is listening" in _refusal(venue)
        venue.socket.unlink()


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--market", "real", "market"),
        ("--contracts", "absent.toml", "absent.toml"),
        ("--symbols", "xx1.SHFE", "xx1"),
        ("--socket", "/tmp/" + "x" * 120, "longer"),
        ("--ledger", "/proc/ledger", "/proc/ledger"),
    ],
)
def test_a_wrong_option_is_named(option, value, named):
    with VenueProcess() as venue:
        venue.stop()
        if option in venue.command:
            venue.command[venue.command.index(option) + 1] = value
        assert named in _refusal(venue)


def test_books_and_session_numbers_outlive_the_process():
    with VenueProcess(seed=5) as venue:
        with RawClient(venue.socket) as client:
            client.log_in()
            venue.book()
            filled = client.place(order("LONG", 1, 3501))
            client.until(has_trade(filled))
            venue.book(volume=0)
            resting = client.place(order("LONG", 1, 3400))
            client.until(has_order(resting, "NOTTRADED"))
        venue.stop()
        assert re.search(r"faults are allowed, seed 5", venue.log.read_text())
        venue.start()
        with RawClient(venue.socket) as client:
            orders = {e.orderid: e.status for e in client.log_in() if isinstance(e, VenueOrder)}
            assert orders == {filled: "ALLTRADED", resting: "NOTTRADED"}
            assert client.welcome.session == 2
            client.send(wire.Cancel(orderid=resting))
            client.until(has_order(resting, "CANCELLED"))
            venue.book()
            client.until(has_trade(client.place(order("LONG", 1, 3501))))
            venue.stop()
        assert "Traceback" not in venue.log.read_text()
        assert not venue.socket.exists()
        venue.assert_sound()


def test_a_venue_that_is_killed_has_booked_all_that_it_told():
    with VenueProcess() as venue, RawClient(venue.socket) as client:
        client.log_in()
        venue.book()
        told = [client.place(order("LONG", 1, 3501)) for _ in range(50)]
        client.until(has_trade(told[-1]))
        os.kill(venue.pid, signal.SIGKILL)
        venue.process.wait()
        venue._control.close()
        venue._control = None
        venue.start()
        assert set(venue.orders()) >= set(told)
        venue.assert_sound()


def test_books_that_cannot_be_written_refuse_orders_in_words_and_go_on_by_themselves():
    with VenueProcess() as venue, RawClient(venue.socket) as client:
        client.log_in()
        venue.book(volume=0)
        resting = [client.place(order("LONG", 1, 3400)) for _ in range(50)]
        client.until(has_order(resting[-1], "NOTTRADED"))
        whole = resource.prlimit(venue.pid, resource.RLIMIT_FSIZE)
        wal = venue.ledger.with_name(f"{venue.ledger.name}-wal")
        resource.prlimit(venue.pid, resource.RLIMIT_FSIZE, (wal.stat().st_size, whole[1]))
        refused = client.place(order("LONG", 1, 3400))
        [told] = events_of(client.until(has_order(refused, "REJECTED")))
        assert "cannot be written" in told.reason
        client.send(wire.Cancel(orderid=resting[0]))
        [notice] = client.until(lambda answer: isinstance(answer, wire.Notice))
        assert "was not cancelled" in notice.text
        venue.book(bid=3300, ask=3301)
        with RawClient(venue.socket) as late, pytest.raises(EOFError):
            late.log_in()
        resource.prlimit(venue.pid, resource.RLIMIT_FSIZE, whole)
        assert set(venue.orders()) == set(resting)
        venue.book(bid=3300, ask=3301)
        client.until(has_order(resting[-1], "ALLTRADED"))
        assert len(venue.trades()) == 50
        venue.assert_sound()


def test_a_replay_begins_with_the_first_subscription_and_loses_no_tick(tmp_path):
    begin = datetime(2026, 11, 20, 9, 0)
    rows = [
        f"{RB},{begin + timedelta(seconds=n)},{3500 + n % 7},{n * 3},{3500 + n % 7},20,{3501 + n % 7},20\n"
        for n in range(5000)
    ]
    recording = tmp_path / "ticks.csv"
    header = "vt_symbol,datetime,last_price,volume,bid_price_1,bid_volume_1,ask_price_1,ask_volume_1\n"
    recording.write_text(header + "".join(rows))
    replay = VenueProcess(market="replay", symbols="", files=recording, speed=0)
    with replay as venue, RawClient(venue.socket) as client:
        client.log_in()
        assert client.welcome.live is False
        client.send(wire.Subscribe(symbol="rb2701", exchange="SHFE"))
        volumes: list[float] = []
        while len(volumes) < 5000:
            answer = client.read()
            if isinstance(answer, wire.Tick):
                volumes.append(answer.snapshot.volume)
        assert volumes == [n * 3 for n in range(5000)]
