from datetime import UTC, datetime

import duckdb
import numpy as np
import pytest

from vnpy_core.domain.errors import ValidationFailed
from vnpy_core.domain.history import BAR_DTYPE, Interval, Series, to_ns
from vnpy_core.recordings.bars import BarFile
from vnpy_core.recordings.reading import Source

VNPY = "symbol,exchange,datetime,open,high,low,close,volume,turnover,open_interest\n"
NUMBERS = ("open_price", "high_price", "low_price", "close_price", "volume", "turnover", "open_interest")
MAPPING = {"datetime": "t", "open_price": "o", "high_price": "h", "low_price": "l", "close_price": "c", "volume": "v"}


def read(path, interval=Interval.MINUTE, **options):
    file = BarFile(Source(path=path, name="f", **options), interval)
    found = {}
    for series, its_interval, bars in file:
        assert its_interval is interval
        assert bars.dtype == BAR_DTYPE
        found.setdefault(series, []).append(bars)
    return file, {series: np.concatenate(bars) for series, bars in found.items()}


def ns(text: str) -> int:
    return to_ns(datetime.fromisoformat(text).replace(tzinfo=UTC))


def test_vnpys_export_is_read_with_all_its_numbers(write):
    rows = "cu1905,SHFE,2019-03-04 22:51:00,1,4,0.5,2,5,6,7\nIF1905,CFFEX,2019-03-04 09:30:00,1,1,1,1,0,0,0\n"
    file, found = read(write(VNPY + rows), Interval.HOUR)
    [bar] = found[Series("cu1905", "SHFE")]
    assert [bar[name] for name in NUMBERS] == [1, 4, 0.5, 2, 5, 6, 7]
    assert bar["ts"] == ns("2019-03-04T14:51:00")
    assert len(found) == file.rows == 2


@pytest.mark.parametrize("names", [{}, {"symbol,exchange": "vt_symbol", "cu1905,SHFE": "cu1905.SHFE"}])
def test_the_fields_of_bardata_are_read(write, names):
    text = VNPY.replace("open,high,low,close", "open_price,high_price,low_price,close_price")
    text += "cu1905,SHFE,2019-03-04,1,4,0.5,2,5,6,7\n"
    for old, new in names.items():
        text = text.replace(old, new)
    [(series, bars)] = read(write(text), Interval.DAILY)[1].items()
    assert series == Series("cu1905", "SHFE")
    assert bars["ts"][0] == ns("2019-03-03T16:00:00"), "00:00 of the day, local time"
    assert bars["high_price"][0] == 4


def test_a_mapping_with_unix_times(write):
    path = write("t,o,h,l,c,v\n1551711060000000000,1,2,1,2,3\n")
    [(_, bars)] = read(path, mapping=MAPPING, symbol="cu1905", exchange="SHFE")[1].items()
    assert bars["ts"].tolist() == [1551711060 * 10**9]
    assert bars["volume"].tolist() == [3]


@pytest.mark.parametrize("day", ["2019-03-04", "20190304"])
def test_a_mapping_with_date_and_time_apart(write, day):
    mapping = {name: theirs for name, theirs in MAPPING.items() if name != "datetime"} | {"date": "d", "time": "t"}
    path = write(f"d,t,o,h,l,c,v\n{day},22:51:00,1,2,1,2,3\n")
    [(_, bars)] = read(path, mapping=mapping, symbol="cu1905", exchange="SHFE")[1].items()
    assert bars["ts"].tolist() == [ns("2019-03-04T14:51:00")]


def test_a_mapping_without_a_price_is_refused(write):
    mapping = {name: theirs for name, theirs in MAPPING.items() if name != "low_price"}
    with pytest.raises(ValidationFailed, match="mapping.low_price: is missing"):
        read(write("t,o,h,c,v\n"), mapping=mapping, symbol="X", exchange="GLOBAL")


def test_bad_rows_are_reported_and_the_rest_is_read(write):
    good = "X,GLOBAL,2024-01-01 00:{:02}:00,1,2,1,2,3,4,5\n"
    wrong = {
        "X,GLOBAL,2024-01-01,1,1,2,2,3,4,5": "its high 1 is below its low 2",
        "X,GLOBAL,2024-01-01,1,2,1,2,-3,4,5": "a volume of -3",
        "X,GLOBAL,2024-01-01,3,2,1,2,3,4,5": "its open 3 is not within 1 to 2",
        "X,GLOBAL,2024-01-01,1,2,1,0.5,3,4,5": "its close 0.5 is not within 1 to 2",
        "X,GLOBAL,2024-01-01,,2,1,2,3,4,5": "no open price",
        "X,GLOBAL,2024-01-01,1,2,1,nan,3,4,5": "no close price",
        "X,GLOBAL,2024-01-01,1,inf,1,2,3,4,5": "'inf' is not a number",
        "X,GLOBAL,2024-01-01,1,2,1,2,3,4,1e999": "'1e999' is not a number",
        "X,GLOBAL,,1,2,1,2,3,4,5": "no time",
        "X,GLOBAL,2024-01-01,1,2,1,2,3,4": "9 columns instead of 10",
        "X,,2024-01-01,1,2,1,2,3,4,5": "no exchange is known for X",
    }
    text = VNPY + "".join(good.format(n) + line + "\n" for n, line in enumerate(wrong))
    file, found = read(write(text))
    assert len(found[Series("X", "GLOBAL")]) == file.rows == len(wrong)
    expected = [(f"f:{2 * n + 3}", reason) for n, reason in enumerate(wrong.values())]
    assert [(bad.place, bad.reason) for bad in file.bad] == expected


def test_absent_volume_turnover_and_open_interest_are_zero(write):
    [(_, bars)] = read(write(VNPY + "X,GLOBAL,2024-01-01,1,2,1,2,,nan,N/A\n"))[1].items()
    assert [bars[name][0] for name in NUMBERS[4:]] == [0, 0, 0]


def test_a_file_of_ticks_is_no_file_of_bars(write):
    with pytest.raises(ValidationFailed, match="f has an unknown header: symbol,datetime,last_price"):
        read(write("symbol,datetime,last_price\n"))


def test_parquet(tmp_path):
    path = tmp_path / "bars.parquet"
    with duckdb.connect() as database:
        database.execute(
            "copy (select 'X' as symbol, 'GLOBAL' as exchange, timestamptz '2024-01-01 00:00:00+00' as datetime,"
            f" 1 as open, 3.5 as high, 0.5::float as low, 2::hugeint as close, null::int as volume)"
            f" to '{path}' (format parquet)"
        )
    [(_, bars)] = read(path)[1].items()
    assert bars.tolist() == [(ns("2024-01-01"), 1, 3.5, 0.5, 2, 0, 0, 0)]
