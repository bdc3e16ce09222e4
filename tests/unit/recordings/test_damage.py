"""Whatever a file holds, reading it ends in rows, notes about rows, or ValidationFailed."""

import gzip
import io
import random
import zipfile
from itertools import chain

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vnpy_core.domain.errors import ValidationFailed
from vnpy_core.domain.history import Interval
from vnpy_core.recordings.bars import BarFile
from vnpy_core.recordings.reading import Source
from vnpy_core.recordings.ticks import TickFile

from .test_bars import VNPY as BARS
from .test_ticks import SHORT, VNPY, ctp

FEW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

TABLES = {
    "ctp": ctp(*[{"UpdateTime": f"09:00:{n:02}", "Volume": str(n)} for n in range(20)]),
    "vnpy": VNPY + "".join(f"X,GLOBAL,2024-01-01 00:00:{n:02},名,1,2,3,4,5,\n" for n in range(20)),
    "short": SHORT + "".join(f"RM705,20170320,09:00:{n:02}.5,2374.0,1.0,2372.0,2374.0,264.0,65.0\n" for n in range(20)),
    "bars": BARS + "".join(f"X,GLOBAL,2024-01-01 00:{n:02}:00,1,2,1,2,3,4,5\n" for n in range(20)),
}


def read(path) -> int:
    """The rows of a file, be they good or bad; -1 where it was refused."""
    count = 0
    for make in (TickFile, lambda source: BarFile(source, Interval.MINUTE)):
        try:
            file = make(Source(path=path, exchange="SHFE"))
            for chunk in file:
                rows = next(part for part in chunk if isinstance(part, np.ndarray))
                assert (rows["ts"] >= 0).all()
                assert all(np.isfinite(rows[name]).all() for name in rows.dtype.names)
            count += file.rows + file.bad_count
        except ValidationFailed:
            continue
    return count


@FEW
@given(
    content=st.binary(max_size=500),
    head=st.sampled_from([b"", b"PAR1", b"PK\3\4", b"\x1f\x8b", *[t[:400].encode() for t in TABLES.values()]]),
)
def test_random_bytes(tmp_path, content, head):
    path = tmp_path / "f"
    path.write_bytes(head + content)
    read(path)


CELLS = ["", "x", "-1", "1e400", "nan", "inf", '"', '"a', "1_000", "٣", "名", "\0", "1" * 500, "\r", "\n", ",",
         "2024-01-01", "99:99:99", "N/A", "-", "+", ".", "1e", "0x10", "20181012", "1" * 19, "\ufeff", "\x1c",
         "2024-01-01 00:00-00:05", "1.7976931348623157e+308"]  # fmt: skip


@FEW
@given(
    name=st.sampled_from(sorted(TABLES)),
    damage=st.lists(
        st.tuples(st.integers(0, 20), st.integers(0, 43), st.sampled_from(CELLS) | st.text(max_size=8)),
        min_size=1,
        max_size=6,
    ),
    encoding=st.sampled_from(["utf-8", "gb18030", "utf-16"]),
)
def test_damaged_cells(tmp_path, name, damage, encoding):
    rows = [line.split(",") for line in TABLES[name].splitlines()]
    for row, cell, text in damage:
        rows[row][cell % len(rows[row])] = text
    path = tmp_path / "f.csv"
    path.write_bytes("\n".join(map(",".join, rows)).encode(encoding, "replace"))
    read(path)


@FEW
@given(name=st.sampled_from(sorted(TABLES)), packed=st.sampled_from(["plain", "gz", "zip"]), seed=st.integers(0, 2**32))
def test_damaged_bytes(tmp_path, name, packed, seed):
    data = TABLES[name].encode()
    if packed == "gz":
        data = gzip.compress(data)
    if packed == "zip":
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.csv", data)
        data = out.getvalue()
    dice = random.Random(seed)
    damaged = bytearray(data)
    for _ in range(dice.randint(1, 5)):
        damaged[dice.randrange(len(damaged))] = dice.randrange(256)
    path = tmp_path / "f"
    path.write_bytes(damaged[: dice.choice([len(damaged), dice.randrange(len(damaged))])])
    read(path)


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    path = tmp_path_factory.mktemp("parquet") / "f.parquet"
    with duckdb.connect() as database:
        database.execute(
            "copy (select 'X' as symbol, 'GLOBAL' as exchange, '2024-01-01' as datetime, n as last_price"
            f" from range(2000) as r(n)) to '{path}' (format parquet)"
        )
    return path.read_bytes()


def test_damaged_parquet(tmp_path, parquet):
    for seed in range(25):
        dice = random.Random(seed)
        damaged = bytearray(parquet)
        for _ in range(dice.randint(1, 5)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        path = tmp_path / f"{seed}"
        path.write_bytes(damaged)
        read(path)


def test_the_undamaged_tables_are_read_whole(tmp_path):
    for text in chain(TABLES.values(), [ctp({})]):
        path = tmp_path / "f"
        path.write_text(text)
        assert read(path) == text.count("\n") - 1
