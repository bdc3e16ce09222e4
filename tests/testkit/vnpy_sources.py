"""Databases as VnPy's own drivers make them, to migrate from."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pymysql

from testkit.servers import Server

SQLITE = """
from datetime import datetime, timedelta
from vnpy.trader.constant import Exchange, Interval
from vnpy.trader.database import DB_TZ, get_database
from vnpy.trader.object import BarData, TickData

database = get_database()
assert type(database).__module__.startswith("vnpy_sqlite"), database
begin = datetime(2026, 3, 27, 9, 0, tzinfo=DB_TZ)
numbers = dict(volume=1.5, turnover=2.5, open_interest=3.5)
for symbol, exchange in (("rb2701", Exchange.SHFE), ("6J", Exchange.EUREX)):
    for interval, step in ((Interval.MINUTE, timedelta(minutes=1)), (Interval.DAILY, timedelta(days=1))):
        database.save_bar_data([
            BarData("X", symbol, exchange, begin + n * step, interval, open_price=100 + n, high_price=103.25 + n,
                    low_price=99 + n, close_price=101.5 + n, **numbers)
            for n in range(COUNT)
        ])
    database.save_tick_data([
        TickData("X", symbol, exchange, begin + timedelta(milliseconds=250 * n), name="螺纹钢",
                 last_price=100.1 + n % 7, volume=n, bid_price_1=100, bid_volume_1=n % 5, ask_price_5=105.5)
        for n in range(COUNT)
    ])
database.db.execute_sql("update dbtickdata set bid_price_2 = null, localtime = datetime where id % 2 = 0")
"""

_NUMBERS = ["volume", "turnover", "open_interest", "open_price", "high_price", "low_price", "close_price"]
_TICK_NUMBERS = [
    "volume", "turnover", "open_interest", "last_price", "last_volume", "limit_up", "limit_down", "open_price",
    "high_price", "low_price", "pre_close",
]  # fmt: skip
_LEVELS = [f"{side}_{what}_{n}" for what in ("price", "volume") for side in ("bid", "ask") for n in range(1, 6)]


def vnpy_sqlite(home: Path, *, timezone: str, count: int = 500, script: str = SQLITE) -> Path:
    """A home of VnPy's whose database.db was filled by vnpy_sqlite itself; `.vntrader` of it."""
    temp = home / ".vntrader"
    temp.mkdir(parents=True)
    (temp / "vt_setting.json").write_text(json.dumps({"database.timezone": timezone}))
    command = [sys.executable, "-c", script.replace("COUNT", str(count))]
    # vnpy_sqlite takes the machine's zone and DB_TZ for the same.
    subprocess.run(
        command, cwd=home, check=True, capture_output=True, text=True, env={"TZ": timezone, "HOME": str(home)}
    )
    return temp


def vnpy_mysql(server: Server, sqlite: Path) -> str:
    """A database with the tables that vnpy_mysql makes, and the rows of a vnpy_sqlite file; its name."""
    import sqlite3

    database = server.fresh_database()
    text, double = "varchar(255) not null", "double precision not null"
    bar = [f"{name} {double}" for name in _NUMBERS]
    tick = [f"{name} {double}" for name in _TICK_NUMBERS]
    tick += [f"{name} double precision {'not null' if name.endswith('_1') else 'null'}" for name in _LEVELS]
    server.execute(
        f"create table dbbardata (id integer auto_increment primary key, symbol {text}, exchange {text},"
        f" `datetime` datetime not null, `interval` {text}, {', '.join(bar)},"
        " unique index (symbol, exchange, `interval`, `datetime`))",
        f"create table dbtickdata (id integer auto_increment primary key, symbol {text}, exchange {text},"
        f" `datetime` datetime(3) not null, name {text}, {', '.join(tick)}, `localtime` datetime(3) null,"
        " unique index (symbol, exchange, `datetime`))",
        database=database,
    )
    connection = pymysql.connect(
        host="127.0.0.1", port=server.port, user="trader", password="s3cret", database=database, autocommit=False
    )
    with sqlite3.connect(sqlite) as source, connection, connection.cursor() as cursor:
        for table in ("dbbardata", "dbtickdata"):
            rows = source.execute(f"select * from {table}")
            names = ", ".join(f"`{column[0]}`" for column in rows.description)
            marks = ", ".join("%s" for _ in rows.description)
            cursor.executemany(f"insert into {table} ({names}) values ({marks})", rows.fetchall())
        connection.commit()
    source.close()
    return database
