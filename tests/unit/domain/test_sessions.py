from datetime import UTC, date, datetime, timedelta

import pytest

from vnpy_core.domain.sessions import (
    SHANGHAI,
    ctp_days,
    next_weekday,
    previous_weekday,
    trading_day,
)

# 2018-10-12 is a Friday.
THURSDAY, FRIDAY, SATURDAY, MONDAY = (date(2018, 10, day) for day in (11, 12, 13, 15))


@pytest.mark.parametrize(
    ("local", "day"),
    [
        ("2018-10-12T09:00", FRIDAY),
        ("2018-10-12T15:00", FRIDAY),
        ("2018-10-12T17:59:59.999", FRIDAY),
        ("2018-10-12T18:00", MONDAY),
        ("2018-10-12T21:00", MONDAY),
        ("2018-10-13T00:30", MONDAY),
        ("2018-10-14T12:00", MONDAY),
        ("2018-10-11T21:00", FRIDAY),
        ("2018-10-12T00:30", FRIDAY),
    ],
)
def test_a_night_session_belongs_to_the_next_weekday(local, day):
    assert trading_day(datetime.fromisoformat(local).replace(tzinfo=SHANGHAI), "SHFE") == day


def test_a_chinese_venue_is_looked_at_in_shanghai_whatever_zone_the_time_is_in():
    night = datetime(2018, 10, 12, 13, 0, tzinfo=UTC)
    assert trading_day(night, "DCE") == MONDAY
    assert trading_day(night - timedelta(hours=4), "DCE") == FRIDAY


def test_crypto_days_are_those_of_utc_and_have_weekends():
    assert trading_day(datetime(2018, 10, 14, 7, 59, tzinfo=SHANGHAI), "GLOBAL") == SATURDAY
    assert trading_day(datetime(2018, 10, 14, 8, 0, tzinfo=SHANGHAI), "GLOBAL") == date(2018, 10, 14)


@pytest.mark.parametrize(
    ("exchange", "trading", "action", "hour", "really", "day"),
    [
        ("SHFE", MONDAY, FRIDAY, 21, FRIDAY, MONDAY),
        ("SHFE", MONDAY, SATURDAY, 0, SATURDAY, MONDAY),
        ("SHFE", FRIDAY, FRIDAY, 9, FRIDAY, FRIDAY),
        ("SHFE", FRIDAY, FRIDAY, 0, FRIDAY, FRIDAY),
        ("DCE", MONDAY, MONDAY, 21, FRIDAY, MONDAY),
        ("DCE", MONDAY, MONDAY, 0, SATURDAY, MONDAY),
        ("DCE", FRIDAY, FRIDAY, 21, THURSDAY, FRIDAY),
        ("DCE", MONDAY, MONDAY, 9, MONDAY, MONDAY),
        ("CZCE", FRIDAY, FRIDAY, 21, FRIDAY, MONDAY),
        ("CZCE", THURSDAY, THURSDAY, 21, THURSDAY, FRIDAY),
        ("CZCE", FRIDAY, FRIDAY, 14, FRIDAY, FRIDAY),
    ],
)
def test_ctp_days_that_do_not_differ_at_night_are_told_apart(exchange, trading, action, hour, really, day):
    assert ctp_days(trading, action, hour, exchange) == (really, day)


def test_weekdays_go_around_the_weekend():
    assert next_weekday(FRIDAY) == next_weekday(SATURDAY) == MONDAY
    assert previous_weekday(MONDAY) == previous_weekday(SATURDAY) == FRIDAY
