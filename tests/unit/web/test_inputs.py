import gettext
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from importlib.util import find_spec
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from vnpy_core.domain import enums
from vnpy_core.web import inputs

KINDS = {
    "Direction": inputs.AnyDirectionInput,
    "Offset": inputs.OffsetInput,
    "OrderType": inputs.OrderTypeInput,
    "Status": inputs.StatusInput,
    "Product": inputs.ProductInput,
}


def parse(kind, value):
    return TypeAdapter(kind).validate_python(value)


def refused(kind, value):
    with pytest.raises(ValidationError) as error:
        parse(kind, value)
    return error.value.errors()[0]["msg"]


def vnpys_spellings():
    """(enum, name, text) of VnPy itself, read from its source and catalogue: importing it makes folders."""
    trader = Path(find_spec("vnpy").submodule_search_locations[0]) / "trader"
    with (trader / "locale/en/LC_MESSAGES/vnpy.mo").open("rb") as file:
        english = gettext.GNUTranslations(file).gettext
    source = (trader / "constant.py").read_text(encoding="utf-8").replace("from .locale import _", "")
    for translate in (lambda text: text, english):
        names = {"_": translate, "Enum": Enum, "__name__": "constant"}
        exec(source, names)
        for kind in KINDS:
            for member in names[kind]:
                yield kind, member.name, member.value


@pytest.mark.parametrize(("kind", "name", "text"), sorted(set(vnpys_spellings())))
def test_every_spelling_of_vnpy_is_understood(kind, name, text):
    if (kind, name) in {("OrderType", "RFQ"), ("OrderType", "ETF")}:
        assert "must be one of" in refused(KINDS[kind], text)  # nothing that POST /orders sends
        return
    member = getattr(enums, kind)(name)
    assert parse(KINDS[kind], text) is member
    assert parse(KINDS[kind], name) is member
    assert parse(KINDS[kind], member) is member


@pytest.mark.parametrize("value", ["", "long", "多 ", "LONG\n", 1, True, None, [], {}, 1.5, "x" * 10_000])
def test_other_words_are_refused(value):
    assert refused(inputs.DirectionInput, value) == "Value error, must be one of LONG, SHORT"


def test_an_order_has_no_net_side():
    assert parse(inputs.AnyDirectionInput, "净") is enums.Direction.NET
    refused(inputs.DirectionInput, "净")


def test_enums_are_documented_by_name():
    assert TypeAdapter(inputs.OffsetInput).json_schema() == {
        "type": "string",
        "enum": ["NONE", "OPEN", "CLOSE", "CLOSETODAY", "CLOSEYESTERDAY"],
        "examples": ["NONE", "OPEN"],
    }


@pytest.mark.parametrize("value", [0, -1, 1.5, 1e308, 2**60])
def test_finite_numbers_pass(value):
    assert parse(inputs.FiniteFloat, value) == float(value)


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), "NaN", "nan", "inf", "-Infinity", "1", "", True, None, [], 10**400, -(10**400)],
)
def test_other_numbers_are_refused(value):
    refused(inputs.FiniteFloat, value)


NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-21T12:00:00Z",
        "2026-11-21T12:00:00+00:00",
        "2026-11-21T20:00:00+08:00",
        "2026-11-21T20:00:00.000000+0800",
        "2026-11-21 07:00-05:00",
        1795262400000,
        "1795262400000",
        datetime(2026, 11, 21, 20, tzinfo=timezone(timedelta(hours=8))),
    ],
)
def test_times_of_any_offset_become_utc(value):
    moment = parse(inputs.Time, value)
    assert (moment, moment.tzinfo) == (NOON, UTC)


def test_milliseconds_are_exact():
    assert parse(inputs.Time, 1795262400123).microsecond == 123_000
    assert parse(inputs.Time, "-1") == datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-21T12:00:00",
        "2026-11-21",
        "2026-11-21T12:00:00 08:00",
        datetime(2026, 11, 21),
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "2026-02-30T00:00:00Z",
        "2026-11-21T23:59:60Z",
        "",
        "now",
        "²",
        "1795262400.5",
        1795262400000.5,
        10**15 * 9,
        10**30,
        "9" * 16,
        "9" * 5_000,
        True,
        None,
        [],
        float("nan"),
    ],
)
def test_times_without_offset_or_meaning_are_refused(value):
    refused(inputs.Time, value)


@pytest.mark.parametrize("text", ["rb2505.SHFE", "BTC/USDT.BINANCE", "a.b.c.SMART", "IF 2506.CFFEX", "铜.SHFE"])
def test_contracts_split_at_the_last_dot(text):
    symbol, exchange = inputs.split_vt_symbol(parse(inputs.VtSymbol, text))
    assert f"{symbol}.{exchange}" == text
    assert "." not in exchange


@pytest.mark.parametrize(
    "text", ["", ".", "rb2505", "rb2505.", ".SHFE", "rb.SH FE", "rb\x00.SHFE", "x" * 65 + ".SHFE", 1]
)
def test_other_contracts_are_refused(text):
    refused(inputs.VtSymbol, text)


@pytest.mark.parametrize("text", ["", ".", "rb2505", "rb2505.", ".SHFE"])
def test_half_a_contract_cannot_be_split(text):
    with pytest.raises(ValueError, match="not symbol"):
        inputs.split_vt_symbol(text)
