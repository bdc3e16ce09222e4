import gzip
import json
import zipfile
from datetime import UTC, datetime

import numpy as np
import pytest

from testkit.memory_timeseries import MemoryTimeSeries
from vnpy_core.domain.bars import Period, bars_from_ticks
from vnpy_core.domain.errors import StorageFull, TimeSeriesUnavailable, ValidationFailed
from vnpy_core.domain.history import LAST_NS, TICK_NUMBERS, Interval, Series, to_datetime
from vnpy_core.features.market_data.exporting import ExportSpec, run_export
from vnpy_core.features.market_data.importing import ImportSpec, run_import

HEADER = "symbol,exchange,datetime,last_price,volume\n"
KLINES = {
    "datetime": "datetime_ns", "open_price": "open", "high_price": "high", "low_price": "low", "close_price": "close",
    "volume": "volume", "open_interest": "close_oi",
}  # fmt: skip


def lines(count, start=0):
    return "".join(f"X,GLOBAL,{1704067200 + n},{n % 7},{n}\n" for n in range(start, start + count))


@pytest.fixture
def store():
    return MemoryTimeSeries()


@pytest.fixture
def run(store, tmp_path):
    """Import a text, bytes or a path; returns the result."""

    def run(content, kind="tick", progress=None, into=store, resolve={}.get, **spec):
        path = content
        if isinstance(content, (str, bytes)):
            path = tmp_path / "upload"
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            spec.setdefault("name", "f")
        told = [] if progress is None else progress
        return run_import(ImportSpec(path=str(path), kind=kind, **spec), into, resolve, lambda *step: told.append(step))

    return run


def ticks_of(store, vt_symbol):
    return np.concatenate(list(store.ticks(Series(*vt_symbol.rsplit(".", 1)), 0, LAST_NS)))


def bars_of(store, vt_symbol):
    return np.concatenate(list(store.bars(Series(*vt_symbol.rsplit(".", 1)), Interval.MINUTE, 0, LAST_NS)))


def moment(second):
    return datetime.fromtimestamp(1704067200 + second, UTC)


# --- what an import says ---


def test_an_import_says_what_it_did_and_again_changes_nothing(run, store):
    text = HEADER + lines(10) + "X,GLOBAL,1704067200,x,0\n" + lines(5, 8)
    result = run(text)
    assert (result.rows, result.added, result.known, result.bad_count) == (15, 13, 2, 1)
    assert [(bad.place, bad.reason) for bad in result.bad] == [("f:12", "'x' is not a number")]
    assert (result.series, result.start, result.end) == (["X.GLOBAL"], moment(0), moment(12))
    before = ticks_of(store, "X.GLOBAL").tobytes()
    again = run(text)
    assert (again.rows, again.added, again.known) == (15, 0, 15)
    assert ticks_of(store, "X.GLOBAL").tobytes() == before


def test_rows_that_are_alike_are_one_tick_and_others_of_the_same_moment_are_kept(run, store):
    row = "X,GLOBAL,1704067200,1,{}\n"
    result = run(HEADER + row.format(1) * 3 + row.format(2))
    assert (result.rows, result.added, result.known) == (4, 2, 2)
    assert ticks_of(store, "X.GLOBAL")["volume"].tolist() == [1, 2]


def test_out_of_order_rows_are_all_stored_in_order(run, store):
    shuffled = lines(1000).splitlines(keepends=True)
    np.random.default_rng(1).shuffle(shuffled)
    assert run(HEADER + "".join(shuffled)).added == 1000
    assert ticks_of(store, "X.GLOBAL")["volume"].tolist() == list(range(1000))


def test_bars_are_stored_under_their_interval_and_written_over(run, store):
    header = "symbol,exchange,datetime,open,high,low,close,volume\n"
    run(header + "X,GLOBAL,2024-01-01 00:00:00,1,2,1,2,3\n", "bar", interval="1h")
    result = run(header + "X,GLOBAL,2024-01-01 00:00:00,1,2,1,2,4\n", "bar", interval="1h")
    assert (result.added, result.known) == (0, 1)
    [coverage] = store.overview()
    assert (coverage.interval, coverage.count) == (Interval.HOUR, 1)
    [bars] = store.bars(coverage.series, Interval.HOUR, 0, LAST_NS)
    assert bars["volume"].tolist() == [4]
    run(header + "X,GLOBAL,2024-01-01,1,2,1,2,3\n", "bar", interval="1d")
    assert {known.interval for known in store.overview()} == {Interval.HOUR, Interval.DAILY}


@pytest.mark.parametrize("interval", ["5m", "2h", "tick", ""])
def test_bars_of_other_lengths_are_refused(run, interval):
    with pytest.raises(ValidationFailed):
        run("symbol,exchange,datetime,open,high,low,close\n", "bar", interval=interval)


def test_the_contracts_name_goes_into_the_store(run, store):
    run("symbol,exchange,datetime,last_price,name\nX,GLOBAL,1704067200,1,Ex\n")
    assert store.overview()[0].name == "Ex"


def test_the_exchange_is_asked_for_or_given(run):
    text = "symbol,datetime,last_price\nrb2501,1704067200,1\nX1,1704067200,1\n"
    result = run(text, resolve={"rb2501": "SHFE"}.get)
    assert (result.series, result.bad[0].reason) == (["rb2501.SHFE"], "no exchange is known for X1")
    assert run(text, vt_symbol="any.EUX").series == ["X1.EUX", "rb2501.EUX"]
    with pytest.raises(ValidationFailed, match="'rb2501' is not symbol.exchange") as raised:
        run(text, vt_symbol="rb2501")
    assert raised.value.errors[0].field == "vt_symbol"


def test_progress_goes_up_to_one(run):
    for strict in (False, True):
        told = []
        run(HEADER + lines(50_000), progress=told, strict=strict)
        fractions = [fraction for fraction, _ in told]
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1.0
        assert len(fractions) > 5
        assert told[-1][1] == "50,000 rows"


# --- when something is wrong ---


def test_strict_stores_nothing_where_a_row_is_bad(run, store):
    with pytest.raises(
        ValidationFailed, match=r"nothing is stored: 2 rows are bad; f:12: 'x' is not a number"
    ) as raised:
        run(HEADER + lines(10) + "X,GLOBAL,1704067200,x,0\n" + "short\n" + lines(5, 20), strict=True)
    assert store.overview() == []
    assert [(e.field, e.message) for e in raised.value.errors] == [
        ("f:12", "'x' is not a number"),
        ("f:13", "1 columns instead of 5"),
    ]
    assert run(HEADER + lines(10), strict=True).added == 10


def test_of_a_truncated_gz_what_is_readable_is_stored_and_that_is_said_but_nothing_with_strict(run, store):
    data = gzip.compress((HEADER + lines(50_000)).encode())[:-10_000]
    with pytest.raises(ValidationFailed, match="f cannot be read after line .* Compressed file ended"):
        run(data, strict=True)
    assert store.overview() == []
    with pytest.raises(
        ValidationFailed, match="f cannot be read after line .* good rows before that are stored"
    ) as raised:
        run(data)
    [coverage] = store.overview()
    assert coverage.count > 1000
    assert f"the {coverage.count:,} good rows" in raised.value.detail
    assert run(HEADER + lines(50_000)).added == 50_000 - coverage.count


def test_other_members_of_an_archive_are_stored_where_one_is_damaged(run, store, tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for n, name in enumerate("abc"):
            archive.writestr(f"{name}.csv", HEADER + lines(20_000, n * 20_000))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ValidationFailed, match=r"x.zip/b.csv cannot be read"):
        run(path, name="x.zip")
    stored = set(ticks_of(store, "X.GLOBAL")["volume"])
    assert stored >= {*range(21_000), *range(40_000, 60_000)}


@pytest.mark.parametrize(
    "content", ["", "a,b\n1,2\n", "\0\1\2", "symbol,exchange,datetime,last_price\n".encode("utf-16")]
)
def test_what_is_no_table_of_ticks_is_refused(run, store, content):
    with pytest.raises(ValidationFailed, match="^f "):
        run(content)
    assert store.overview() == []


def test_a_file_of_bad_rows_only_is_refused_and_an_empty_table_is_not(run):
    with pytest.raises(ValidationFailed, match="no row is usable; f:2: 'x' is not a number"):
        run(HEADER + "X,GLOBAL,1704067200,x,0\n")
    result = run(HEADER)
    assert (result.rows, result.series, result.start, result.end) == (0, [], None, None)


@pytest.mark.parametrize("failure", [TimeSeriesUnavailable("away"), StorageFull("full")])
def test_a_store_that_fails_ends_the_import_which_may_be_repeated(run, store, failure):
    store.failures = [failure]
    with pytest.raises(type(failure)):
        run(HEADER + lines(10))
    assert run(HEADER + lines(10)).added == 10


def test_a_missing_file_is_refused(run, tmp_path):
    with pytest.raises(ValidationFailed, match="cannot be read"):
        run(tmp_path / "absent.csv")


# --- export ---


def exported(store, path, **spec):
    told = []
    count = run_export(ExportSpec(**spec), store, path, lambda *step: told.append(step))
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert told[-1] == (1.0, f"{count:,} rows")
    return count


def test_a_range_is_exported_without_its_end(run, store, tmp_path):
    run(HEADER + lines(100))
    begin = 1704067200 * 10**9
    bounds = {"start_ns": begin + 10 * 10**9, "end_ns": begin + 20 * 10**9}
    store.array = 3
    assert exported(store, tmp_path / "out", kind="tick", vt_symbol="X.GLOBAL", **bounds) == 10
    other = MemoryTimeSeries()
    run(tmp_path / "out", into=other)
    assert ticks_of(other, "X.GLOBAL")["volume"].tolist() == list(range(10, 20))


def test_what_is_not_there_is_exported_as_nothing(store, tmp_path):
    assert exported(store, tmp_path / "out", kind="bar", vt_symbol="X.GLOBAL") == 0


@pytest.mark.parametrize("spec", [{"vt_symbol": "X"}, {"vt_symbol": "X.GLOBAL", "interval": "5m"}])
def test_a_wrong_export_is_refused(store, tmp_path, spec):
    with pytest.raises(ValidationFailed):
        run_export(ExportSpec(kind="bar", **spec), store, tmp_path / "out", lambda *_: None)


# --- real files: imported, exported, imported again and equal ---


def comes_back(run, store, tmp_path, kind, vt_symbol, read):
    before = read(store, vt_symbol)
    for format in ("csv", "parquet"):
        path = tmp_path / f"out.{format}"
        assert exported(store, path, kind=kind, vt_symbol=vt_symbol, format=format) == len(before)
        other = MemoryTimeSeries()
        result = run(path, kind, into=other)
        assert (result.added, result.bad_count, result.series) == (len(before), 0, [vt_symbol])
        assert read(other, vt_symbol).tobytes() == before.tobytes()
    return before


@pytest.mark.realdata
def test_five_days_of_rubber_come_back_equal(run, store, tmp_path, shared_data):
    [path] = (shared_data / "ctp").glob("*.zip")
    result = run(path, resolve={"ru1901": "SHFE"}.get)
    assert (result.rows, result.added, result.bad_count) == (192_164, 192_164, 0)
    assert (result.start.isoformat(), result.end.isoformat()) == (
        "2018-10-08T01:00:00.500000+00:00", "2018-10-12T15:00:00.500000+00:00"
    )  # fmt: skip
    ticks = comes_back(run, store, tmp_path, "tick", "ru1901.SHFE", ticks_of)
    assert (np.diff(ticks["ts"]) > 0).all()
    friday_night = ticks[ticks["ts"] >= to_ns_of("2018-10-12T12:00:00+00:00")]
    assert len(friday_night)
    assert friday_night["volume"][0] < 10_000, "the next trading day's volume"


def to_ns_of(text):
    return int(datetime.fromisoformat(text).timestamp()) * 10**9


@pytest.mark.realdata
def test_a_day_of_rapeseed_meal_comes_back_equal(run, store, tmp_path, shared_data):
    result = run(shared_data / "czce" / "czce_RM705_20170320_tick.csv.gz", resolve={"RM705": "CZCE"}.get)
    assert (result.rows, result.bad_count) == (16_979, 0)
    assert result.added + result.known == 16_979
    comes_back(run, store, tmp_path, "tick", "RM705.CZCE", ticks_of)


@pytest.mark.realdata
def test_five_levels_of_copper_come_back_equal(run, store, tmp_path, shared_data):
    assert run(shared_data / "tqsdk" / "shfe_cu1909_5level_ticks.csv").added == 200
    ticks = comes_back(run, store, tmp_path, "tick", "cu1909.SHFE", ticks_of)
    assert (ticks["ask_volume_5"] > 0).sum() > 50
    assert all(np.isfinite(ticks[name]).all() for name in TICK_NUMBERS)


@pytest.mark.realdata
def test_copper_bars_come_back_equal(run, store, tmp_path, shared_data):
    path = shared_data / "tqsdk" / "shfe_cu1905_1m_klines.csv.gz"
    result = run(path, "bar", mapping=KLINES, vt_symbol="cu1905.SHFE")
    assert (result.rows, result.added, result.bad_count) == (21_729, 21_729, 0)
    assert (
        to_datetime(int(bars_of(store, "cu1905.SHFE")["ts"][0]))
        == result.start
        == datetime(2019, 3, 4, 14, 51, tzinfo=UTC)
    )
    comes_back(run, store, tmp_path, "bar", "cu1905.SHFE", bars_of)


@pytest.mark.realdata
def test_bitcoin_trades_alike_do_not_collapse_and_come_back_equal(run, store, tmp_path, shared_data):
    path, trades = tmp_path / "trades.csv", []
    with gzip.open(shared_data / "binance" / "usdm_btcusdt_20240808.gz", "rt") as frames:
        for line in frames:
            frame = json.loads(line.partition(" ")[2])
            if frame.get("data", {}).get("e") == "trade":
                trades.append((frame["data"]["T"], frame["data"]["p"], frame["data"]["q"]))
    assert len(trades) == 21_313
    assert len(trades) - len(set(trades)) == 2_732
    path.write_text("time,price,qty\n" + "".join(f"{','.join(map(str, trade))}\n" for trade in trades))
    mapping = {"datetime": "time", "last_price": "price", "last_volume": "qty"}
    spec = {"mapping": mapping, "vt_symbol": "BTCUSDT.GLOBAL"}
    result = run(path, **spec)
    assert (result.rows, result.added, result.known, result.bad_count) == (21_313, 21_313, 0, 0)
    assert run(path, **spec).known == 21_313
    ticks = comes_back(run, store, tmp_path, "tick", "BTCUSDT.GLOBAL", ticks_of)
    in_order = sorted(trades, key=lambda trade: trade[0])
    assert (ticks["ts"] // 1_000_000).tolist() == [time for time, *_ in in_order]
    assert ticks["last_price"].tolist() == [float(price) for _, price, _ in in_order]
    assert ticks["last_volume"].tolist() == [float(qty) for *_, qty in in_order]


# --- trades without a running total ---

TRADES = {"datetime": "time", "last_price": "price", "last_volume": "qty"}


def trades(*seconds, price=10):
    return "time,price,qty\n" + "".join(f"{1704067200 + n},{price},{n + 1}\n" for n in seconds)


def volumes(store):
    ticks = ticks_of(store, "T.GLOBAL")
    return sum(bars["volume"].sum() for bars in bars_from_ticks([ticks], Period.parse("1m"), "GLOBAL"))


@pytest.fixture
def run_trades(run):
    return lambda content, **spec: run(content, vt_symbol="T.GLOBAL", timezone="UTC", mapping=TRADES, **spec)


def test_trades_out_of_order_are_added_up_by_time_and_known_again(run_trades, store):
    run_trades(trades(3, 1, 0, 2, 4))
    assert volumes(store) == 15
    assert run_trades(trades(0, 1, 2, 3, 4)).known == 5


def test_trades_out_of_order_beyond_a_chunk_are_refused(run_trades, store, monkeypatch):
    monkeypatch.setattr("vnpy_core.recordings.reading.CHUNK_ROWS", 2)
    monkeypatch.setattr("vnpy_core.recordings.files.BLOCK_ROWS", 1)
    monkeypatch.setattr("vnpy_core.recordings.files._READ", 16)
    monkeypatch.setattr("vnpy_core.recordings.files._PIECE", 16)
    with pytest.raises(ValidationFailed, match=r"T.GLOBAL .* not in the order of their times: sort the file by time"):
        run_trades(trades(5, 6, 7, 8, 0, 1, 2, 3))


@pytest.mark.parametrize("strict", [False, True])
def test_trades_that_overlap_others_are_refused_since_their_totals_do_not_go_together(run_trades, store, strict):
    run_trades(trades(*range(10)))
    with pytest.raises(ValidationFailed, match=r"the store has other ticks of it from 2024-01-01 00:00:05"):
        run_trades(trades(*range(5, 15)), strict=strict)
    assert ticks_of(store, "T.GLOBAL").size == 10
    assert run_trades(trades(*range(10))).known == 10
    assert run_trades(trades(*range(10, 15))).added == 5
    assert volumes(store) == sum(range(1, 16))


def test_a_repaired_file_of_trades_is_not_stored_beside_the_broken_one(run_trades, store):
    broken = trades(*range(10)).replace("10,4\n", "x,4\n")
    assert run_trades(broken).bad_count == 1
    with pytest.raises(ValidationFailed, match="delete those first"):
        run_trades(trades(*range(10)))
    assert ticks_of(store, "T.GLOBAL").size == 9


def test_an_import_of_trades_that_was_cut_off_may_be_repeated(run_trades, store):
    run_trades(trades(*range(4)))
    assert (run_trades(trades(*range(10))).known, volumes(store)) == (4, 55)
