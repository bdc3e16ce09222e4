"""Trading days of venues with night sessions. Weekends are known, holidays are not."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

SHANGHAI = ZoneInfo("Asia/Shanghai")
NIGHT_BEGINS = 18
"""From this local hour on trading belongs to the next trading day."""

_CHINESE = frozenset({"SHFE", "INE", "DCE", "CZCE", "GFEX", "CFFEX", "SSE", "SZSE", "BSE", "SGE"})
_DAY = timedelta(days=1)


def trading_day(local: datetime, exchange: str) -> date:
    """The trading day that an aware time belongs to; Chinese venues are looked at in Shanghai, GLOBAL in UTC.

    From 18:00 local time on it is the next weekday; Saturday (after Friday's midnight) and Sunday belong to Monday.
    GLOBAL (crypto) never sleeps: its day is the UTC date.
    """
    if exchange == "GLOBAL":
        return local.astimezone(UTC).date()
    if exchange in _CHINESE and local.tzinfo is not SHANGHAI:
        local = local.astimezone(SHANGHAI)
    day = local.date()
    if local.hour >= NIGHT_BEGINS or day.weekday() > 4:
        return next_weekday(day)
    return day


def next_weekday(day: date) -> date:
    """The weekday after: Monday for Friday."""
    day += _DAY
    while day.weekday() > 4:
        day += _DAY
    return day


def previous_weekday(day: date) -> date:
    """The weekday before: Friday for Monday."""
    day -= _DAY
    while day.weekday() > 4:
        day -= _DAY
    return day


def ctp_days(trading: date, action: date, hour: int, exchange: str) -> tuple[date, date]:
    """The day on which a tick really happened and its trading day, from CTP's TradingDay, ActionDay and local hour.

    At night the two must differ. Where they do not, DCE wrote the trading day twice and CZCE the calendar day twice.
    """
    if action != trading:
        return action, trading
    if hour >= NIGHT_BEGINS:
        return (action, next_weekday(action)) if exchange == "CZCE" else (previous_weekday(trading), trading)
    if hour < 3 and trading.weekday() == 0:
        return trading - 2 * _DAY, trading
    return action, trading
