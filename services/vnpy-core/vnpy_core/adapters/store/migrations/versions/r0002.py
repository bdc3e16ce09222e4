"""strategies: their settings, variables and days"""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Index, MetaData, Table, Text, false

from vnpy_core.adapters.store.steps import add_missing, create_missing
from vnpy_core.adapters.store.types import Exact, Json, Micros, key_text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

metadata = MetaData(naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"})


def upgrade() -> None:
    """Create and add what is not there yet."""
    connection = op.get_bind()
    create_missing(connection, metadata)
    add_missing(
        connection,
        "strategies",
        *(_flag(name, default=True) for name in ("inited", "trading", "auto_start", "class_is_old")),
        *(Column(name, Exact, nullable=False, server_default="0") for name in ("pos", "attributed_pos")),
        _text(32, "state", default="CREATED"),
        Column("error", Text),
        _text(255, "class_file", default=""),
        _text(64, "class_hash", default=""),
    )


def _text(length: int, name: str, *, default: str | None = None) -> Column[Any]:
    return Column(name, key_text(length), nullable=False, server_default=default)


def _flag(name: str, *, default: bool = False) -> Column[Any]:
    return Column(name, Boolean, nullable=False, server_default=false() if default else None)


def _json(name: str) -> Column[Any]:
    return Column(name, Json, nullable=False)


def _money(*names: str) -> list[Column[Any]]:
    return [Column(name, Exact, nullable=False) for name in names]


def _numbers(*names: str) -> list[Column[Any]]:
    return [Column(name, BigInteger, nullable=False) for name in names]


def _table(name: str, *parts: Column[Any] | Index) -> None:
    uid = Column("uid", key_text(255), primary_key=True)
    state = (uid, _text(32, "epoch"), *_numbers("seq"), _text(191, "strategy_name"))
    at = Column("at", Micros, nullable=False)
    Table(name, metadata, *state, *parts, at, mysql_engine="InnoDB", mysql_charset="utf8mb4")


_table(
    "strategy_settings",
    _text(191, "class_name"),
    _text(128, "vt_symbol"),
    _json("setting"),
    _flag("auto_start"),
    _flag("configured"),
    _text(255, "class_file"),
    _text(64, "class_hash"),
    _flag("removed"),
    _text(191, "by"),
)
_table(
    "strategy_data",
    _json("variables"),
    *_money("attributed_pos"),
    *_numbers("counted_seq"),
)
_table(
    "strategy_days",
    _text(32, "day"),
    *_money("realised", "unrealised", "fees", "turnover"),
    *_numbers("trades", "wins", "losses"),
    _json("legs"),
    *_numbers("last_seq"),
    Index(None, "strategy_name", "day"),
)
