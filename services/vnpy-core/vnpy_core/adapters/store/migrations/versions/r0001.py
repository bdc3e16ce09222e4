"""the tables of the first release"""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Index, MetaData, SmallInteger, Table, Text

from vnpy_core.adapters.store.steps import create_missing
from vnpy_core.adapters.store.types import Exact, Json, Micros, key_text, long_text

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

metadata = MetaData(naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"})


def upgrade() -> None:
    """Create what is not there yet."""
    create_missing(op.get_bind(), metadata)


def _table(name: str, *parts: Column[Any] | Index) -> None:
    Table(name, metadata, *parts, mysql_engine="InnoDB", mysql_charset="utf8mb4")


def _texts(length: int, *names: str, nullable: bool = False, primary_key: bool = False) -> list[Column[Any]]:
    return [Column(name, key_text(length), nullable=nullable, primary_key=primary_key) for name in names]


def _money(*names: str, nullable: bool = False) -> list[Column[Any]]:
    return [Column(name, Exact, nullable=nullable) for name in names]


def _notes(*names: str) -> list[Column[Any]]:
    return [Column(name, Text, nullable=False) for name in names]


def _numbers(*names: str, nullable: bool = False, primary_key: bool = False) -> list[Column[Any]]:
    return [Column(name, BigInteger, nullable=nullable, primary_key=primary_key, autoincrement=False) for name in names]


def _times(*names: str, nullable: bool = False) -> list[Column[Any]]:
    return [Column(name, Micros, nullable=nullable) for name in names]


def _flags(*names: str) -> list[Column[Any]]:
    return [Column(name, Boolean, nullable=False) for name in names]


def _state() -> list[Column[Any]]:
    return [*_texts(255, "uid", primary_key=True), *_texts(32, "epoch"), *_numbers("seq")]


def _contract() -> list[Column[Any]]:
    return [*_texts(64, "gateway_name"), *_texts(128, "vt_symbol", "symbol"), *_texts(32, "exchange")]


def _paged(id_: str, *filters: str) -> list[Index]:
    return [Index(None, "seq", id_), *(Index(None, name, "seq", id_) for name in filters)]


_table(
    "orders",
    *_state(),
    *_texts(191, "vt_orderid", "orderid"),
    *_texts(191, "client_order_id", nullable=True),
    *_contract(),
    *_texts(32, "direction", nullable=True),
    *_texts(32, "offset", "type"),
    *_money("price", "volume", "traded"),
    *_texts(32, "status"),
    Column("active", SmallInteger, nullable=False),
    *_notes("reason", "reference"),
    *_texts(191, "strategy_name", nullable=True),
    *_times("datetime", nullable=True),
    *_times("updated_at", "happened_at"),
    *_numbers("state_seq", "time_seq"),
    *_paged("vt_orderid", "active", "vt_symbol", "gateway_name", "status", "strategy_name"),
    Index(None, "vt_orderid", "seq"),
    Index(None, "client_order_id", "seq"),
)
_table(
    "trades",
    *_state(),
    *_texts(191, "vt_tradeid", "tradeid", "vt_orderid", "orderid"),
    *_contract(),
    *_texts(32, "direction", nullable=True),
    *_texts(32, "offset"),
    *_money("price", "volume"),
    *_texts(191, "strategy_name", nullable=True),
    *_times("datetime", nullable=True),
    *_paged("vt_tradeid", "vt_symbol", "gateway_name", "vt_orderid", "strategy_name"),
)
_table(
    "hours",
    *_texts(32, "list", primary_key=True),
    *_numbers("hour", primary_key=True),
    *_numbers("first_seq", "last_seq"),
)
_table(
    "quotes",
    *_state(),
    *_texts(191, "vt_quoteid", "quoteid"),
    *_contract(),
    *_money("bid_price", "bid_volume", "ask_price", "ask_volume"),
    *_texts(32, "bid_offset", "ask_offset", "status"),
    *_notes("reference"),
    *_times("datetime", nullable=True),
    *_numbers("state_seq", "time_seq"),
    Index(None, "seq"),
)
_table(
    "positions",
    *_state(),
    *_texts(191, "vt_positionid"),
    *_contract(),
    *_texts(32, "direction"),
    *_money("volume", "frozen", "price", "pnl", "yd_volume"),
)
_table(
    "accounts",
    *_state(),
    *_texts(191, "vt_accountid", "accountid"),
    *_money("balance", "frozen", "available"),
    *_texts(64, "gateway_name"),
)
_table(
    "contracts",
    *_texts(64, "gateway_name", primary_key=True),
    *_texts(128, "vt_symbol", primary_key=True),
    *_texts(128, "symbol"),
    *_texts(32, "exchange"),
    *_notes("name"),
    *_texts(32, "product"),
    *_money("size", "pricetick", "min_volume"),
    *_money("max_volume", nullable=True),
    *_flags("stop_supported", "net_position", "history_data"),
    *_money("option_strike", nullable=True),
    *_texts(128, "option_underlying", nullable=True),
    *_texts(32, "option_type", nullable=True),
    *_times("option_listed", "option_expiry", nullable=True),
    *_texts(128, "option_portfolio", "option_index", nullable=True),
    *_times("updated_at"),
)
_table(
    "strategies",
    *_texts(191, "strategy_name", primary_key=True),
    *_texts(191, "class_name"),
    *_texts(128, "vt_symbol"),
    *_notes("author"),
    Column("parameters", Json, nullable=False),
    Column("variables", Json, nullable=False),
    *_times("updated_at"),
)
_table(
    "stop_orders",
    *_state(),
    *_texts(191, "stop_orderid"),
    *_texts(128, "vt_symbol"),
    *_texts(32, "direction", "offset"),
    *_money("price", "volume"),
    *_texts(191, "strategy_name"),
    *_texts(32, "status"),
    Column("vt_orderids", Json, nullable=False),
    *_times("datetime", nullable=True),
    *_flags("lock", "net"),
)
_table(
    "intents",
    *_state(),
    *_texts(32, "kind", nullable=True),
    *_texts(64, "gateway_name", nullable=True),
    *_texts(128, "vt_symbol", "symbol", nullable=True),
    *_texts(32, "exchange", "direction", "offset", "type", nullable=True),
    *_money("price", "volume", "bid_price", "bid_volume", "ask_price", "ask_volume", nullable=True),
    Column("reference", Text),
    *_texts(191, "strategy_name", nullable=True),
    *_times("created_at", nullable=True),
    *_texts(32, "outcome_epoch", nullable=True),
    *_numbers("outcome_seq", nullable=True),
    *_texts(32, "state", nullable=True),
    *_texts(191, "vt_orderid", nullable=True),
    Column("reason", Text),
    Column("evidence", Text),
    *_texts(191, "by", nullable=True),
    *_times("settled_at", nullable=True),
    Index(None, "seq"),
)
_table(
    "halts",
    *_state(),
    *_texts(32, "scope"),
    *_texts(191, "target"),
    *_texts(32, "mode"),
    Column("active", SmallInteger, nullable=False),
    *_notes("reason"),
    *_texts(191, "by"),
    *_times("at"),
)


def _evidence(name: str, *parts: Column[Any]) -> None:
    key = (*_texts(32, "epoch", primary_key=True), *_numbers("seq", primary_key=True))
    _table(name, *key, *_times("at"), *parts, Index(None, "at"))


_evidence(
    "audit",
    *_texts(191, "who", "what"),
    *_notes("target"),
    Column("before", Json),
    Column("after", Json),
    *_notes("reason"),
)
_evidence(
    "quarantine",
    *_texts(64, "kind"),
    *_texts(255, "key"),
    *_notes("reason"),
    Column("known", Json, nullable=False),
    Column("arrived", Json, nullable=False),
)
_evidence(
    "dead_letters",
    *_texts(64, "kind"),
    *_notes("key"),
    Column("payload", long_text(), nullable=False),
    *_notes("reason"),
)
_table(
    "watermark",
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    *_texts(32, "epoch"),
    *_numbers("seq"),
    *_times("updated_at"),
)
