"""What must hold after every fault, checked from the outside: the venue's ledger against journal, SQL, REST and stream.

I1 every ledger trade once in journal and SQL, and none besides; orders end alike everywhere · I2 no venue order without
an earlier durable intent · I3 order states only move forward · I4 Σ trades = position = venue · I5 no gap, hash chain
valid · I6 a WebSocket client's state equals REST's · I8 canary secrets appear nowhere. I7 (limits) has no limits to
check yet: it belongs to the issue that brings them.

Everything is read here by itself, with plain SQL, so that the service's own reading cannot hide its mistakes.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pymysql
from sqlalchemy import make_url

from vnpy_core.adapters.journal.verify import verify
from vnpy_core.domain.enums import Status
from vnpy_core.ports.store import Watermark

CLOCK_STEP_US = 2_000
"""The venue and the service read the same clock, in different processes and roundings."""
VOLATILE = {"updated_at", "pnl", "seq"}
"""What differs between two looks at the same state."""
SHOWN_PROBLEMS = 40

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class JournalRow:
    """One row with its payload decoded; `carried` ones repeat what was before."""

    seq: int
    ts: int
    kind: str
    key: str
    data: dict[str, Any]
    carried: bool
    run_id: str


@dataclass
class Observed:
    """What each place knows at one moment of rest."""

    gateway: str
    ledger_orders: dict[str, dict[str, Any]]
    ledger_trades: dict[str, dict[str, Any]]
    ledger_net: dict[str, Decimal]
    journal: list[JournalRow]
    journal_path: Path
    cut: bool
    """Whether old rows have left the journal, so that what they said may stand in carried ones."""
    sql_orders: Rows
    sql_trades: Rows
    watermark: Watermark | None
    rest: Mapping[str, Rows] | None = None
    stream: Mapping[str, Mapping[str, dict[str, Any]]] | None = None
    foreign: Collection[str] = field(default_factory=frozenset)

    def rows(self, *kinds: str) -> Iterator[JournalRow]:
        return (row for row in self.journal if row.kind in kinds)

    def order_rows(self) -> Iterator[JournalRow]:
        """This gateway's."""
        return (row for row in self.rows("order.updated") if row.data["gateway_name"] == self.gateway)


def check(
    ledger: Path,
    journal: Path,
    store_url: str,
    *,
    gateway: str = "PAPER",
    rest: Callable[[], Mapping[str, Rows]] | None = None,
    stream: Callable[[], Mapping[str, Mapping[str, dict[str, Any]]]] | None = None,
    foreign: Collection[str] = (),
    canaries: Canaries | None = None,
    within: float = 15.0,
) -> Observed:
    """Raises AssertionError that names each broken invariant, its key and what each side has.

    The load must be over; `within` seconds are for what is still on its way. `rest` and `stream` ask for
    `{"orders": …, "positions": …}`; `foreign` are the venue's ids of orders that the test sent past the service.
    """
    deadline = time.monotonic() + within
    _await_sql(journal, store_url, deadline)
    while True:
        found = observe(ledger, journal, store_url, gateway=gateway, foreign=foreign)
        found.rest = rest() if rest else None
        found.stream = stream() if stream else None
        problems = violations(found)
        if not problems or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    problems += canaries.found() if canaries else []
    assert not problems, report(problems)
    return found


def report(problems: list[str]) -> str:
    """For a person."""
    more = f"\n… and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
    return f"{len(problems)} violations:\n" + "\n".join(problems[:SHOWN_PROBLEMS]) + more


def violations(found: Observed) -> list[str]:
    """Every broken invariant but I8, in words."""
    return [
        *_i1_trades(found),
        *_i1_orders(found),
        *_i2_intents(found),
        *_i3_forward(found),
        *_i4_positions(found),
        *_i5_chain(found),
        *_i6_stream(found),
    ]


# --- reading ---


def observe(
    ledger: Path, journal: Path, store_url: str, *, gateway: str = "PAPER", foreign: Collection[str] = ()
) -> Observed:
    """Look at all three. SQL first and the ledger last: nothing may be in SQL that is not journaled by then."""
    with closing(Sql(store_url)) as sql:
        mark = sql.watermark()
        sql_orders = sql.read("orders", where=f"gateway_name = '{gateway}'")
        sql_trades = sql.read("trades", where=f"gateway_name = '{gateway}'")
    rows, cut = read_journal(journal, gateway)
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=10)) as connection:
        orders, trades, net = _read_ledger(connection)
    return Observed(
        gateway=gateway,
        ledger_orders=orders,
        ledger_trades=trades,
        ledger_net=net,
        journal=rows,
        journal_path=journal,
        cut=cut,
        sql_orders=sql_orders,
        sql_trades=sql_trades,
        watermark=mark,
        foreign=frozenset(foreign),
    )


def _await_sql(journal: Path, store_url: str, deadline: float) -> None:
    """Until SQL has the journal to its end: looking at all is dear."""
    while time.monotonic() < deadline:
        with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True, timeout=10)) as connection:
            head = connection.execute("select head_seq from meta").fetchone()[0]
        with closing(Sql(store_url)) as sql:
            mark = sql.watermark()
        if mark is not None and mark.seq >= head:
            return
        time.sleep(0.02)


def read_journal(path: Path, gateway: str = "") -> tuple[list[JournalRow], bool]:
    """The rows that are not another gateway's, and whether older ones were cut away."""
    named, own = b'"gateway_name":"', f'"gateway_name":"{gateway}"'.encode()
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
        found = connection.execute("select seq, ts, kind, key, payload, run_id from rows order by seq")
        rows = [
            JournalRow(
                seq, ts, kind.removeprefix("carried."), key, json.loads(data), kind.startswith("carried."), run_id
            )
            for seq, ts, kind, key, data, run_id in found
            if not gateway or named not in data or own in data
        ]
        cut = connection.execute("select anchor_seq from meta").fetchone()[0] > 0
    return rows, cut


def _read_ledger(connection: sqlite3.Connection) -> tuple[dict[str, Any], dict[str, Any], dict[str, Decimal]]:
    connection.row_factory = sqlite3.Row
    connection.execute("begin")
    orders = {row["orderid"]: dict(row) for row in connection.execute("select * from orders")}
    trades = {row["tradeid"]: dict(row) for row in connection.execute("select * from trades")}
    net: dict[str, Decimal] = defaultdict(Decimal)
    for row in connection.execute("select * from holdings"):
        volume = Decimal(row["today"]) + Decimal(row["yesterday"])
        net[_vt_symbol(row)] += -volume if row["direction"] == "SHORT" else volume
    return orders, trades, dict(net)


class Sql:
    """The relational store, read with a driver of our own: SQLite or MySQL."""

    def __init__(self, url: str) -> None:
        """`url` as the service has it, its driver included."""
        self._url = make_url(url)
        self._quote = "`" if self._url.get_backend_name() == "mysql" else '"'
        self._connection: Any = self._connect()

    def close(self) -> None:
        self._connection.close()

    def read(self, table: str, columns: str = "*", *, where: str = "1 = 1") -> Rows:
        """A table's rows."""
        return self.execute(f"select {columns} from {self._quote}{table}{self._quote} where {where}")

    def execute(self, statement: str) -> Rows:
        cursor = self._connection.cursor()
        try:
            cursor.execute(statement)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        finally:
            cursor.close()

    def watermark(self) -> Watermark | None:
        rows = self.read("watermark")
        return Watermark(rows[0]["epoch"], int(rows[0]["seq"])) if rows else None

    def dump(self) -> bytes:
        """All that stands in any table."""
        listing = "show tables" if self._quote == "`" else "select name from sqlite_master where type = 'table'"
        tables = [next(iter(row.values())) for row in self.execute(listing)]
        return "\n".join(repr(self.read(table)) for table in tables).encode()

    def _connect(self) -> Any:
        if self._url.get_backend_name() == "sqlite":
            return sqlite3.connect(f"file:{self._url.database}?mode=ro", uri=True, timeout=10)
        return pymysql.connect(
            host=self._url.host or "",
            port=self._url.port or 3306,
            user=self._url.username or "",
            password=self._url.password or "",
            database=self._url.database,
            autocommit=True,
            read_timeout=60,
        )


# --- the invariants ---


def _i1_trades(found: Observed) -> Iterator[str]:
    """Every ledger trade once in journal and SQL, with its content, and none that the ledger lacks."""
    truth = {
        f"{found.gateway}.{tradeid}": _content(trade, found.gateway) for tradeid, trade in found.ledger_trades.items()
    }
    rows = [row for row in found.rows("trade.executed") if row.data["gateway_name"] == found.gateway]
    fresh = Counter(row.data["vt_tradeid"] for row in rows if not row.carried)
    journal = {row.data["vt_tradeid"]: _content(row.data, found.gateway) for row in rows}
    carried = {row.data["vt_tradeid"] for row in rows if row.carried} if found.cut else set()
    sql = {trade["vt_tradeid"]: _content(trade, found.gateway) for trade in found.sql_trades}
    in_sql = Counter(trade["vt_tradeid"] for trade in found.sql_trades)
    for name in sorted(truth.keys() | journal.keys() | sql.keys()):
        sides = (
            f"venue {truth.get(name)}, journal {fresh[name]}x {journal.get(name)}, SQL {in_sql[name]}x {sql.get(name)}"
        )
        once_in_journal = fresh[name] == 1 or (fresh[name] == 0 and name in carried)
        if name not in truth or not once_in_journal or in_sql[name] != 1:
            yield f"I1 trade {name}: {sides}"
        elif not truth[name] == journal[name] == sql[name]:
            yield f"I1 trade {name} differs: {sides}"


def _i1_orders(found: Observed) -> Iterator[str]:
    """The last state of every order is the venue's; one that the venue never had is ended and has traded nothing."""
    journal = {row.data["vt_orderid"]: _state(row.data) for row in found.order_rows()}
    sql = {order["vt_orderid"]: _state(order) for order in found.sql_orders}
    times = Counter(order["vt_orderid"] for order in found.sql_orders)
    truth = {f"{found.gateway}.{orderid}": _state(order) for orderid, order in found.ledger_orders.items()}
    for name in sorted(truth.keys() | journal.keys() | sql.keys()):
        sides = f"venue {truth.get(name)}, journal {journal.get(name)}, SQL {times[name]}x {sql.get(name)}"
        if name in truth:
            alike = truth[name] == journal.get(name) == sql.get(name)
        else:
            alike = journal.get(name) == sql.get(name) and _ended_unfilled(journal.get(name))
        if not alike or times[name] != 1:
            yield f"I1 order {name}: {sides}"


def _i2_intents(found: Observed) -> Iterator[str]:
    """Each venue order has one intent, journaled before it, of the same content; and no intent has two orders."""
    intents = {row.key: row for row in reversed(list(found.rows("intent.order")))}
    uids = {row.data["vt_orderid"]: row.key for row in found.order_rows()}
    first = {row.key: row.seq for row in reversed(list(found.order_rows()))}
    owners: dict[str, str] = {}
    for orderid, order in found.ledger_orders.items():
        name = f"{found.gateway}.{orderid}"
        if orderid in found.foreign:
            continue
        uid = uids.get(name, "")
        intent = intents.get(uid)
        if intent is None:
            yield f"I2 venue order {name} ({_words(order)}) has no intent; its journal key is {uid!r}"
            continue
        if uid in owners:
            yield f"I2 intent {uid} was sent twice: {owners[uid]} and {name}"
        owners[uid] = name
        if not intent.carried and (intent.seq > first[uid] or intent.ts > order["time"] + CLOCK_STEP_US):
            yield f"I2 intent {uid} (row {intent.seq}, {intent.ts}) is later than order {name} ({order['time']})"
        if _words(intent.data) != _words(order):
            yield f"I2 intent {uid} ({_words(intent.data)}) is not order {name} ({_words(order)})"


def _i3_forward(found: Observed) -> Iterator[str]:
    """Per key, state and traded never go back."""
    last: dict[str, tuple[int, Decimal, int]] = {}
    for row in found.rows("order.updated"):
        now = (Status(row.data["status"]).rank, Decimal(str(row.data["traded"])), row.seq)
        before = last.get(row.key)
        if before and (now[0] < before[0] or now[1] < before[1]):
            yield f"I3 order {row.key} went back: row {before[2]} {before[:2]}, row {row.seq} {now[:2]}"
        last[row.key] = now


def _i4_positions(found: Observed) -> Iterator[str]:
    """Σ trades = holdings of the venue = positions in the journal = positions over REST, net by contract."""
    traded: dict[str, Decimal] = defaultdict(Decimal)
    for trade in found.ledger_trades.values():
        traded[_vt_symbol(trade)] += _signed(trade["direction"], trade["volume"])
    shown = {row.key: row.data for row in found.rows("position.updated") if row.data["gateway_name"] == found.gateway}
    sides: dict[str, dict[str, Decimal]] = {
        "trades": traded,
        "venue": found.ledger_net,
        "journal": _nets(shown.values()),
    }
    if found.rest is not None:
        sides["REST"] = _nets(p for p in found.rest["positions"] if p["gateway_name"] == found.gateway)
    for symbol in sorted(set().union(*sides.values())):
        values = {name: net.get(symbol, Decimal(0)) for name, net in sides.items()}
        if len(set(values.values())) > 1:
            yield f"I4 position {symbol}: {', '.join(f'{name} {value}' for name, value in values.items())}"


def _i5_chain(found: Observed) -> Iterator[str]:
    yield from (f"I5 {problem}" for problem in verify(found.journal_path, found.watermark).problems)
    end = found.journal[-1].seq if found.journal else 0
    if end and (found.watermark is None or found.watermark.seq < end):
        yield f"I5 SQL has the journal up to {found.watermark}, which has row {end}"


def _i6_stream(found: Observed) -> Iterator[str]:
    """What a WebSocket client made of snapshots and messages is what REST says."""
    if found.stream is None or found.rest is None:
        return
    names = {"orders": "vt_orderid", "positions": "vt_positionid", "accounts": "vt_accountid"}
    for what, name in names.items():
        rest = {row[name]: row for row in found.rest[what]}
        streamed = found.stream[what]
        for key in sorted(rest.keys() | streamed.keys() if what != "orders" else streamed.keys()):
            one, other = _lasting(rest.get(key)), _lasting(streamed.get(key))
            if one != other:
                differ = {
                    n: (one.get(n), other.get(n)) for n in one.keys() | other.keys() if one.get(n) != other.get(n)
                }
                yield f"I6 {what} {key}: (REST, stream) {differ}"


# --- secrets ---


class Canaries:
    """Secrets that were planted, and where none of them may be."""

    def __init__(
        self, secrets: Mapping[str, str], folders: Iterable[Path], *, sql: str = "", but: Iterable[str] = ()
    ) -> None:
        """`secrets` by name; every file below `folders` is read, except those in folders named in `but`."""
        self.secrets = dict(secrets)
        self.folders = list(folders)
        self.sql = sql
        self.but = set(but)

    def found(self) -> list[str]:
        """I8: where a secret stands."""
        return [
            f"I8 the canary {name} stands in {place}"
            for place, content in self._places()
            for name, secret in self.secrets.items()
            if secret.encode() in content
        ]

    def _places(self) -> Iterator[tuple[str, bytes]]:
        for folder in self.folders:
            for path in folder.rglob("*"):
                if path.is_file() and not path.is_symlink() and not self.but & set(path.relative_to(folder).parts):
                    yield str(path.relative_to(folder)), path.read_bytes()
        if self.sql:
            with closing(Sql(self.sql)) as sql:
                yield "SQL", sql.dump()


# --- words and numbers ---


def _vt_symbol(row: Any) -> str:
    return f"{row['symbol']}.{row['exchange']}"


def _content(trade: Mapping[str, Any], gateway: str) -> tuple[str, ...]:
    price, volume = Decimal(str(trade["price"])).normalize(), Decimal(str(trade["volume"])).normalize()
    orderid = str(trade["orderid"])
    return (f"{gateway}.{orderid}", _vt_symbol(trade), trade["direction"], trade["offset"], str(price), str(volume))


def _state(order: Mapping[str, Any]) -> tuple[str, Decimal]:
    return order["status"], Decimal(str(order["traded"])).normalize()


def _ended_unfilled(state: tuple[str, Decimal] | None) -> bool:
    return state is not None and state[0] in ("CANCELLED", "REJECTED") and not state[1]


def _words(order: Mapping[str, Any]) -> str:
    """By what an order and its intent are the same; a venue may name the offset otherwise, where positions are net."""
    numbers = (Decimal(str(order[name])).normalize() for name in ("price", "volume"))
    return " ".join([_vt_symbol(order), order["direction"], order["type"], *map(str, numbers)])


def _signed(direction: str, volume: object) -> Decimal:
    return -Decimal(str(volume)) if direction == "SHORT" else Decimal(str(volume))


def _nets(positions: Iterable[Mapping[str, Any]]) -> dict[str, Decimal]:
    nets: dict[str, Decimal] = defaultdict(Decimal)
    for position in positions:
        nets[position["vt_symbol"]] += _signed(position["direction"], position["volume"])
    return nets


def _lasting(row: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (row or {}).items() if name not in VOLATILE}
