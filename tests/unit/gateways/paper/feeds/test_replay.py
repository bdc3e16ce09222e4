import csv
import gzip
import io
import zipfile
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import duckdb
import pytest

from testkit.paper import order
from vnpy_core.domain.enums import Product
from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.gateways.paper.contracts import ContractTable
from vnpy_core.gateways.paper.feeds.replay import MAX_NOTES, Replay
from vnpy_core.gateways.paper.ledger import Ledger
from vnpy_core.gateways.paper.model import ContractSpec, VenueTrade
from vnpy_core.gateways.paper.venue import PaperVenue

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


def ctp(*changes: dict[str, str], header=CTP) -> str:
    """A CTP file with a row for each set of changes."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow(header)
    for change in changes:
        row = dict.fromkeys(CTP, "N/A") | PLAIN | change
        writer.writerow([row[name] for name in header])
    return text.getvalue()


def clock(time: str, volume: float = 3174, **more: str) -> dict[str, str]:
    return {"UpdateTime": time, "Volume": str(volume), **more}


@pytest.fixture
def write(tmp_path):
    """Put a text into a file; returns its path."""

    def write(text: str | bytes, name: str = "ticks.csv") -> str:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return write


def read(*files: str, **options):
    return list(Replay(list(files), **options))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# --- CTP ---


def test_a_ctp_row_becomes_a_snapshot_with_every_number(write):
    [tick] = read(write(ctp({})))
    assert (tick.symbol, tick.exchange) == ("ru1901", "SHFE")
    assert tick.time == utc("2018-10-12T01:00:00.500")
    assert tick.time.tzinfo is UTC
    assert tick.trading_day == date(2018, 10, 12)
    assert (tick.bids, tick.asks) == (((12485.0, 17.0),), ((12490.0, 19.0),))
    assert (tick.last_price, tick.volume, tick.turnover, tick.open_interest) == (12485, 3174, 396132700, 309896)
    assert (tick.limit_up, tick.limit_down, tick.pre_close) == (13390, 11175, 12360)
    assert (tick.open_price, tick.high_price, tick.low_price) == (12480, 12490, 12470)


def test_ctp_values_that_are_absent_become_zero_and_absent_levels_are_left_out(write):
    absent = {"OpenPrice": "N/A", "HighestPrice": DBL_MAX, "LowestPrice": "", "LastPrice": DBL_MAX}
    [tick] = read(write(ctp(absent | {"AskPrice1": DBL_MAX, "AskVolume1": "0", "BidPrice2": "N/A"})))
    assert (tick.open_price, tick.high_price, tick.low_price, tick.last_price) == (0, 0, 0, 0)
    assert tick.asks == ()
    assert tick.bids == ((12485.0, 17.0),)


def test_all_five_levels_of_ctp_are_read(write):
    deep = {}
    for n in range(1, 6):
        deep |= {f"BidPrice{n}": str(100 - n), f"BidVolume{n}": str(n)}
        deep |= {f"AskPrice{n}": str(100 + n), f"AskVolume{n}": str(10 * n)}
    [tick] = read(write(ctp(deep)))
    assert tick.bids == tuple((100.0 - n, float(n)) for n in range(1, 6))
    assert tick.asks == tuple((100.0 + n, 10.0 * n) for n in range(1, 6))


def test_columns_are_found_by_name_in_any_order_and_behind_a_byte_order_mark(write):
    path = write(b"\xef\xbb\xbf" + ctp({}, header=sorted(CTP, reverse=True)).encode())
    assert read(path)[0].bids == ((12485.0, 17.0),)


def test_an_absent_exchange_is_the_one_given_else_the_resolved_one_else_an_error(write):
    path = write(ctp({"ExchangeID": ""}))
    assert read(path, exchange="INE", resolve_exchange=lambda symbol: "SHFE")[0].exchange == "INE"
    assert read(path, resolve_exchange={"ru1901": "SHFE"}.get)[0].exchange == "SHFE"
    with pytest.raises(ConfigurationError, match=r"ticks.csv has no usable row; line 2: no exchange .* ru1901"):
        read(path)


def test_a_recorded_exchange_wins_over_the_given_one(write):
    assert read(write(ctp({"ExchangeID": "INE"})), exchange="SHFE")[0].exchange == "INE"


def test_other_time_zones_are_those_of_the_setting(write):
    [tick] = read(write(ctp({})), timezone="UTC")
    assert tick.time == utc("2018-10-12T09:00:00.500")
    with pytest.raises(ConfigurationError, match="time zone 'Mars/Base'"):
        read(write(ctp({})), timezone="Mars/Base")


# --- nights and volumes ---


NIGHT = [
    ("SHFE", "20181015", "20181012", "21:00:00", "2018-10-12T13:00"),
    ("SHFE", "20181015", "20181013", "00:30:00", "2018-10-12T16:30"),
    ("DCE", "20181015", "20181015", "21:00:00", "2018-10-12T13:00"),
    ("DCE", "20181015", "20181015", "00:30:00", "2018-10-12T16:30"),
    ("CZCE", "20181012", "20181012", "21:00:00", "2018-10-12T13:00"),
]


@pytest.mark.parametrize(("exchange", "trading", "action", "local", "time"), NIGHT)
def test_friday_night_belongs_to_monday_and_happens_on_friday(write, exchange, trading, action, local, time):
    days = {"ExchangeID": exchange, "TradingDay": trading, "ActionDay": action}
    [tick] = read(write(ctp(clock(local, UpdateMillisec="0", **days))))
    assert (tick.time, tick.trading_day) == (utc(time), date(2018, 10, 15))


def test_what_was_traded_since_the_last_row_comes_from_the_days_volume_and_begins_anew_with_the_trading_day(write):
    night = {"TradingDay": "20181015", "ActionDay": "20181012"}
    rows = [
        clock("14:59:58", 100),
        clock("14:59:59", 130),
        clock("15:00:00", 130),
        clock("21:00:00", 7, **night),
        clock("21:00:01", 9, **night),
        clock("09:00:00", 20, TradingDay="20181015", ActionDay="20181015"),
    ]
    ticks = read(write(ctp(*rows)))
    assert [tick.last_volume for tick in ticks] == [0, 30, 0, 7, 2, 11]
    assert [tick.volume for tick in ticks] == [100, 130, 130, 7, 9, 20]


def test_each_symbol_has_its_own_volumes(write):
    other = {"InstrumentID": "ru1905"}
    rows = [
        clock("09:00:00", 10),
        clock("09:00:01", 500, **other),
        clock("09:00:02", 12),
        clock("09:00:03", 505, **other),
    ]
    assert [tick.last_volume for tick in read(write(ctp(*rows)))] == [0, 0, 2, 5]


def test_volumes_follow_on_from_one_file_to_the_next(write):
    first = write(ctp(clock("09:00:00", 10), clock("09:00:01", 15)), "a.csv")
    second = write(ctp(clock("09:00:02", 18), clock("09:00:03", 18)), "b.csv")
    assert [tick.last_volume for tick in read(second, first)] == [0, 5, 3, 0]


# --- VnPy's own ---


VNPY = (
    "symbol,exchange,datetime,name,volume,turnover,last_price,last_volume,"
    "bid_price_1,bid_volume_1,ask_price_1,ask_volume_1,bid_price_2,bid_volume_2,ask_price_2,ask_volume_2\n"
)


def test_vnpys_csv_with_naive_and_offset_times(write):
    rows = (
        "rb2701,SHFE,2026-11-20 09:00:00.500,rb,10,1000,3500,2,3499,5,3501,6,3498,7,3502,8\n"
        "rb2701,SHFE,2026-11-20 09:00:01+08:00,rb,12,1200,3501,2,3500,5,3501,6,0,0,0,0\n"
        "rb2701,SHFE,2026-11-20T01:00:02Z,rb,12,1200,3501,0,3500,5,3501,6,,,,\n"
        "rb2701,SHFE,2026-11-20 21:00:00+08:00,rb,1,1200,3501,1,3500,5,3501,6,,,,\n"
    )
    ticks = read(write(VNPY + rows))
    assert [tick.time for tick in ticks] == [
        utc("2026-11-20T01:00:00.500"), utc("2026-11-20T01:00:01"), utc("2026-11-20T01:00:02"),
        utc("2026-11-20T13:00:00"),
    ]  # fmt: skip
    assert ticks[0].bids == ((3499.0, 5.0), (3498.0, 7.0))
    assert ticks[0].asks == ((3501.0, 6.0), (3502.0, 8.0))
    assert ticks[1].bids == ticks[2].bids == ((3500.0, 5.0),)
    assert [tick.last_volume for tick in ticks] == [2, 2, 0, 1]
    assert [tick.trading_day for tick in ticks] == [date(2026, 11, 20)] * 3 + [date(2026, 11, 23)]


def test_vnpys_csv_by_vt_symbol_and_without_last_volume(write):
    header = "vt_symbol,datetime,last_price,volume,bid_price_1,bid_volume_1,ask_price_1,ask_volume_1\n"
    rows = "BTC.USDT.GLOBAL,2026-11-21 07:00:00,60000.1,1.5,60000,0.5,60000.1,0.25\n"
    rows += "BTC.USDT.GLOBAL,2026-11-21 07:00:01,60000.1,1.75,60000,0.5,60000.1,0.25\n"
    ticks = read(write(header + rows))
    assert (ticks[0].symbol, ticks[0].exchange) == ("BTC.USDT", "GLOBAL")
    assert ticks[0].trading_day == date(2026, 11, 20)
    assert [tick.last_volume for tick in ticks] == [0, 0.25]


@pytest.mark.parametrize("kind", ["timestamp", "timestamp with time zone", "timestamp_ns", "varchar", "bigint"])
def test_parquet_written_with_duckdb(tmp_path, kind):
    path = str(tmp_path / "ticks.parquet")
    times = {
        "timestamp": "timestamp '2026-11-20 09:00:00.5'", "timestamp_ns": "timestamp_ns '2026-11-20 09:00:00.5'",
        "timestamp with time zone": "timestamptz '2026-11-20 01:00:00.5+00'", "varchar": "'2026-11-20 09:00:00.500'",
        "bigint": "1795136400500000000",
    }  # fmt: skip
    with duckdb.connect() as database:
        database.execute(
            f"copy (select 'rb2701' as symbol, null::varchar as exchange, {times[kind]} as datetime,"
            " 3500.0::double as last_price, 'nan'::double as high_price, null::double as low_price, 10 as volume,"
            " 3499.0 as bid_price_1, 5::bigint as bid_volume_1, 3501.0 as ask_price_1, 6.0 as ask_volume_1)"
            f" to '{path}' (format parquet)"
        )
    [tick] = read(path, exchange="SHFE")
    assert tick.time == utc("2026-11-20T01:00:00.500")
    assert (tick.bids, tick.asks) == (((3499.0, 5.0),), ((3501.0, 6.0),))
    assert (tick.high_price, tick.low_price, tick.volume) == (0, 0, 10)
    assert all(type(level[1]) is float for level in (*tick.bids, *tick.asks))


def test_a_parquet_file_in_ctps_columns_may_hold_nulls(tmp_path, write):
    source, path = write(ctp({}, clock("09:00:01"))), str(tmp_path / "ticks.parquet")
    with duckdb.connect() as database:
        database.execute(
            "copy (select * replace (nullif(ExchangeID, 'SHFE') as ExchangeID)"
            f" from read_csv('{source}', all_varchar=true)) to '{path}' (format parquet)"
        )
    assert [tick.exchange for tick in read(path, exchange="INE")] == ["INE", "INE"]


def test_a_broken_parquet_file_is_a_configuration_error(write):
    with pytest.raises(ConfigurationError, match=r"ticks.parquet cannot be read"):
        read(write(b"PAR1" + bytes(100) + b"PAR1", "ticks.parquet"))


# --- tqsdk, and the short form ---


def test_tqsdks_five_levels(write):
    header = "symbol,id,datetime,last_price,average,highest,lowest,volume,amount,open_interest," + ",".join(
        f"bid_price{n},bid_volume{n},ask_price{n},ask_volume{n}" for n in range(1, 6)
    )
    levels = ",".join(f"{100 - n},{n},{100 + n},{10 * n}" for n in range(1, 6))
    rows = [f"SHFE.cu1909,1,1568613693000000000,100.0,99,101,98,7360,1756292000.0,8240,{levels}"]
    rows += [f"SHFE.cu1909,2,1568613693500000000,nan,99,101,98,7362,1756292000.0,8240,{levels}"]
    ticks = read(write("\n".join([header, *rows])))
    assert ticks[0].time == utc("2019-09-16T06:01:33")
    assert ticks[1].time == utc("2019-09-16T06:01:33.500")
    assert (ticks[0].symbol, ticks[0].exchange) == ("cu1909", "SHFE")
    assert len(ticks[0].bids) == len(ticks[0].asks) == 5
    assert (ticks[0].high_price, ticks[0].low_price, ticks[0].turnover) == (101, 98, 1756292000)
    assert [tick.last_price for tick in ticks] == [100, 0]
    assert [tick.last_volume for tick in ticks] == [0, 2]


SHORT = "symbol,date,time,lastPrice,lastVolume,bidPrice1,askPrice1,bidVolume1,askVolume1\n"


def test_the_short_form_adds_up_the_days_volume(write):
    rows = (
        "RM705,20170320,09:00:00.5,2374.0,0.0,2372.0,2374.0,264.0,65.0\n"
        "RM705,20170320,09:00:01.0,2376.0,8.0,2375.0,2376.0,117.0,55.0\n"
        "RM705,20170320,14:59:59.0,2376.0,4.0,2375.0,2376.0,117.0,55.0\n"
        "RM705,20170320,21:00:00.0,2376.0,6.0,2375.0,2376.0,117.0,55.0\n"
    )
    ticks = read(write(SHORT + rows), exchange="CZCE")
    assert ticks[0].time == utc("2017-03-20T01:00:00.500")
    assert [tick.last_volume for tick in ticks] == [0, 8, 4, 6]
    assert [tick.volume for tick in ticks] == [0, 8, 12, 6]
    assert [tick.trading_day.day for tick in ticks] == [20, 20, 20, 21]


# --- files ---


def zipped(**members: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "."), text)
    return data.getvalue()


def test_members_of_a_zip_are_read_in_the_order_of_their_names_and_others_ignored(write):
    same = [clock("09:00:00", volume) for volume in (1, 2, 3)]
    path = write(zipped(c__csv=ctp(same[2]), a__csv=ctp(same[0]), readme__txt="no", b__CSV=ctp(same[1])), "x.zip")
    assert [tick.volume for tick in read(path)] == [1, 2, 3]


def test_a_gzipped_file_is_known_by_its_first_bytes(write):
    assert len(read(write(gzip.compress(ctp({}).encode()), "ticks.dat"))) == 1


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.99])
@pytest.mark.parametrize("kind", ["zip", "gz"])
def test_a_truncated_archive_is_a_configuration_error_with_its_name(write, kind, kept):
    text = ctp(*[clock(f"09:{n // 60:02}:{n % 60:02}", n * n) for n in range(3000)])
    data = zipped(ticks__csv=text) if kind == "zip" else gzip.compress(text.encode())
    path = write(data[: int(len(data) * kept)], f"ticks.{kind}")
    with pytest.raises(ConfigurationError, match=rf"ticks\.{kind}"):
        read(path)


def test_a_member_of_a_zip_that_is_damaged_is_a_configuration_error(write):
    text = ctp(*[clock(f"09:{n // 60:02}:{n % 60:02}", n * n) for n in range(3000)])
    data = bytearray(zipped(ticks__csv=text))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ConfigurationError, match=r"x\.zip/ticks\.csv cannot be read after line"):
        read(write(bytes(data), "x.zip"))


def test_a_zip_without_a_csv_is_a_configuration_error(write):
    with pytest.raises(ConfigurationError, match="no .csv in it"):
        read(write(zipped(readme__txt="nothing"), "x.zip"))


@pytest.mark.parametrize("text", ["", "a,b,c\n1,2,3\n", "\x00\x01\x02", "\n\n"])
def test_an_unknown_header_or_an_empty_file_is_a_configuration_error_at_once(write, text):
    with pytest.raises(ConfigurationError, match=r"ticks.csv (has an unknown header|is empty)"):
        Replay([write(text)])


def test_a_missing_file_a_folder_and_no_file_are_configuration_errors(tmp_path):
    with pytest.raises(ConfigurationError, match=r"there is no file .*absent\*\.csv"):
        Replay([str(tmp_path / "absent*.csv")])
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Replay([str(tmp_path)])
    with pytest.raises(ConfigurationError, match="at least one file"):
        Replay([])


def test_a_glob_gives_each_file_once(write, tmp_path):
    write(ctp(clock("09:00:00")), "a1.csv")
    write(ctp(clock("09:00:01")), "a2.csv")
    assert len(read(str(tmp_path / "a*.csv"), str(tmp_path / "a1.csv"))) == 2


def test_a_file_whose_name_looks_like_a_glob_is_read(write):
    assert len(read(write(ctp({}), "ticks[1].csv"))) == 1


# --- bad rows ---


def test_bad_rows_are_counted_with_file_line_and_reason_and_the_rest_is_read(write):
    good, lines = ctp({}).splitlines()[1], ctp().splitlines()
    wrong_price = ctp({"LastPrice": "twelve"}).splitlines()[1]
    wrong_volume = ctp({"Volume": "-1"}).splitlines()[1]
    wrong_time = ctp({"UpdateTime": "25:00:00"}).splitlines()[1]
    infinite = ctp({"LastPrice": "inf"}).splitlines()[1]
    nameless = ctp({"InstrumentID": ""}).splitlines()[1]
    lines += [good, "too,short", wrong_price, good, "", wrong_volume, wrong_time, infinite, nameless, lines[0], good]
    path = write("\n".join(lines))
    replay = Replay([path])
    assert len(list(replay)) == 3
    assert replay.bad_count == len(replay.bad_rows) == 6
    notes = [note.removeprefix(f"{path}:") for note in replay.bad_rows]
    assert [note.partition(":")[0] for note in notes] == ["3", "4", "7", "8", "9", "10"]
    for note, reason in zip(
        notes, ["2 columns instead of 44", "twelve", "volume of -1", "hour", "inf", "symbol"], strict=True
    ):
        assert reason in note
    assert (len(list(replay)), replay.bad_count) == (3, 6), "iterating again begins anew"


def test_only_the_first_bad_rows_are_kept_but_all_are_counted(write):
    replay = Replay([write(ctp({}) + "bad,row\n" * 500)])
    assert len(list(replay)) == 1
    assert (replay.bad_count, len(replay.bad_rows)) == (500, MAX_NOTES)


def test_bytes_that_are_no_text_make_a_bad_row_not_an_error(write):
    data = ctp({}).encode() + b"\xff\xfe\xff,\x80\n" + ctp({}).encode().splitlines()[1]
    replay = Replay([write(data)])
    assert (len(list(replay)), replay.bad_count) == (2, 1)


def test_rows_a_little_out_of_order_are_sorted_and_those_much_too_late_left_out(write):
    rows = [clock(f"09:{n // 60:02}:{n % 60:02}") for n in range(600)]
    rows[10], rows[11] = rows[11], rows[10]
    rows.append(clock("08:59:59"))
    replay = Replay([write(ctp(*rows))])
    times = [tick.time for tick in replay]
    assert times == sorted(times)
    assert len(times) == 600
    assert replay.bad_count == 1
    assert "602: its time 2018-10-12T00:59:59" in replay.bad_rows[0]


# --- several files ---


def test_two_files_are_merged_by_time(write):
    one = write(ctp(*[clock(f"09:00:{n:02}") for n in range(0, 60, 2)]), "one.csv")
    other = {"InstrumentID": "rb1901"}
    two = write(ctp(*[clock(f"09:00:{n:02}", **other) for n in range(1, 60, 2)]), "two.csv")
    ticks = read(one, two)
    assert [tick.symbol for tick in ticks] == ["ru1901", "rb1901"] * 30
    assert all(a.time <= b.time for a, b in pairwise(ticks))


def test_files_of_different_formats_play_together_and_equal_times_keep_the_order_of_the_files(write):
    one = write(ctp(clock("09:00:00"), clock("09:00:02")), "one.csv")
    short = SHORT + "".join(f"RM705,20181012,09:00:0{n}.5,2374.0,0.0,2372.0,2374.0,264.0,65.0\n" for n in range(3))
    two = write(short, "two.csv")
    resolve = {"RM705": "CZCE"}.get
    expected = ["ru1901", "RM705", "RM705", "ru1901", "RM705"]
    assert [tick.symbol for tick in read(one, two, resolve_exchange=resolve)] == expected
    assert read(two, one, resolve_exchange=resolve)[0].symbol == "RM705"


def test_a_file_that_proves_truncated_while_merging_is_a_configuration_error(write):
    text = ctp(*[clock(f"09:{n // 60:02}:{n % 60:02}", n * n) for n in range(3000)])
    whole = write(text, "whole.csv")
    data = gzip.compress(text.encode())
    with pytest.raises(ConfigurationError, match=r"part\.gz cannot be read after line \d+"):
        read(whole, write(data[:-2000], "part.gz"))


# --- real recordings ---


@pytest.mark.realdata
def test_five_days_of_rubber_give_every_snapshot_in_the_order_of_time(shared_data):
    replay = Replay([str(shared_data / "ctp" / "*.zip")], exchange="SHFE")
    count, previous, volume, days = 0, datetime.min.replace(tzinfo=UTC), {}, set()
    for tick in replay:
        assert tick.time >= previous
        previous = tick.time
        count += 1
        days.add(tick.trading_day)
        volume[tick.trading_day] = volume.get(tick.trading_day, 0) + tick.last_volume
        assert tick.last_volume >= 0
        assert len(tick.bids) <= 1
        assert len(tick.asks) <= 1
    assert (count, replay.bad_count) == (192_164, 0)
    assert {day.day for day in days} == {8, 9, 10, 11, 12, 15}, "Friday night is Monday's"


@pytest.mark.realdata
def test_a_day_of_rapeseed_meal_without_exchange(shared_data):
    table = ContractTable(Path(__file__).resolve().parents[5] / "vnpy_config" / "contracts.toml")
    path = shared_data / "czce" / "czce_RM705_20170320_tick.csv.gz"
    ticks = read(str(path), resolve_exchange=table.exchange_of)
    assert len(ticks) == 16_979
    assert {(tick.symbol, tick.exchange, tick.trading_day) for tick in ticks} == {("RM705", "CZCE", date(2017, 3, 20))}
    with gzip.open(path, "rt") as file:
        assert ticks[-1].volume == sum(float(row["lastVolume"]) for row in csv.DictReader(file))


@pytest.mark.realdata
def test_an_order_beyond_the_first_level_of_a_real_book_fills_across_its_levels(shared_data, tmp_path):
    path = shared_data / "tqsdk" / "shfe_cu1909_5level_ticks.csv"
    ticks = read(str(path))
    assert len(ticks) == 200
    assert len(ticks[0].bids) == len(ticks[0].asks) == 5
    with path.open() as file:
        row = next(csv.DictReader(file))

    for direction, side in (("LONG", "ask"), ("SHORT", "bid")):
        shown = [(Decimal(row[f"{side}_price{n}"]), int(row[f"{side}_volume{n}"])) for n in range(1, 6)]
        wanted = shown[0][1] + shown[1][1] + 1
        expected, left = [], wanted
        for price, volume in shown:
            if left:
                expected.append((price, min(left, volume)))
                left -= min(left, volume)
        cu = ContractSpec(
            symbol="cu1909", exchange="SHFE", name="cu", product=Product.FUTURES, size=Decimal(5), pricetick=Decimal(10)
        )
        venue = PaperVenue(
            lambda symbol, exchange, cu=cu: cu,
            Ledger(tmp_path / f"{side}.sqlite"),
            accountid="paper",
            initial_balance=Decimal(100_000_000),
            now=lambda: datetime.now(UTC),
        )
        venue.on_snapshot(ticks[0])
        _, events = venue.place(order(direction, wanted, spec=cu, type="MARKET"))
        assert [(e.price, e.volume) for e in events if isinstance(e, VenueTrade)] == expected
        assert len(expected) == 3
