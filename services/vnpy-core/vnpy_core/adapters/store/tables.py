"""The tables, as the newest migration leaves them.

`uid` is a journal row's key. Times are UTC microseconds in a BIGINT (see `types`). Ids compare byte by byte everywhere:
the migrations give MySQL's tables a binary collation. Each list of the API has an index that begins with what it
filters by and goes on with `(seq, id)`, by which it is paged.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Index, MetaData, SmallInteger, Table, Text

from vnpy_core.adapters.store.types import Exact, Json, Micros, key_text, long_text

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

metadata = MetaData(naming_convention=NAMING)

UID = key_text(255)
ID = key_text(191)
SYMBOL = key_text(128)
NAME = key_text(64)
WORD = key_text(32)


def _table(name: str, *parts: Column[Any] | Index) -> Table:
    return Table(name, metadata, *parts, mysql_engine="InnoDB", mysql_charset="utf8mb4")


def _uid() -> Column[Any]:
    return Column("uid", UID, primary_key=True)


def _place() -> tuple[Column[Any], ...]:
    """Where in the journal a row's state is from."""
    return Column("epoch", WORD, nullable=False), Column("seq", BigInteger, nullable=False)


def _contract_of() -> tuple[Column[Any], ...]:
    return (
        Column("gateway_name", NAME, nullable=False),
        Column("vt_symbol", SYMBOL, nullable=False),
        Column("symbol", SYMBOL, nullable=False),
        Column("exchange", WORD, nullable=False),
    )


def _code() -> tuple[Column[Any], ...]:
    """Which code a strategy runs."""
    return Column("class_file", UID, nullable=False), Column("class_hash", NAME, nullable=False)


def _money(*names: str, nullable: bool = False) -> tuple[Column[Any], ...]:
    return tuple(Column(name, Exact, nullable=nullable) for name in names)


orders = _table(
    "orders",
    _uid(),
    *_place(),
    Column("vt_orderid", ID, nullable=False),
    Column("orderid", ID, nullable=False),
    Column("client_order_id", ID),
    *_contract_of(),
    Column("direction", WORD),
    Column("offset", WORD, nullable=False),
    Column("type", WORD, nullable=False),
    *_money("price", "volume", "traded"),
    Column("status", WORD, nullable=False),
    Column("active", SmallInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("reference", Text, nullable=False),
    Column("strategy_name", ID),
    Column("datetime", Micros),
    Column("updated_at", Micros, nullable=False),
    Column("happened_at", Micros, nullable=False),  # the venue's time, else updated_at: what lists are filtered by
    Column("state_seq", BigInteger, nullable=False),  # of the event that gave the state
    Column("time_seq", BigInteger, nullable=False),  # of the event that gave `datetime`
    Index(None, "seq", "vt_orderid"),
    Index(None, "active", "seq", "vt_orderid"),
    Index(None, "vt_symbol", "seq", "vt_orderid"),
    Index(None, "gateway_name", "seq", "vt_orderid"),
    Index(None, "status", "seq", "vt_orderid"),
    Index(None, "strategy_name", "seq", "vt_orderid"),
    Index(None, "vt_orderid", "seq"),
    Index(None, "client_order_id", "seq"),
)

trades = _table(
    "trades",
    _uid(),
    *_place(),
    Column("vt_tradeid", ID, nullable=False),
    Column("tradeid", ID, nullable=False),
    Column("vt_orderid", ID, nullable=False),
    Column("orderid", ID, nullable=False),
    *_contract_of(),
    Column("direction", WORD),
    Column("offset", WORD, nullable=False),
    *_money("price", "volume"),
    Column("strategy_name", ID),
    Column("datetime", Micros),
    Index(None, "seq", "vt_tradeid"),
    Index(None, "vt_symbol", "seq", "vt_tradeid"),
    Index(None, "gateway_name", "seq", "vt_tradeid"),
    Index(None, "vt_orderid", "seq", "vt_tradeid"),
    Index(None, "strategy_name", "seq", "vt_tradeid"),
)

hours = _table(
    "hours",
    Column("list", WORD, primary_key=True),
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
)
"""Between which seqs the rows of an hour (since 1970) lie: turns a filter by time into a range of the paging index."""

quotes = _table(
    "quotes",
    _uid(),
    *_place(),
    Column("vt_quoteid", ID, nullable=False),
    Column("quoteid", ID, nullable=False),
    *_contract_of(),
    *_money("bid_price", "bid_volume", "ask_price", "ask_volume"),
    Column("bid_offset", WORD, nullable=False),
    Column("ask_offset", WORD, nullable=False),
    Column("status", WORD, nullable=False),
    Column("reference", Text, nullable=False),
    Column("datetime", Micros),
    Column("state_seq", BigInteger, nullable=False),
    Column("time_seq", BigInteger, nullable=False),
    Index(None, "seq"),
)

positions = _table(
    "positions",
    _uid(),
    *_place(),
    Column("vt_positionid", ID, nullable=False),
    *_contract_of(),
    Column("direction", WORD, nullable=False),
    *_money("volume", "frozen", "price", "pnl", "yd_volume"),
)

accounts = _table(
    "accounts",
    _uid(),
    *_place(),
    Column("vt_accountid", ID, nullable=False),
    Column("accountid", ID, nullable=False),
    *_money("balance", "frozen", "available"),
    Column("gateway_name", NAME, nullable=False),
)

contracts = _table(
    "contracts",
    Column("gateway_name", NAME, primary_key=True),
    Column("vt_symbol", SYMBOL, primary_key=True),
    Column("symbol", SYMBOL, nullable=False),
    Column("exchange", WORD, nullable=False),
    Column("name", Text, nullable=False),
    Column("product", WORD, nullable=False),
    *_money("size", "pricetick", "min_volume"),
    *_money("max_volume", nullable=True),
    Column("stop_supported", Boolean, nullable=False),
    Column("net_position", Boolean, nullable=False),
    Column("history_data", Boolean, nullable=False),
    *_money("option_strike", nullable=True),
    Column("option_underlying", SYMBOL),
    Column("option_type", WORD),
    Column("option_listed", Micros),
    Column("option_expiry", Micros),
    Column("option_portfolio", SYMBOL),
    Column("option_index", SYMBOL),
    Column("updated_at", Micros, nullable=False),
)

strategies = _table(
    "strategies",
    Column("strategy_name", ID, primary_key=True),
    Column("class_name", ID, nullable=False),
    Column("vt_symbol", SYMBOL, nullable=False),
    Column("author", Text, nullable=False),
    Column("parameters", Json, nullable=False),
    Column("variables", Json, nullable=False),
    Column("inited", Boolean, nullable=False),
    Column("trading", Boolean, nullable=False),
    *_money("pos"),
    Column("state", WORD, nullable=False),
    Column("error", Text),
    Column("auto_start", Boolean, nullable=False),
    *_money("attributed_pos"),
    *_code(),
    Column("class_is_old", Boolean, nullable=False),
    Column("updated_at", Micros, nullable=False),
)

strategy_settings = _table(
    "strategy_settings",
    _uid(),
    *_place(),
    Column("strategy_name", ID, nullable=False),
    Column("class_name", ID, nullable=False),
    Column("vt_symbol", SYMBOL, nullable=False),
    Column("setting", Json, nullable=False),
    Column("auto_start", Boolean, nullable=False),
    Column("configured", Boolean, nullable=False),
    *_code(),
    Column("removed", Boolean, nullable=False),
    Column("by", ID, nullable=False),
    Column("at", Micros, nullable=False),
)

strategy_data = _table(
    "strategy_data",
    _uid(),
    *_place(),
    Column("strategy_name", ID, nullable=False),
    Column("variables", Json, nullable=False),
    *_money("attributed_pos"),
    Column("counted_seq", BigInteger, nullable=False),
    Column("at", Micros, nullable=False),
)

strategy_days = _table(
    "strategy_days",
    _uid(),  # name and day: the journal's rows have the name as their key
    *_place(),
    Column("strategy_name", ID, nullable=False),
    Column("day", WORD, nullable=False),
    *_money("realised", "unrealised", "fees", "turnover"),
    Column("trades", BigInteger, nullable=False),
    Column("wins", BigInteger, nullable=False),
    Column("losses", BigInteger, nullable=False),
    Column("legs", Json, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("at", Micros, nullable=False),
    Index(None, "strategy_name", "day"),
)

stop_orders = _table(
    "stop_orders",
    _uid(),
    *_place(),
    Column("stop_orderid", ID, nullable=False),
    Column("vt_symbol", SYMBOL, nullable=False),
    Column("direction", WORD, nullable=False),
    Column("offset", WORD, nullable=False),
    *_money("price", "volume"),
    Column("strategy_name", ID, nullable=False),
    Column("status", WORD, nullable=False),
    Column("vt_orderids", Json, nullable=False),
    Column("datetime", Micros),
    Column("lock", Boolean, nullable=False),
    Column("net", Boolean, nullable=False),
)

intents = _table(
    "intents",
    _uid(),
    *_place(),
    # Empty where an outcome came without its intent.
    Column("kind", WORD),
    Column("gateway_name", NAME),
    Column("vt_symbol", SYMBOL),
    Column("symbol", SYMBOL),
    Column("exchange", WORD),
    Column("direction", WORD),
    Column("offset", WORD),
    Column("type", WORD),
    *_money("price", "volume", "bid_price", "bid_volume", "ask_price", "ask_volume", nullable=True),
    Column("reference", Text),
    Column("strategy_name", ID),
    Column("created_at", Micros),
    # Empty until an outcome is known.
    Column("outcome_epoch", WORD),
    Column("outcome_seq", BigInteger),
    Column("state", WORD),
    Column("vt_orderid", ID),
    Column("reason", Text),
    Column("evidence", Text),
    Column("by", ID),
    Column("settled_at", Micros),
    Index(None, "seq"),
)

halts = _table(
    "halts",
    _uid(),
    *_place(),
    Column("scope", WORD, nullable=False),
    Column("target", ID, nullable=False),
    Column("mode", WORD, nullable=False),
    Column("active", SmallInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("by", ID, nullable=False),
    Column("at", Micros, nullable=False),
)


def _evidence(name: str, *columns: Column[Any]) -> Table:
    """A table that only grows: one row of it for one of the journal at most."""
    return _table(
        name,
        Column("epoch", WORD, primary_key=True),
        Column("seq", BigInteger, primary_key=True, autoincrement=False),
        *columns,
        Index(None, "at"),
    )


audit = _evidence(
    "audit",
    Column("at", Micros, nullable=False),
    Column("who", ID, nullable=False),
    Column("what", ID, nullable=False),
    Column("target", Text, nullable=False),
    Column("before", Json),
    Column("after", Json),
    Column("reason", Text, nullable=False),
)

quarantine = _evidence(
    "quarantine",
    Column("at", Micros, nullable=False),
    Column("kind", NAME, nullable=False),
    Column("key", UID, nullable=False),
    Column("reason", Text, nullable=False),
    Column("known", Json, nullable=False),
    Column("arrived", Json, nullable=False),
)

dead_letters = _evidence(
    "dead_letters",
    Column("at", Micros, nullable=False),
    Column("kind", NAME, nullable=False),
    Column("key", Text, nullable=False),
    Column("payload", long_text(), nullable=False),
    Column("reason", Text, nullable=False),
)

watermark = _table(
    "watermark",
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    *_place(),
    Column("updated_at", Micros, nullable=False),
)
