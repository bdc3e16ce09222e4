"""Files written and read by DuckDB."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pytest

from testkit.timeseries import odd_ticks, same_bits
from vnpy_core.adapters.timeseries.embedded.kinds import from_columns
from vnpy_core.adapters.timeseries.embedded.parquet import Engine, FileGone, narrow
from vnpy_core.domain.errors import TimeSeriesUnavailable
from vnpy_core.domain.history import TICK_DTYPE, TICK_NUMBERS


@pytest.fixture
def engine():
    engine = Engine()
    yield engine
    engine.close()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0.0, 1.0, -5.0, 2.0**31 - 1], np.int32),
        ([0.0, 2.0**31], np.int64),
        ([1e15, 3.0], np.int64),
        ([0.5, 1.0], np.float64),
        ([0.0, -0.0], np.float64),
        ([1e300], np.float64),
        ([2.0**63], np.float64),
        ([-(2.0**63)], np.int64),
        ([], np.int32),
    ],
)
def test_whole_numbers_become_as_narrow_as_they_may(values: list[float], kind: type) -> None:
    column = np.array(values)
    found = narrow(column)
    assert found.dtype == kind
    assert found.astype(np.float64).tobytes() == column.tobytes()


def test_all_columns_come_back_to_the_last_bit_from_a_folder_with_any_name(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "a[b]*'?" / "deep" / "file.parquet"
    rows = odd_ticks(1000)
    rows["ask_volume_5"][7] = -0.0
    size = engine.write(path, {name: rows[name] for name in TICK_DTYPE.names or ()})
    assert path.stat().st_size == size
    assert list(path.parent.iterdir()) == [path]
    found = engine.read(path, TICK_DTYPE.names or ())
    assert same_bits(from_columns(found, TICK_DTYPE), rows)


def test_bounds_and_counts_are_kept(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    engine.write(path, {"ts": np.arange(100), "volume": np.arange(100.0)})
    assert list(engine.read(path, ("ts",), start_ns=10, end_ns=20)["ts"]) == list(range(10, 20))
    assert list(engine.read(path, ("ts",), start_ns=10, first=3)["ts"]) == [10, 11, 12]
    assert list(engine.read(path, ("ts", "volume"), end_ns=20, first=3)["volume"]) == [0, 1, 2]


def test_any_tool_reads_the_files_as_a_table(engine: Engine, tmp_path: Path) -> None:
    rows = odd_ticks(10)
    engine.write(tmp_path / "one.parquet", {name: rows[name] for name in TICK_DTYPE.names or ()})
    with duckdb.connect() as other:
        found = other.execute(f"select * from '{tmp_path}/one.parquet'").fetchnumpy()
    assert list(found) == ["ts", "localtime", *TICK_NUMBERS]
    assert list(found["last_price"]) == list(rows["last_price"])


def test_a_file_that_is_gone_and_one_that_is_damaged_are_told_apart(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(FileGone):
        engine.read(tmp_path / "none.parquet", ("ts",))
    path = tmp_path / "damaged.parquet"
    engine.write(path, {"ts": np.arange(1000)})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(TimeSeriesUnavailable, match=r"damaged\.parquet"):
        engine.read(path, ("ts",))


def test_a_folder_that_cannot_be_made_is_named(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TimeSeriesUnavailable, match=r"one\.parquet"):
        engine.write(tmp_path / "file" / "one.parquet", {"ts": np.arange(3)})
