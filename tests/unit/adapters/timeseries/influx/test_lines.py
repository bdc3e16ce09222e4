"""The text that is written to InfluxDB."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vnpy_core.adapters.timeseries.influx.lines import ROWS, bar_bodies, name_line, tick_bodies
from vnpy_core.adapters.timeseries.influx.places import original, portable
from vnpy_core.domain.errors import ValidationFailed
from vnpy_core.domain.history import Interval, Series, empty_bars, empty_ticks

RB = Series("rb2410", "SHFE")


def text(bodies) -> str:
    return "\n".join(body.decode() for body in bodies)


def test_a_tick_is_a_line_without_its_zeros():
    ticks = empty_ticks(1)
    ticks["ts"], ticks["localtime"] = 1_700_000_000_000_000_007, 5
    ticks["last_price"], ticks["bid_price_1"], ticks["volume"] = 3500, 3499.9, 1e16
    assert text(tick_bodies({RB: ticks})) == (
        "tick,symbol=rb2410,exchange=SHFE localtime=5i,volume=1e+16,last_price=3500.0,bid_price_1=3499.9"
        " 1700000000000000007"
    )


def test_numbers_that_change_are_written_row_by_row():
    ticks = empty_ticks(3)
    ticks["ts"] = [1, 2, 3]
    ticks["last_price"] = [10.5, -0.25, 1e-9]
    ticks["volume"] = [0, 7, 2**53]
    ticks["turnover"] = [0, 7, 2**53 - 1]
    assert text(tick_bodies({RB: ticks})).splitlines() == [
        "tick,symbol=rb2410,exchange=SHFE volume=0.0,turnover=0,last_price=10.5 1",
        "tick,symbol=rb2410,exchange=SHFE volume=7.0,turnover=7,last_price=-0.25 2",
        "tick,symbol=rb2410,exchange=SHFE volume=9007199254740992.0,turnover=9007199254740991,last_price=1e-09 3",
    ]


def test_a_tick_of_zeros_has_a_price_and_a_bar_has_all_numbers():
    assert text(tick_bodies({RB: empty_ticks(1)})) == "tick,symbol=rb2410,exchange=SHFE last_price=0.0 0"
    assert text(bar_bodies(RB, Interval.HOUR, empty_bars(1))) == (
        "bar,symbol=rb2410,exchange=SHFE,interval=1h open_price=0.0,high_price=0.0,low_price=0.0,close_price=0.0,"
        "volume=0.0,turnover=0.0,open_interest=0.0 0"
    )


def test_many_rows_are_several_bodies_of_several_series():
    bodies = list(tick_bodies({RB: empty_ticks(ROWS - 1), Series("ag", "SHFE"): empty_ticks(3)}))
    assert [body.count(b"\n") + 1 for body in bodies] == [ROWS, 2]
    assert [body.count(b"symbol=ag,") for body in bodies] == [1, 2]


def test_what_separates_is_escaped():
    bars = empty_bars(1)
    key = text(bar_bodies(Series("a b,c=d'e\"f\\g\n", "X%"), Interval.DAILY, bars)).partition(" open")[0]
    assert key == "bar,symbol=a\\ b\\,c\\=d'e\"f%5Cg%0A,exchange=X%25,interval=d"
    assert name_line(RB, 'he "said"\\', 9) == b'contract,symbol=rb2410,exchange=SHFE name="he \\"said\\"%5C" 9'


@given(st.text(min_size=1))
def test_a_portable_text_has_nothing_that_parsers_differ_about_and_can_be_undone(name):
    assert original(portable(name)) == name
    assert not set(portable(name)) & set("\\\n\r\t\0")


@given(st.text(st.characters(exclude_categories=[]), min_size=1))
def test_a_line_is_a_line_whatever_the_symbol(symbol):
    (body,) = tick_bodies({Series(symbol, "SHFE"): empty_ticks(1)})
    assert body.decode().count("\n") == 0


@pytest.mark.parametrize("series", [Series("", "SHFE"), Series("rb", "")])
def test_an_empty_tag_is_refused(series):
    with pytest.raises(ValidationFailed, match="empty"):
        text(tick_bodies({series: empty_ticks(1)}))


def test_large_numbers_are_not_taken_for_integers():
    ticks = empty_ticks(2)
    ticks["last_price"] = [1e300, -1e300]
    assert "last_price=1e+300" in text(tick_bodies({RB: ticks}))
    assert np.isfinite(ticks["last_price"]).all()
