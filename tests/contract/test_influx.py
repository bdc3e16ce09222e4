"""What only the InfluxDB store does: on a real influxd 1.6.7 behind the proxy, its encoder also on VictoriaMetrics."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import structlog
from pydantic import SecretStr

from testkit.influx import PASSWORD, InfluxDb, Proxy, VictoriaMetrics, settings_of, shut
from testkit.servers import free_port, running
from testkit.small_disk import fill, small_disk
from vnpy_core.adapters.timeseries.influx import InfluxStore
from vnpy_core.adapters.timeseries.influx.connection import Connection
from vnpy_core.adapters.timeseries.influx.lines import bar_bodies, tick_bodies
from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings
from vnpy_core.domain.errors import ConfigurationError, StorageFull, TimeSeriesUnavailable, ValidationFailed
from vnpy_core.domain.history import (
    BAR_NUMBERS,
    FIRST_NS,
    LAST_NS,
    NS,
    TICK_NUMBERS,
    Interval,
    Merged,
    Series,
    TickArray,
    TickBatch,
    empty_bars,
    empty_ticks,
)

RB = Series("rb2410", "SHFE")
NOON = 1_700_000_000 * NS
TIMEOUT_S = 1.0
DISK_MB = 24


@pytest.fixture
def server(influxdb: InfluxDb) -> Iterator[InfluxDb]:
    """There again afterwards, whatever the test did to it."""
    yield influxdb
    influxdb.resume()
    if not influxdb.running:
        influxdb.start()


@pytest.fixture
def settings(influxdb: InfluxDb) -> TimeSeriesSettings:
    """Of a fresh database."""
    return settings_of(influxdb, influxdb.fresh_database(), timeout_s=TIMEOUT_S)


@pytest.fixture
def make() -> Iterator[Callable[[TimeSeriesSettings], InfluxStore]]:
    """Stores that are closed afterwards."""
    made: list[InfluxStore] = []

    def store(settings: TimeSeriesSettings) -> InfluxStore:
        made.append(InfluxStore(settings))
        return made[-1]

    yield store
    for one in made:
        one.close()


@pytest.fixture
def store(make, settings) -> InfluxStore:
    store = make(settings)
    store.open()
    return store


def some_ticks(count: int, start_ns: int = NOON, step_ns: int = NS // 2, price: float = 3500.0) -> TickArray:
    ticks = empty_ticks(count)
    ticks["ts"] = start_ns + np.arange(count) * step_ns
    ticks["last_price"] = price
    ticks["volume"] = np.arange(count)
    return ticks


def stored(store: InfluxStore, series: Series = RB) -> TickArray:
    parts = list(store.ticks(series, FIRST_NS, LAST_NS))
    return np.concatenate(parts) if parts else empty_ticks()


# --- what is written comes back ---


def test_every_finite_number_comes_back_bit_by_bit(store):
    bits = np.random.default_rng(7).integers(0, 2**64, 3_000, np.uint64, endpoint=False)
    numbers = bits.view(np.float64)
    numbers = numbers[np.isfinite(numbers)]
    numbers = np.concatenate([numbers, [5e-324, 1.7976931348623157e308, 2**53 - 1, 2**53, 1e22, 0.1, -0.5, 3e15]])
    ticks = some_ticks(len(numbers))
    ticks["localtime"] = np.arange(len(numbers)) * 1_234_567_890_123
    for shift, name in enumerate(TICK_NUMBERS):
        ticks[name] = np.roll(numbers, shift)
    store.append_ticks(TickBatch({RB: ticks}))
    assert stored(store).tobytes() == ticks.tobytes()


def test_a_tick_of_zeros_is_a_tick(store):
    ticks = empty_ticks(2)
    ticks["ts"] = [NOON, NOON + NS]
    store.append_ticks(TickBatch({RB: ticks}))
    assert stored(store).tobytes() == ticks.tobytes()
    assert [len(part) for part in store.ticks(RB, FIRST_NS, LAST_NS, columns=("volume",))] == [2]


def test_numbers_that_are_zero_in_some_rows_only_come_back_as_zero(store):
    ticks = some_ticks(10)
    ticks["bid_price_3"][4] = 3499.5
    ticks["localtime"][7] = NOON
    store.append_ticks(TickBatch({RB: ticks[:5], Series("ag2412", "SHFE"): ticks[5:]}))
    assert np.concatenate([stored(store), stored(store, Series("ag2412", "SHFE"))]).tobytes() == ticks.tobytes()


def test_a_bar_that_takes_anothers_place_keeps_none_of_its_numbers(store):
    bars = empty_bars(1)
    bars["ts"] = NOON
    for name in BAR_NUMBERS:
        bars[name] = 7.5
    assert store.merge_bars(RB, Interval.MINUTE, bars) == Merged(1, 0)
    empty = empty_bars(1)
    empty["ts"] = NOON
    assert store.merge_bars(RB, Interval.MINUTE, empty) == Merged(0, 1)
    (back,) = store.bars(RB, Interval.MINUTE, FIRST_NS, LAST_NS)
    assert back.tobytes() == empty.tobytes()


def test_a_long_range_comes_in_arrays_and_without_what_is_written_meanwhile(store):
    ticks = some_ticks(25_000)
    store.append_ticks(TickBatch({RB: ticks}))
    parts = store.ticks(RB, FIRST_NS, LAST_NS)
    begin = next(parts)
    store.append_ticks(TickBatch({RB: some_ticks(10, start_ns=NOON + 10**6 * NS)}))
    rest = list(parts)
    assert len(begin) < 25_000
    assert np.concatenate([begin, *rest]).tobytes() == ticks.tobytes()
    assert sum(map(len, store.ticks(RB, FIRST_NS, LAST_NS, limit=12_345))) == 12_345
    assert store.last_ticks(RB, LAST_NS, 12_000)["ts"].tolist() == stored(store)["ts"][-12_000:].tolist()


# --- names ---

HOSTILE = [
    "two words",
    " space around ",
    "a,b=c",
    "'quoted'",
    '"double"',
    "back\\slash",
    "ends with\\",
    "\\'",
    "line\nbreak",
    "100%25",
    "螺纹钢",
    "#comment",
    "x' OR '1'='1",
    "x'; DROP MEASUREMENT tick; --",
    '$symbol"',
    "/.*/",
]


def test_symbols_of_any_kind_are_kept_apart(store):
    batch = TickBatch(
        {Series(symbol, "GLOBAL"): some_ticks(2, price=1.0 + n) for n, symbol in enumerate(HOSTILE)},
        {Series(symbol, "GLOBAL"): symbol for symbol in HOSTILE},
    )
    store.append_ticks(batch)
    for n, symbol in enumerate(HOSTILE):
        assert stored(store, Series(symbol, "GLOBAL"))["last_price"].tolist() == [1.0 + n] * 2
    found = {coverage.series.symbol: coverage for coverage in store.overview()}
    assert set(found) == set(HOSTILE)
    assert all(coverage.name == symbol and coverage.count == 2 for symbol, coverage in found.items())


def test_deleting_takes_nothing_of_other_symbols(store):
    for symbol in HOSTILE:
        store.merge_bars(Series(symbol, "GLOBAL"), Interval.DAILY, bars_at(NOON))
        store.merge_ticks(Series(symbol, "GLOBAL"), some_ticks(3))
    for done, symbol in enumerate(HOSTILE, 1):
        assert store.delete_ticks(Series(symbol, "GLOBAL"), FIRST_NS, LAST_NS) == 3
        assert store.delete_bars(Series(symbol, "GLOBAL"), Interval.DAILY, FIRST_NS, LAST_NS) == 1
        assert len(store.overview()) == 2 * (len(HOSTILE) - done)


def test_what_others_write_to_the_same_measurements_is_left_alone(store):
    connection = store._connection
    for line in (
        "tick price=1 1",
        "tick,symbol=x last_price=1 1",
        "bar,symbol=x,exchange=y,interval=7m close_price=1 1",
    ):
        connection.write(line.encode())
    store.append_ticks(TickBatch({RB: some_ticks(1)}))
    assert [(coverage.series, coverage.count) for coverage in store.overview()] == [(RB, 1)]


def test_a_contract_without_a_symbol_is_refused(store):
    with pytest.raises(ValidationFailed, match="empty symbol"):
        store.append_ticks(TickBatch({Series("", "SHFE"): some_ticks(1)}))
    with pytest.raises(ValidationFailed, match="empty symbol"):
        list(store.ticks(Series("rb2410", ""), FIRST_NS, LAST_NS))


def bars_at(*starts: int):
    bars = empty_bars(len(starts))
    bars["ts"] = starts
    bars["close_price"] = 10.0
    return bars


# --- ordinals ---


def test_ticks_of_one_time_from_two_stores_and_many_threads_are_all_kept(store, make, settings):
    other = make(settings)
    other.open()
    other.append_ticks(TickBatch({RB: some_ticks(3, step_ns=0)}))

    def append() -> None:
        for _ in range(5):
            store.append_ticks(TickBatch({RB: some_ticks(2, step_ns=0)}))

    threads = [threading.Thread(target=append) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.append_ticks(TickBatch({RB: some_ticks(3, step_ns=0)}))
    assert stored(store)["ts"].tolist() == [NOON + ordinal for ordinal in range(46)]


def test_a_late_tick_goes_behind_those_of_its_time(store):
    store.append_ticks(TickBatch({RB: some_ticks(4)}))
    late = TickBatch({RB: some_ticks(4, price=1.0)[1:3]})
    store.append_ticks(late)
    assert (late.ticks[RB]["ts"] % 1000).tolist() == [1, 1]
    assert len(stored(store)) == 6


def test_a_batch_that_may_have_been_stored_does_not_share_its_times(server, store):
    """Its write was not acknowledged: another one of that time must not take its place when it is written again."""
    first, second = TickBatch({RB: some_ticks(1, price=1.0)}), TickBatch({RB: some_ticks(1, price=2.0)})
    write, store._connection.write = store._connection.write, refuse
    with pytest.raises(TimeSeriesUnavailable):
        store.append_ticks(first)
    store._connection.write = write
    assert first.stamped
    store.append_ticks(second)
    store.append_ticks(first)
    assert sorted(stored(store)["last_price"]) == [1.0, 2.0]


def refuse(body: bytes) -> None:
    raise TimeSeriesUnavailable("no answer")


def test_a_microsecond_that_is_full_spills_over_and_loses_nothing(store):
    store.append_ticks(TickBatch({RB: some_ticks(999, step_ns=0)}))
    batch = TickBatch({RB: some_ticks(3, step_ns=0), Series("ag2412", "SHFE"): some_ticks(1_500, step_ns=0)})
    store.append_ticks(batch)
    assert stored(store)["ts"].tolist() == list(range(NOON, NOON + 1_002))
    assert stored(store, Series("ag2412", "SHFE"))["ts"].tolist() == list(range(NOON, NOON + 1_500))
    assert store.merge_ticks(RB, some_ticks(999, step_ns=0)) == Merged(0, 999)


def test_a_batch_that_is_written_again_makes_way_for_others(store, make, settings):
    """Another process took its time between the first try, which failed, and the second."""
    other = make(settings)
    other.open()
    batch = TickBatch({RB: some_ticks(2, price=1.0)})
    write, store._connection.write = store._connection.write, refuse
    with pytest.raises(TimeSeriesUnavailable):
        store.append_ticks(batch)
    store._connection.write = write
    other.append_ticks(TickBatch({RB: some_ticks(1, price=2.0)}))
    for _ in range(2):
        store.append_ticks(batch)
        assert sorted(stored(store)["last_price"]) == [1.0, 1.0, 2.0]


# --- the server's troubles ---


def test_a_server_that_is_not_there_is_unavailable(make):
    store = make(
        TimeSeriesSettings(kind="influxdb", url=f"http://127.0.0.1:{free_port()}", timeout_s=TIMEOUT_S, bucket="b")
    )
    with pytest.raises(TimeSeriesUnavailable, match="is away"):
        store.open()
    assert not store.state().available
    assert "refused" in store.state().detail


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_what_was_acknowledged_survives_a_restart(server, store, how):
    store.append_ticks(TickBatch({RB: some_ticks(1_000)}))
    getattr(server, how)()
    batch = TickBatch({RB: some_ticks(10, start_ns=NOON + 10**6 * NS)})
    for call in (
        lambda: store.append_ticks(batch),
        lambda: store.merge_bars(RB, Interval.MINUTE, bars_at(NOON)),
        lambda: stored(store),
        store.overview,
        lambda: store.delete_ticks(RB, FIRST_NS, LAST_NS),
    ):
        with pytest.raises(TimeSeriesUnavailable):
            call()
    assert not store.state().available
    server.start()
    assert len(stored(store)) == 1_000
    store.append_ticks(batch)
    assert len(stored(store)) == 1_010
    assert store.state().available


def test_a_hung_server_is_unavailable_in_time(server, store):
    server.pause()
    began = time.monotonic()
    waiting = [threading.Thread(target=suppressed, args=[lambda: stored(store)]) for _ in range(3)]
    for thread in waiting:
        thread.start()
    with pytest.raises(TimeSeriesUnavailable, match="in time"):
        store.append_ticks(TickBatch({RB: some_ticks(1)}))
    assert not store.state().available
    for thread in waiting:
        thread.join()
    assert time.monotonic() - began < 10
    server.resume()
    store.append_ticks(TickBatch({RB: some_ticks(1)}))
    assert len(stored(store)) == 1


def suppressed(call: Callable[[], object]) -> None:
    with pytest.raises(TimeSeriesUnavailable):
        call()


def test_writes_behind_a_hung_one_do_not_wait_forever(server, store):
    server.pause()
    writers = [
        threading.Thread(target=suppressed, args=[lambda: store.append_ticks(TickBatch({RB: some_ticks(1)}))])
        for _ in range(3)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(10)
    assert not any(writer.is_alive() for writer in writers)


def test_states_of_a_hung_server_do_not_pile_up(server, store):
    server.pause()
    states = [store.state() for _ in range(3)]
    assert not any(state.available for state in states)
    assert sum(thread.name == "influx-probe" for thread in threading.enumerate()) <= 1


def test_an_abandoned_reading_leaves_nothing_open(store):
    store.append_ticks(TickBatch({RB: some_ticks(25_000)}))
    for _ in range(5):
        reading = store.ticks(RB, FIRST_NS, LAST_NS)
        next(reading)
        reading.close()
    assert len(stored(store)) == 25_000


class Cutting(Proxy):
    """A bad line: each connection breaks after so many bytes of answers."""

    cut_after = 0

    def pass_on(self, server: socket.socket, client: socket.socket) -> None:
        left = self.cut_after
        with contextlib.suppress(OSError):
            while left > 0 and (data := server.recv(min(left, 65536))):
                client.sendall(data)
                left -= len(data)
        shut(client)


@pytest.fixture
def line(influxdb: InfluxDb) -> Iterator[Cutting]:
    line = Cutting(free_port(), influxdb.direct_port)
    yield line
    line.close()


@pytest.mark.parametrize("cut_after", [0, 100, 350, 1_000_000])
def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(store, settings, make, line, cut_after):
    store.append_ticks(TickBatch({RB: some_ticks(12_000)}))
    line.cut_after = 10**9
    broken = make(settings.model_copy(update={"url": f"http://127.0.0.1:{line.port}"}))
    broken.open()
    assert len(stored(broken)) == 12_000
    broken.close()
    line.cut_after = cut_after
    broken._connection.open()
    with pytest.raises(TimeSeriesUnavailable):
        stored(broken)


def test_a_batch_whose_acknowledgement_was_lost_is_stored_once(store):
    write = store._connection.write

    def lose(body: bytes) -> None:
        write(body)
        refuse(body)

    batch = TickBatch({RB: some_ticks(5, step_ns=0)})
    store._connection.write = lose
    with pytest.raises(TimeSeriesUnavailable):
        store.append_ticks(batch)
    store._connection.write = write
    store.append_ticks(batch)
    assert len(stored(store)) == 5


# --- the operator's mistakes ---


@pytest.mark.parametrize("token", ["trader:wrong", "nobody:nothing", "onlyatoken", ""])
def test_a_wrong_token_is_told_and_not_shown(make, influxdb, settings, token, caplog):
    caplog.set_level(logging.DEBUG)
    store = make(settings.model_copy(update={"token": SecretStr(token)}))
    with (
        structlog.testing.capture_logs() as logs,
        pytest.raises(ConfigurationError, match="timeseries.token") as raised,
    ):
        store.open()
    assert not store.state().available
    if token:
        said = (
            f"{raised.value!r} {raised.value.__cause__!r} {raised.value.__cause__} {store.state()} {caplog.text} {logs}"
        )
        assert token.rpartition(":")[2] not in said


def test_a_user_who_may_not_write_is_told(make, server, settings):
    server.query(f"CREATE USER reader WITH PASSWORD '{PASSWORD}'")
    server.query(f"GRANT READ ON {settings.bucket} TO reader")
    store = make(settings.model_copy(update={"token": SecretStr(f"reader:{PASSWORD}")}))
    with pytest.raises(ConfigurationError, match="may read and write"):
        store.open()


def test_a_bucket_that_is_not_there_is_told(make, influxdb):
    with pytest.raises(ConfigurationError, match="there is no 'nowhere'"):
        make(settings_of(influxdb, "nowhere")).open()


def test_a_bucket_that_was_dropped_is_told_when_reading(server, store, settings):
    server.query(f"DROP DATABASE {settings.bucket}")
    with pytest.raises(ConfigurationError, match="there is no"):
        stored(store)
    assert "there is no" in store.state().detail


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"url": "localhost:8086"}, "is no URL"),
        ({"url": "http://"}, "is no URL"),
        ({"url": "http://trader:s3cret@127.0.0.1:8086"}, "log-in"),
        ({"bucket": ""}, "bucket is empty"),
    ],
)
def test_settings_that_cannot_be_right_are_told(make, settings, changes, match):
    with pytest.raises(ConfigurationError, match=match) as raised:
        make(settings.model_copy(update=changes)).open()
    assert "s3cret" not in str(raised.value)


def test_points_that_the_server_would_not_take_are_told(server, store):
    store._connection.write(f'tick,symbol=rb2410,exchange=SHFE last_price="text" {NOON - NS}'.encode())
    with pytest.raises(ConfigurationError, match="only a part"):
        store.append_ticks(TickBatch({RB: some_ticks(3)}))


def test_points_that_retention_drops_are_told(server, store, settings):
    server.query(f"ALTER RETENTION POLICY autogen ON {settings.bucket} DURATION 24h SHARD DURATION 1h")
    with pytest.raises(ConfigurationError, match="only a part.*retention"):
        store.append_ticks(TickBatch({RB: some_ticks(3)}))


# --- a full disk ---


@pytest.fixture
def small() -> Iterator[InfluxDb]:
    """A server with a small disk."""
    if reason := InfluxDb.missing():
        pytest.skip(reason)
    server = InfluxDb()
    try:
        with small_disk(server.folder, DISK_MB):
            try:
                server.start()
                yield server
            finally:
                server.kill()
    finally:
        server.remove()


def test_a_full_disk_is_told_and_nothing_acknowledged_is_lost(small, make):
    store = make(settings_of(small, small.fresh_database()))
    store.open()
    store.append_ticks(TickBatch({RB: some_ticks(1_000)}))
    ballast = fill(small.folder)
    batch = TickBatch({RB: some_ticks(5_000, start_ns=NOON + 10**6 * NS)})
    with pytest.raises(StorageFull):
        store.append_ticks(batch)
    ballast.unlink()
    small.kill()
    small.start()
    store.append_ticks(batch)
    assert len(stored(store)) == 6_000


# --- another server's understanding of the lines ---


@pytest.fixture(scope="module")
def victoria() -> Iterator[VictoriaMetrics]:
    with running(VictoriaMetrics) as server:
        yield server


def test_another_server_reads_the_same_from_the_lines(victoria):
    """VictoriaMetrics keeps milliseconds and 15 digits or so, and makes of each field a series `measurement_field`."""
    names = ["rb2410", "two words", "a,b=c", 'it\'s "so"', "螺纹钢"]
    ticks = some_ticks(50, step_ns=NS)
    numbers = np.random.default_rng(3).normal(0, 4000, (len(TICK_NUMBERS), 50)).round(2)
    for row, name in enumerate(TICK_NUMBERS):
        ticks[name] = numbers[row]
    ticks["volume"] = np.arange(50) * 10
    bars = bars_at(NOON, NOON + 60 * NS)
    connection = Connection(settings_of(victoria, "any"))
    connection.open()
    try:
        for body in tick_bodies({Series(name, "SHFE"): ticks for name in names}):
            connection.write(body)
        for body in bar_bodies(RB, Interval.MINUTE, bars):
            connection.write(body)
    finally:
        connection.close()
    for field in TICK_NUMBERS:
        found = {series["metric"]["symbol"]: series for series in victoria.export(f'tick_{field}{{exchange="SHFE"}}')}
        assert set(found) == set(names)
        for series in found.values():
            assert series["values"] == ticks[field].tolist()
            assert series["timestamps"] == (ticks["ts"] // 1_000_000).tolist()
    (close,) = victoria.export('bar_close_price{symbol="rb2410",interval="1m"}')
    assert close["values"] == [10.0, 10.0]


def test_a_server_that_cannot_be_read_from_is_told(make, victoria):
    with pytest.raises(ConfigurationError, match="cannot be read back"):
        make(settings_of(victoria, "any")).open()
