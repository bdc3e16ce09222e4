import csv
import gzip
import io
from datetime import UTC, datetime
from itertools import pairwise

import duckdb
import numpy as np
import pytest

from vnpy_core.domain.errors import ValidationFailed
from vnpy_core.domain.history import LEVELS, TICK_DTYPE, Series, to_ns
from vnpy_core.recordings import reading
from vnpy_core.recordings.reading import Source
from vnpy_core.recordings.ticks import TickFile

CTP = (
    "TradingDay,InstrumentID,ExchangeID,ExchangeInstID,LastPrice,PreSettlementPrice,PreClosePrice,PreOpenInterest,"
    "OpenPrice,HighestPrice,LowestPrice,Volume,Turnover,OpenInterest,ClosePrice,SettlementPrice,UpperLimitPrice,"
    "LowerLimitPrice,PreDelta,CurrDelta,UpdateTime,UpdateMillisec,"
    + ",".join(f"BidPrice{n},BidVolume{n},AskPrice{n},AskVolume{n}" for n in range(1, 6))
    + ",AveragePrice,ActionDay"
).split(",")
DBL_MAX = "1.7976931348623157e+308"
PLAIN = {
    "TradingDay": "20181012", "InstrumentID": "ru1901", "ExchangeID": "SHFE", "LastPrice": "12485.00",
    "PreClosePrice": "12360.00", "OpenPrice": "12480.00", "HighestPrice": "12490.00", "LowestPrice": "12470.00",
    "Volume": "3174", "Turnover": "396132700.00", "OpenInterest": "309896.00", "UpperLimitPrice": "13390.00",
    "LowerLimitPrice": "11175.00", "UpdateTime": "09:00:00", "UpdateMillisec": "500", "BidPrice1": "12485.00",
    "BidVolume1": "17", "AskPrice1": "12490.00", "AskVolume1": "19", "ActionDay": "20181012",
}  # fmt: skip


def ctp(*changes: dict[str, str], quoting=csv.QUOTE_ALL) -> str:
    text = io.StringIO()
    writer = csv.writer(text, quoting=quoting, lineterminator="\n")
    writer.writerow(CTP)
    for change in changes:
        row = dict.fromkeys(CTP, "N/A") | PLAIN | change
        writer.writerow([row[name] for name in CTP])
    return text.getvalue()


def read(path, **options):
    """The file, and its ticks by series."""
    file = TickFile(Source(path=path, name="f", **options))
    parts = {}
    for series, ticks, _ in file:
        assert ticks.dtype == TICK_DTYPE
        assert 0 < len(ticks) <= reading.CHUNK_ROWS
        parts.setdefault(series.vt_symbol, []).append(ticks)
    assert file.rows == sum(len(part) for ticks in parts.values() for part in ticks)
    return file, {vt_symbol: np.concatenate(ticks) for vt_symbol, ticks in parts.items()}


def one(path, **options):
    file, ticks = read(path, **options)
    assert file.bad_count == 0, file.bad
    [(_, rows)] = ticks.items()
    return rows


def ns(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return to_ns(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def bad(file):
    return [(row.place, row.reason) for row in file.bad]


# --- CTP ---


@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC])
def test_a_ctp_row_keeps_every_number(write, quoting):
    [tick] = one(write(ctp({}, quoting=quoting)))
    names = ("last_price", "volume", "turnover", "open_interest", "limit_up", "limit_down", "pre_close", "open_price",
             "high_price", "low_price", "bid_price_1", "bid_volume_1", "ask_price_1", "ask_volume_1")  # fmt: skip
    assert [tick[name] for name in names] == [
        12485, 3174, 396132700, 309896, 13390, 11175, 12360, 12480, 12490, 12470, 12485, 17, 12490, 19
    ]  # fmt: skip
    assert tick["ts"] == ns("2018-10-12T01:00:00.500")
    assert tick["localtime"] == 0


def test_what_is_absent_becomes_zero_and_a_level_without_volume_stays(write):
    absent = {
        "OpenPrice": "N/A",
        "HighestPrice": DBL_MAX,
        "LowestPrice": "",
        "LastPrice": "nan",
        "Turnover": "-" + DBL_MAX,
    }
    deep = {"BidVolume1": "0", "BidPrice3": "12470.00", "BidVolume3": "0", "AskPrice4": "N/A", "AskVolume4": "9"}
    [tick] = one(write(ctp(absent | deep)))
    assert [tick[name] for name in ("open_price", "high_price", "low_price", "last_price", "turnover")] == [0] * 5
    assert [tick[name] for name in ("bid_price_1", "bid_volume_1", "bid_price_3", "bid_volume_3")] == [
        12485,
        0,
        12470,
        0,
    ]
    assert (tick["ask_price_4"], tick["ask_volume_4"]) == (0, 9)


def test_all_five_levels_of_ctp_are_read(write):
    deep = {}
    for n in LEVELS:
        deep |= {f"BidPrice{n}": str(100 - n), f"BidVolume{n}": str(n)}
        deep |= {f"AskPrice{n}": str(100 + n), f"AskVolume{n}": str(10 * n)}
    [tick] = one(write(ctp(deep)))
    for n in LEVELS:
        levels = [tick[f"{side}_{what}_{n}"] for side in ("bid", "ask") for what in ("price", "volume")]
        assert levels == [100 - n, n, 100 + n, 10 * n]


NIGHT = [
    ("SHFE", "20181015", "20181012", "21:00:00", "2018-10-12T13:00"),
    ("SHFE", "20181015", "20181013", "00:30:00", "2018-10-12T16:30"),
    ("DCE", "20181015", "20181015", "21:00:00", "2018-10-12T13:00"),
    ("DCE", "20181015", "20181015", "00:30:00", "2018-10-12T16:30"),
    ("CZCE", "20181012", "20181012", "21:00:00", "2018-10-12T13:00"),
    ("SHFE", "20181012", "", "09:00:00", "2018-10-12T01:00"),
]


@pytest.mark.parametrize(("exchange", "trading", "action", "local", "time"), NIGHT)
def test_friday_night_happens_on_friday(write, exchange, trading, action, local, time):
    days = {"ExchangeID": exchange, "TradingDay": trading, "ActionDay": action, "UpdateTime": local}
    path = write(ctp({}, days | {"UpdateMillisec": "0"}, {}))
    file, ticks = read(path)
    assert ns(time) in np.concatenate(list(ticks.values()))["ts"]
    assert not file.bad


def test_an_absent_exchange_is_the_one_given_else_the_resolved_one_else_the_row_is_bad(write):
    path = write(ctp({"ExchangeID": ""}, {"ExchangeID": "INE"}))
    assert set(read(path, exchange="DCE")[1]) == {"ru1901.DCE", "ru1901.INE"}
    assert set(read(path, resolve_exchange={"ru1901": "SHFE"}.get)[1]) == {"ru1901.SHFE", "ru1901.INE"}
    file, ticks = read(path)
    assert set(ticks) == {"ru1901.INE"}
    assert bad(file) == [("f:2", "no exchange is known for ru1901")]


# --- bad rows ---

DAMAGE = [
    ({"LastPrice": "twelve"}, "'twelve' is not a number"),
    ({"LastPrice": "inf"}, "'inf' is not a number"),
    ({"AskPrice3": "-Infinity"}, "'-Infinity' is not a number"),
    ({"Volume": "-1"}, "a volume of -1"),
    ({"BidVolume1": "-17"}, "a volume of -17"),
    ({"UpdateTime": "25:00:00"}, "'25:00:00' is not a time"),
    ({"UpdateTime": "09:00"}, "'09:00' is not a time"),
    ({"UpdateTime": "09:00:61"}, "'09:00:61' is not a time"),
    ({"UpdateTime": "00000000"}, "'00000000' is not a time"),
    ({"UpdateMillisec": "1000"}, "its milliseconds are not 0 to 999"),
    ({"UpdateMillisec": "x"}, "'x' is not a number"),
    ({"TradingDay": "20181332", "ActionDay": "20181332"}, "month must be in 1..12"),
    ({"TradingDay": "2018", "ActionDay": ""}, "'2018' is not a date"),
    ({"TradingDay": "19000101", "ActionDay": "19000101"}, "its time is not within the years 1970 to 2262"),
    ({"InstrumentID": ""}, "no symbol"),
    ({"InstrumentID": "ru\ufffd01"}, "'ru\ufffd01' is no symbol"),
    ({"ExchangeID": "SH FE"}, "'SH FE' is no exchange"),
]


@pytest.mark.parametrize("rows", [3, 300])
def test_bad_rows_are_reported_with_file_line_and_reason_and_the_rest_is_read(write, rows):
    changes = [{"LastPrice": str(12000 + n), "UpdateMillisec": str(n)} for n in range(rows)]
    expected = []
    for damage, reason in DAMAGE:
        changes.append(damage)
        expected.append((f"f:{len(changes) + 1}", reason))
        changes.append({"LastPrice": "11000"})
    file, ticks = read(write(ctp(*changes)))
    assert bad(file) == expected
    assert (file.bad_count, file.rows) == (len(DAMAGE), rows + len(DAMAGE))
    assert set(ticks["ru1901.SHFE"]["last_price"]) == {11000, *range(12000, 12000 + rows)}


def test_a_column_that_is_wrong_in_every_row_reports_every_row(write):
    file, ticks = read(write(ctp(*[{"LastPrice": "?"}] * 5)))
    assert not ticks
    assert bad(file) == [(f"f:{line}", "'?' is not a number") for line in range(2, 7)]


def test_only_the_first_bad_rows_are_kept_but_all_are_counted(write):
    file, _ = read(write(ctp({}) + "bad,row\n" * 2500 + ctp({"LastPrice": "x"}) * 100))
    assert (file.bad_count, len(file.bad)) == (2600, 1000)
    assert file.bad[999].place == "f:1002"


def test_reading_again_begins_anew(write):
    path = write(ctp({}, {"LastPrice": "x"}))
    file = TickFile(Source(path=path))
    for _ in range(2):
        assert len(list(file)) == 1
        assert (file.rows, file.bad_count, file.fraction_read) == (1, 1, 1.0)


# --- VnPy's own, and other forms ---

VNPY = "symbol,exchange,datetime,name,volume,last_price,last_volume,bid_price_1,bid_volume_1,localtime\n"


def test_times_without_a_zone_are_of_the_given_one_and_others_are_honoured(write):
    times = ["2026-11-20 09:00:00.500", "2026-11-20 09:00:01+08:00", "2026-11-20T01:00:02Z", "20261120090003",
             "2026-11-19 20:00:04-05:00", "1795136405000000000", "1795136406.000001", "1795136407000"]  # fmt: skip
    path = write(VNPY + "".join(f"rb2701,SHFE,{time},,1,3500,2,3499,5,\n" for time in times))
    seconds = [0.5, 1, 2, 3, 4, 5, 6.000001, 7]
    begin = ns("2026-11-20T01:00:00")
    assert one(path)["ts"].tolist() == [begin + round(s * 1e9) for s in seconds]
    shifted = [s + 8 * 3600 * (n in (0, 3)) for n, s in enumerate(seconds)]
    assert sorted(one(path, timezone="UTC")["ts"]) == sorted(begin + round(s * 1_000_000) * 1000 for s in shifted)
    with pytest.raises(ValidationFailed, match="time zone 'Mars/Base'"):
        read(path, timezone="Mars/Base")


@pytest.mark.parametrize(
    ("style", "texts"),
    {
        "naive": ["2024-03-10 01:30:00", "2024-07-01 00:00:00"],
        "offset": ["2024-03-10 01:30:00-05:00", "2024-07-01 00:00:00-05:00"],
        "z": ["2024-03-10T06:30:00Z", "2024-07-01T05:00:00Z"],
        "mixed": ["2024-03-10 01:30", "2024-07-01T05:00:00+0000"],
        "s": ["1710052200", "1719810000"],
        "ms": ["1710052200000", "1719810000000"],
        "us": ["1710052200000000", "1719810000000000"],
        "ns": ["1710052200000000000", "1719810000000000123"],
        "float": ["1710052200.0", "1719810000.0000"],
        "exponent": ["1.7100522e+18", "1.71981e+18"],
    }.items(),
)
def test_a_whole_column_of_each_style_of_time(write, style, texts):
    rows = "".join(f"X,GLOBAL,{text},,{n},1,0,1,1,\n" for n, text in enumerate(texts * 50))
    zone = "America/New_York" if style in ("naive", "mixed") else "Asia/Shanghai"
    expected = [ns("2024-03-10T06:30:00"), ns("2024-07-01T04:00:00" if style == "naive" else "2024-07-01T05:00:00")]
    assert one(write(VNPY + rows), timezone=zone)["ts"].tolist() == sorted(expected * 50)


@pytest.mark.parametrize("text", ["", "soon", "2024-02-30 09:00:00", "2024-01-01 24:00:00", "NaT", "12", "-5", "1e400",
                                  "20241301", "9999-12-31", "0001-01-01", "99999999999999999999"])  # fmt: skip
def test_a_wrong_time_is_a_bad_row(write, text):
    good = "X,GLOBAL,2024-01-01 00:00:00,,1,1,0,1,1,\n"
    file, ticks = read(write(VNPY + good + f"X,GLOBAL,{text},,2,1,0,1,1,\n" + good.replace(",1,1,0", ",3,1,0")))
    assert ticks["X.GLOBAL"]["volume"].tolist() == [1, 3]
    assert [row.place for row in file.bad] == ["f:3"]


def test_times_of_a_given_format(write):
    row = "X,GLOBAL,{},,1,1,0,1,1,\n"
    path = write(VNPY + row.format("5/1/2024 9.30") + row.format("2024-01-05 09:30:00"))
    file, ticks = read(path, datetime_format="%d/%m/%Y %H.%M")
    assert ticks["X.GLOBAL"]["ts"].tolist() == [ns("2024-01-05T01:30:00")]
    assert bad(file) == [("f:3", "'2024-01-05 09:30:00' is not a time")]


def test_the_time_of_receipt_is_kept_to_the_nanosecond_and_may_be_absent(write):
    row = "X,GLOBAL,2024-01-01 08:00:00,,{},1,0,1,1,{}\n"
    times = ["", "2024-01-01 08:00:00.000001", "2024-01-01 08:00:00.123456789", "1704067200123456789"]
    ticks = one(write(VNPY + "".join(row.format(n, time) for n, time in enumerate(times))))
    begin = ns("2024-01-01")
    assert ticks["localtime"].tolist() == [0, begin + 1000, begin + 123456789, begin + 123456789]


def test_names_symbols_and_exchanges_as_vnpy_writes_them(write):
    rows = (
        "rb2701,Exchange.SHFE,2026-11-20 09:00:00,螺纹钢,1,3500,2,3499,5,\nFESX,EUX,2026-11-20 09:00:00,,1,1,1,1,1,\n"
    )
    found = {series: name for series, _, name in TickFile(Source(path=write(VNPY + rows)))}
    assert found == {Series("rb2701", "SHFE"): "螺纹钢", Series("FESX", "EUREX"): ""}


def test_vnpys_csv_by_vt_symbol(write):
    header = "vt_symbol,datetime,last_price,volume\n"
    assert set(read(write(header + "BTC.USDT.GLOBAL,2026-11-21,1,1\n"))[1]) == {"BTC.USDT.GLOBAL"}


def test_a_given_symbol_is_that_of_rows_without_one(write):
    path = write("datetime,last_price\n2026-11-21,1\n")
    assert set(read(path, symbol="X", exchange="GLOBAL")[1]) == {"X.GLOBAL"}
    with pytest.raises(ValidationFailed, match="f has an unknown header: datetime,last_price .*a mapping says"):
        read(path)


def test_many_series_in_one_file_are_told_apart(write):
    rows = [(f"s{n % 7}", n) for n in range(3000)]
    text = VNPY + "".join(f"{symbol},SHFE,{1704067200 + n},,{n},{n},0,1,1,\n" for symbol, n in rows)
    _, ticks = read(write(text))
    for k in range(7):
        assert ticks[f"s{k}.SHFE"]["volume"].tolist() == [n for symbol, n in rows if symbol == f"s{k}"]


def test_tqsdks_five_levels(write):
    header = "symbol,id,datetime,last_price,average,highest,lowest,volume,amount,open_interest," + ",".join(
        f"bid_price{n},bid_volume{n},ask_price{n},ask_volume{n}" for n in LEVELS
    )
    levels = ",".join(f"{100 - n},{n},{100 + n},{10 * n}" for n in LEVELS)
    [tick] = one(write(f"{header}\nSHFE.cu1909,1,1568613693500000000,nan,99,101,98,7360,1756292000.0,8240,{levels}"))
    assert tick["ts"] == ns("2019-09-16T06:01:33.500")
    names = (
        "high_price",
        "low_price",
        "volume",
        "turnover",
        "open_interest",
        "bid_price_5",
        "ask_volume_5",
        "last_price",
    )
    assert [tick[name] for name in names] == [101, 98, 7360, 1756292000, 8240, 95, 50, 0]


SHORT = "symbol,date,time,lastPrice,lastVolume,bidPrice1,askPrice1,bidVolume1,askVolume1\n"


def test_without_a_running_total_the_trading_days_volume_is_added_up(write, monkeypatch):
    monkeypatch.setattr("vnpy_core.recordings.files._PIECE", 100)
    monkeypatch.setattr("vnpy_core.recordings.files._READ", 100)
    times = ["20170320,09:00:00.5", "20170320,09:00:01.0", "20170320,14:59:59.0", "20170320,21:00:00.0",
             "20170321,09:00:00.0"]  # fmt: skip
    rows = "".join(f"RM705,{time},2374.0,{n + 1}.0,2372.0,2374.0,264.0,65.0\n" for n, time in enumerate(times))
    ticks = one(write(SHORT + rows), exchange="CZCE")
    assert ticks["volume"].tolist() == [1, 3, 6, 4, 9]
    assert ticks["last_volume"].tolist() == [1, 2, 3, 4, 5]


def test_equal_trades_of_one_millisecond_stay_apart_by_the_days_volume(write):
    path = write("price,qty,time\n" + "60000.5,0.1,1723161256322\n" * 5 + "60000.5,0.1,1723161256323\n")
    mapping = {"datetime": "time", "last_price": "price", "last_volume": "qty"}
    ticks = one(path, mapping=mapping, symbol="BTCUSDT", exchange="GLOBAL")
    assert len(set(ticks["volume"])) == 6
    assert ticks["volume"][-1] == pytest.approx(0.6)
    assert len(set(ticks["ts"])) == 2


@pytest.mark.parametrize(
    ("mapping", "reason"),
    [
        ({"last_price": "price"}, "mapping.datetime: is missing"),
        ({"datetime": "time", "prize": "price"}, "mapping.prize: there is no such column"),
        ({"datetime": "when", "last_price": "price"}, "f has no column when"),
    ],
)
def test_a_wrong_mapping_is_refused(write, mapping, reason):
    path = write("time,price\n1723161256322,1\n")
    with pytest.raises(ValidationFailed, match=reason):
        read(path, mapping=mapping, symbol="X", exchange="GLOBAL")


def test_a_mapping_needs_a_symbol_from_somewhere(write):
    path = write("time,price,s\n1723161256322,1,X.GLOBAL\n")
    mapping = {"datetime": "time", "last_price": "price"}
    with pytest.raises(ValidationFailed, match="neither a symbol"):
        read(path, mapping=mapping)
    assert set(read(path, mapping=mapping | {"vt_symbol": "s"})[1]) == {"X.GLOBAL"}


def test_a_format_that_the_file_has_not_is_refused_with_the_missing_columns(write):
    path = write("datetime,last_price,symbol\n2024-01-01,1,X\n")
    with pytest.raises(ValidationFailed, match="f is not in the format short: it has no column askPrice1, askVolume1"):
        read(path, format="short")
    with pytest.raises(ValidationFailed, match="there is no format 'excel'"):
        read(path, format="excel")
    with pytest.raises(ValidationFailed, match="the format ctp needs no mapping"):
        read(path, format="ctp", mapping={"datetime": "datetime"})


@pytest.mark.parametrize(
    "content", [b"", b"a,b,c\n1,2,3\n", b"\x00\x01\x02\n", bytes(range(256)), b"\n\n", b"\x89PNG\r\n\x1a\n"]
)
def test_what_is_no_table_of_ticks_is_refused_at_once(write, content):
    with pytest.raises(ValidationFailed, match=r"^f (has an unknown header|is empty|is no table|cannot be read)"):
        read(write(content))


# --- chunks ---


def test_rows_of_one_microsecond_are_never_parted_and_keep_their_order(write, monkeypatch):
    monkeypatch.setattr(reading, "CHUNK_ROWS", 50)
    monkeypatch.setattr("vnpy_core.recordings.files._PIECE", 300)
    monkeypatch.setattr("vnpy_core.recordings.files._READ", 300)
    rows = [(1704067200 + n // 7, n) for n in range(1000)]
    text = "symbol,exchange,datetime,last_price,volume\n" + "".join(f"X,GLOBAL,{t},1,{n}\n" for t, n in rows)
    chunks = [ticks for _, ticks, _ in TickFile(Source(path=write(text)))]
    assert np.concatenate(chunks)["volume"].tolist() == list(range(1000))
    for before, after in pairwise(chunks):
        assert before["ts"][-1] < after["ts"][0]


def test_more_ticks_in_a_microsecond_than_a_chunk_holds_are_all_read(write):
    rows = "".join(f"X,GLOBAL,1704067200,1,{n}\n" for n in range(120_000)) + "X,GLOBAL,1704067201,1,0\n"
    assert one(write("symbol,exchange,datetime,last_price,volume\n" + rows))["volume"].tolist() == [*range(120_000), 0]


def test_rows_out_of_order_are_sorted_within_a_chunk_and_all_kept(write):
    rows = [f"X,GLOBAL,{1704067200 + (n * 7919) % 1000},1,{n}\n" for n in range(1000)]
    ticks = one(write("symbol,exchange,datetime,last_price,volume\n" + "".join(rows)))
    assert len(ticks) == 1000
    assert (np.diff(ticks["ts"]) > 0).all()


def test_of_a_truncated_file_all_that_is_readable_is_given_before_the_error(write):
    text = ctp(*[{"UpdateTime": f"09:{n // 60:02}:{n % 60:02}", "Volume": str(n * n)} for n in range(3000)])
    data = gzip.compress(text.encode())
    file, count = TickFile(Source(path=write(data[:-2000]), name="f")), 0
    with pytest.raises(ValidationFailed, match=r"^f cannot be read after line \d+: Compressed file ended"):
        for _, ticks, _ in file:
            count += len(ticks)
    assert count == file.rows > 1000


# --- Parquet ---


@pytest.mark.parametrize("kind", ["timestamp", "timestamp with time zone", "timestamp_ns", "varchar", "bigint", "date"])
def test_parquet_written_with_duckdb(tmp_path, kind):
    path = tmp_path / "ticks.parquet"
    times = {
        "timestamp": "timestamp '2026-11-20 09:00:00.5'", "timestamp_ns": "timestamp_ns '2026-11-20 09:00:00.5'",
        "timestamp with time zone": "timestamptz '2026-11-20 01:00:00.5+00'", "varchar": "'2026-11-20 09:00:00.500'",
        "bigint": "1795136400500000000", "date": "date '2026-11-20'",
    }  # fmt: skip
    with duckdb.connect() as database:
        database.execute(
            f"copy (select 'rb2701' as symbol, null::varchar as exchange, {times[kind]} as datetime,"
            " 3500.0::double as last_price, 'nan'::double as high_price, null::double as low_price, 10 as volume,"
            " 3499.0 as bid_price_1, 5::bigint as bid_volume_1, 3501.0::decimal(18,4) as ask_price_1, [1] as other"
            f" union all select 'rb2701', 'SHFE', null, 1, 1, 1, 1, 1, 1, 1, [2]) to '{path}' (format parquet)"
        )
    file, ticks = read(path, exchange="SHFE")
    [tick] = ticks["rb2701.SHFE"]
    assert tick["ts"] == ns("2026-11-19T16:00:00" if kind == "date" else "2026-11-20T01:00:00.500")
    names = ("last_price", "high_price", "low_price", "volume", "bid_price_1", "bid_volume_1", "ask_price_1")
    assert [tick[name] for name in names] == [3500, 0, 0, 10, 3499, 5, 3501]
    assert bad(file) == [("f:2", "no time")]


def test_parquet_in_ctps_columns_is_read_as_its_csv_whatever_the_types(tmp_path, write):
    source = write(ctp({}, {"UpdateTime": "09:00:01", "LastPrice": "N/A", "ExchangeID": ""}))
    for n, typed in enumerate(("all_varchar=true", "nullstr='N/A'")):
        path = tmp_path / f"{n}.parquet"
        with duckdb.connect() as database:
            database.execute(f"copy (select * from read_csv('{source}', {typed})) to '{path}' (format parquet)")
        assert one(path, exchange="SHFE").tobytes() == one(source, exchange="SHFE").tobytes()


@pytest.mark.parametrize("content", [b"PAR1" + bytes(100) + b"PAR1", b"PAR1"])
def test_a_broken_parquet_file_is_refused(write, content):
    with pytest.raises(ValidationFailed, match="^f cannot be read after row 0"):
        read(write(content))
