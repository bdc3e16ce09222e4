"""Times as people write them."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from vnpy_core.domain.errors import ValidationFailed
from vnpy_core.domain.history import FIRST_NS, LAST_NS, to_ns
from vnpy_core.domain.moments import range_ns, time_zone


def utc(*parts):
    return to_ns(datetime(*parts, tzinfo=UTC))


@pytest.mark.parametrize(
    ("start", "end", "exchange", "expected"),
    [
        ("", "", "SHFE", (FIRST_NS, LAST_NS)),
        ("2026-11-20", "2026-11-20", "SHFE", (utc(2026, 11, 19, 16), utc(2026, 11, 20, 16))),
        ("20261120", "2026-11-21", "GLOBAL", (utc(2026, 11, 20), utc(2026, 11, 22))),
        (
            "2026-11-20T09:00",
            "2026-11-20T21:00:00.5",
            "SHFE",
            (utc(2026, 11, 20, 1), utc(2026, 11, 20, 13, 0, 0, 500_000)),
        ),
        ("2026-11-20 09:00Z", "", "SHFE", (utc(2026, 11, 20, 9), LAST_NS)),
        ("1900-01-01", "9999-12-31", "SHFE", (FIRST_NS, LAST_NS)),
    ],
)
def test_a_date_is_the_exchanges_day_and_a_time_is_a_moment(start, end, exchange, expected):
    assert range_ns(start, end, exchange) == expected


def test_a_time_without_offset_is_in_the_zone():
    assert range_ns("2026-07-01T09:00", "", "SHFE", ZoneInfo("America/New_York"))[0] == utc(2026, 7, 1, 13)


@pytest.mark.parametrize(
    ("start", "end", "field"),
    [
        ("soon", "", "start"),
        ("", "2026-02-30", "end"),
        ("2026-11-21", "2026-11-20", "end"),
        ("2026-11-20T09:00", "2026-11-20T09:00", "end"),
        ("1900-01-01", "1900-01-02", "end"),
    ],
)
def test_what_is_no_range_is_told_with_its_field(start, end, field):
    with pytest.raises(ValidationFailed) as caught:
        range_ns(start, end, "SHFE")
    assert [error.field for error in caught.value.errors] == [field]


@pytest.mark.parametrize("name", ["Moon/Base", "", "/etc/passwd"])
def test_a_zone_that_is_none_is_told(name):
    with pytest.raises(ValidationFailed, match="no time zone"):
        time_zone(name)
