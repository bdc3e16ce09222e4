import sqlite3

import pytest

from testkit.paper import order, snapshot, venue
from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.gateways.paper.ledger import Ledger


def test_a_file_that_is_no_database_is_refused_with_its_name(tmp_path):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"this is not a database, but long enough to look at" * 50)
    with pytest.raises(ConfigurationError, match=r"ledger\.sqlite"):
        Ledger(path)


def test_somebody_elses_database_and_a_newer_ledger_are_refused(tmp_path):
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as connection:
        connection.execute("create table t (x)")
    connection.close()
    with pytest.raises(ConfigurationError, match="not a paper ledger"):
        Ledger(foreign)
    newer = tmp_path / "newer.sqlite"
    ledger = Ledger(newer)
    ledger._connection.execute("pragma user_version = 99")
    ledger.close()
    with pytest.raises(ConfigurationError, match="newer version"):
        Ledger(newer)


def test_what_was_told_is_in_the_file_for_another_process_to_read(tmp_path):
    path = tmp_path / "ledger.sqlite"
    market = venue(path)
    market.on_snapshot(snapshot([(3000, 9)], [(3001, 2)]))
    market.place(order("LONG", 2, 3001))
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as reader:
        assert reader.execute("select status, traded from orders").fetchall() == [("ALLTRADED", "2")]
        assert reader.execute("select price, volume, fee from trades").fetchall() == [("3001", "2", "4")]
        assert reader.execute("select today, yesterday, cost from holdings").fetchall() == [("2", "0", "6002")]
        assert reader.execute("select value from meta where name = 'cash'").fetchone() == ("999996",)
    reader.close()


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "ledger.sqlite"
    market = venue(path)
    market.on_snapshot(snapshot([(3000, 9)], [(3001, 2)]))
    market.place(order("LONG", 1, 3001))
    [trade] = market.trades()
    before = Ledger(path).load()
    with pytest.raises(sqlite3.IntegrityError):
        market._ledger.save(trades=[trade], cash=market._books.cash - 1)
    assert Ledger(path).load() == before


def test_session_numbers_never_repeat_across_openings(tmp_path):
    numbers = []
    for _ in range(2):
        ledger = Ledger(tmp_path / "ledger.sqlite")
        numbers += [ledger.next_session() for _ in range(3)]
        ledger.close()
    assert numbers == [1, 2, 3, 4, 5, 6]


def test_a_ledger_of_the_first_version_is_taken_over_with_its_orders_in_their_order(tmp_path):
    path = tmp_path / "ledger.sqlite"
    market = venue(path)
    market.on_snapshot(snapshot([(3000, 9)], [(3001, 2)]))
    placed = [market.place(order("LONG", 1, 2000 + n))[0] for n in range(3)]
    before = Ledger(path).load()
    with sqlite3.connect(path) as connection:
        connection.execute("alter table orders drop column number")
        connection.execute("pragma user_version = 1")
    connection.close()
    assert Ledger(path).load() == before
    later = venue(path)
    assert [later.place(order("LONG", 1, 2500))[0]] == ["000000000004"]
    assert [entry.orderid for entry in later.orders()] == [*placed, "000000000004"]
    assert [entry.number for entry in later.orders()] == [1, 2, 3, 4]
