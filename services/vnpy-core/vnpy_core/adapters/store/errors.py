"""What a database's refusal means: the server is away, the row is wrong, or the configuration is."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import URL
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError, StatementError

from vnpy_core.domain.errors import ConfigurationError, CoreError, StoreUnavailable

DATABASE_ERRORS = (SQLAlchemyError, OSError, EOFError, OverflowError, UnicodeError)
"""What drivers raise through SQLAlchemy, and past it."""

_WRONG_LOGIN = {1044, 1045, 1049, 1142, 1227, 1698}
"""MySQL: access denied (to the database, user, statement), unknown database."""
_WRONG_VALUE = {1048, 1264, 1265, 1366, 1367, 1406, 1690, 3140}
"""MySQL: null, out of range, truncated, wrong text or number, too long."""
_WRONG_LOGIN_CLASSES = ("28", "3D", "42501")
"""PostgreSQL: who you are, which database, what you may."""
_WRONG_VALUE_CLASSES = ("22", "23")


def is_bad_value(error: BaseException) -> bool:
    """Whether the database, or its driver, will never take one of the values."""
    if isinstance(error, (DataError, IntegrityError, OverflowError, UnicodeError)):
        return True
    if isinstance(error, StatementError) and not isinstance(error, DBAPIError):
        return True  # one of our column types could not convert it
    return any(
        _mysql_code(cause) in _WRONG_VALUE
        or _sqlstate(cause).startswith(_WRONG_VALUE_CLASSES)
        or (type(cause).__module__.startswith("asyncpg") and isinstance(cause, ValueError))
        for cause in _causes(error)
    )


def named(error: BaseException, url: URL) -> CoreError:
    """Our error for one of a database: ConfigurationError or StoreUnavailable. Never shows the password."""
    detail = f"{shown(url)}: {explain(error)}"
    if any(_is_wrong_place(cause) for cause in _causes(error)):
        return ConfigurationError(f"store.url: {detail}")
    return StoreUnavailable(detail)


def explain(error: BaseException) -> str:
    """The driver's own words, without the statement and its values."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    text = " ".join(str(argument) for argument in cause.args if argument) or type(cause).__name__
    return " ".join(text.split())


def shown(url: URL) -> str:
    """The URL as logs may show it."""
    return url.render_as_string(hide_password=True)


def _is_wrong_place(cause: BaseException) -> bool:
    """Whether this is not for us to open: another login or database."""
    return _mysql_code(cause) in _WRONG_LOGIN or _sqlstate(cause).startswith(_WRONG_LOGIN_CLASSES)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and what is behind it, the driver's own included."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        cause = waiting.pop()
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting += [getattr(cause, "orig", None), cause.__cause__]


def _mysql_code(error: BaseException) -> int | None:
    first = error.args[0] if error.args else None
    return first if isinstance(first, int) and type(error).__module__.startswith(("pymysql", "asyncmy")) else None


def _sqlstate(error: BaseException) -> str:
    return getattr(error, "sqlstate", None) or ""
