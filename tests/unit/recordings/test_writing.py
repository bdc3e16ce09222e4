import csv
import io
from datetime import datetime
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vnpy_core.domain.errors import StorageFull
from vnpy_core.domain.history import BAR_NUMBERS, TICK_NUMBERS, US, Interval, Series, empty_bars, empty_ticks, to_ns
from vnpy_core.recordings.bars import BarFile
from vnpy_core.recordings.reading import Source
from vnpy_core.recordings.ticks import TickFile
from vnpy_core.recordings.writing import write_bars, write_ticks

SERIES = Series("ru1901", "SHFE")
BEGIN = 1_723_161_256_322_456_000


def some_ticks(size=1000):
    random = np.random.default_rng(7)
    ticks = empty_ticks(size)
    ticks["ts"] = BEGIN + np.arange(size) // 3 * US
    for name in TICK_NUMBERS[:12]:
        ticks[name] = random.normal(size=size) * 10.0 ** random.integers(-12, 15, size)
    ticks["volume"] = np.arange(size) * 0.1
    ticks["last_volume"] = np.abs(ticks["last_volume"])
    ticks["localtime"][::2] = BEGIN + np.arange(0, size, 2) * 1_000_003
    return ticks


def some_bars(size=1000):
    bars = empty_bars(size)
    bars["ts"] = BEGIN // (60 * 10**9) * 60 * 10**9 + np.arange(size) * 60 * 10**9
    for name in BAR_NUMBERS:
        bars[name] = np.random.default_rng(3).random(size)
    bars["high_price"] += 1
    return bars


def ticks_of(path, **options):
    return np.concatenate([empty_ticks(), *(ticks for _, ticks, _ in TickFile(Source(path=path, **options)))])


def bars_of(path, **options):
    return np.concatenate(
        [empty_bars(), *(bars for *_, bars in BarFile(Source(path=path, **options), Interval.MINUTE))]
    )


@pytest.mark.parametrize("format", ["csv", "parquet"])
@pytest.mark.parametrize("zone", ["Asia/Shanghai", "UTC", "America/New_York"])
def test_ticks_that_are_written_read_again_equal_to_the_bit(tmp_path, format, zone):
    path, ticks = tmp_path / "ticks", some_ticks()
    assert write_ticks([ticks[:10], ticks[10:]], SERIES, path, format, zone) == 1000
    assert ticks_of(path, timezone=zone).tobytes() == ticks.tobytes()
    assert {series for series, *_ in TickFile(Source(path=path))} == {SERIES}


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_bars_that_are_written_read_again_equal_to_the_bit(tmp_path, format):
    path, bars = tmp_path / "bars", some_bars()
    assert write_bars([bars[:999], bars[999:]], Series("FESX", "EUREX"), path, format) == 1000
    assert bars_of(path).tobytes() == bars.tobytes()
    assert {series for series, *_ in BarFile(Source(path=path), Interval.MINUTE)} == {Series("FESX", "EUREX")}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    numbers=st.lists(
        st.floats(min_value=-1e299, max_value=1e299), min_size=len(TICK_NUMBERS), max_size=len(TICK_NUMBERS)
    ),
    us=st.integers(0, 2**63 // US - 1),
    received=st.integers(1, 2**63 - 1),
)
def test_any_tick_is_read_again_equal_to_the_bit(tmp_path, numbers, us, received):
    ticks = empty_ticks(1)
    ticks["ts"], ticks["localtime"] = us * US, received
    for name, number in zip(TICK_NUMBERS, numbers, strict=True):
        ticks[name] = abs(number) if "volume" in name else number
    write_ticks([ticks], SERIES, tmp_path / "ticks.csv", "csv", "UTC")
    assert ticks_of(tmp_path / "ticks.csv", timezone="UTC").tobytes() == ticks.tobytes()


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_nothing_is_a_file_with_its_header(tmp_path, format):
    assert write_ticks([], SERIES, tmp_path / "t", format) == write_bars([], SERIES, tmp_path / "b", format) == 0
    assert len(ticks_of(tmp_path / "t")) == len(bars_of(tmp_path / "b")) == 0


def test_a_csv_of_bars_is_vnpy_data_managers_own(tmp_path):
    bars, out = some_bars(3), io.BytesIO()
    write_bars([bars], Series("FESX", "EUREX"), out)
    rows = list(csv.DictReader(io.StringIO(out.getvalue().decode())))
    header = "symbol exchange datetime open high low close volume turnover open_interest"
    assert list(rows[0]) == header.split()
    for row, bar in zip(rows, bars, strict=True):
        # As DataManager reads it.
        local = datetime.fromisoformat(row["datetime"])
        assert local.tzinfo is None
        assert to_ns(local.replace(tzinfo=ZoneInfo("Asia/Shanghai"))) == bar["ts"]
        assert datetime.strptime(row["datetime"], "%Y-%m-%d %H:%M:%S") == local
        assert [float(row[name.removesuffix("_price")]) for name in BAR_NUMBERS] == [bar[name] for name in BAR_NUMBERS]
        assert (row["symbol"], row["exchange"]) == ("FESX", "EUX")


def test_a_csv_goes_to_a_stream_that_cannot_seek_and_stays_open():
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *_):
            raise io.UnsupportedOperation

        tell = seek

    out = Pipe()
    assert write_ticks([some_ticks(10)], SERIES, out) == 10
    assert not out.closed
    assert out.getvalue().count(b"\n") == 11


def test_parquet_to_an_open_file_leaves_nothing_else_behind(tmp_path):
    path, ticks = tmp_path / "ticks.parquet", some_ticks(10)
    with path.open("wb") as out:
        write_ticks([ticks], SERIES, out, "parquet")
    assert ticks_of(path).tobytes() == ticks.tobytes()
    assert list(tmp_path.iterdir()) == [path]


def test_parquet_has_times_that_others_understand(tmp_path):
    ticks = some_ticks(3)
    write_ticks([ticks], SERIES, tmp_path / "ticks.parquet", "parquet")
    with duckdb.connect() as database:
        rows = database.execute(
            f"select epoch_us(datetime), typeof(datetime), localtime, symbol, volume from '{tmp_path}/ticks.parquet'"
        ).fetchall()
    assert rows[0] == (BEGIN // US, "TIMESTAMP WITH TIME ZONE", BEGIN, "ru1901", 0.0)
    assert rows[1][2] is None


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_a_full_disk_is_told_as_such(format):
    with open("/dev/full", "wb", buffering=0) as out, pytest.raises(StorageFull):
        write_ticks([some_ticks()], SERIES, out, format)
