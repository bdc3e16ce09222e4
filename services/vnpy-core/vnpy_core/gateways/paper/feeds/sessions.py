"""Trading days: a night session belongs to the next one."""

from __future__ import annotations

import functools
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

SHANGHAI = ZoneInfo("Asia/Shanghai")
NIGHT_BEGINS = 18
"""Hour in Shanghai from which ticks count for the next trading day."""
_ONE_DAY = timedelta(days=1)


def trading_day(time: datetime, exchange: str) -> date:
    """The trading day of an aware `time`; public holidays are not known here.

    From 18:00 in Shanghai on it is the next weekday; the hours after midnight on a Saturday count for Monday. Crypto
    (GLOBAL) has no sessions: the UTC date.
    """
    if exchange == "GLOBAL":
        return time.astimezone(UTC).date()
    local = time.astimezone(SHANGHAI)
    return _session_day(local.date(), local.hour >= NIGHT_BEGINS)


@functools.lru_cache(maxsize=1024)
def _session_day(day: date, night: bool) -> date:
    if night:
        day += _ONE_DAY
    while day.weekday() >= 5:
        day += _ONE_DAY
    return day


@functools.lru_cache(maxsize=1024)
def previous_weekday(day: date) -> date:
    """The weekday before `day`."""
    day -= _ONE_DAY
    while day.weekday() >= 5:
        day -= _ONE_DAY
    return day


@functools.lru_cache(maxsize=4096)
def calendar_day(action_day: date, day: date, hour: int) -> date:
    """The day on which a CTP tick really happened.

    SHFE's ActionDay is the calendar day. DCE and CZCE repeat the trading day there: at night that is the previous
    weekday's evening, and after midnight the day after that evening, which for Monday is Saturday.
    """
    if action_day != day:
        return action_day
    if hour >= NIGHT_BEGINS:
        return previous_weekday(day)
    if hour < 4:
        return previous_weekday(day) + _ONE_DAY
    return action_day
