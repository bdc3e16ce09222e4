"""What every store does alike: the suite runs on SQLite, MariaDB (both drivers) and PostgreSQL, on real servers."""

from __future__ import annotations

import asyncio
import functools
import random
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import Connection, text

from testkit.databases import SERVED, Database
from testkit.journal_rows import EPOCH, ListJournal, at, contract, intent, order, order_row, row, trade, trade_row
from testkit.servers import Server
from vnpy_core.adapters.store import queries, writing
from vnpy_core.adapters.store.sink import StoreSink
from vnpy_core.adapters.store.sql import SqlStore
from vnpy_core.adapters.store.tables import metadata
from vnpy_core.adapters.store.types import micros
from vnpy_core.adapters.store.url import make_engine, store_url
from vnpy_core.bus import records, topics
from vnpy_core.domain.enums import Direction, HaltScope, IntentState, Offset, Status, StrategyState
from vnpy_core.domain.errors import ConfigurationError, PoisonRow, StoreUnavailable
from vnpy_core.domain.events import (
    Account,
    Audit,
    Halt,
    IntentOutcome,
    Order,
    Position,
    PositionBase,
    ProfitLeg,
    Quarantine,
    Quote,
    RiskEvent,
    StopOrderUpdate,
    StrategyData,
    StrategyDay,
    StrategySetting,
    StrategyUpdate,
    Trade,
)
from vnpy_core.ports.journal import Row
from vnpy_core.ports.store import OrderQuery, TradeQuery, Watermark

FIRST = (0, "")
served = pytest.mark.parametrize("database", SERVED, indirect=True)
"""Not on SQLite: it has no server, no decimals, and takes texts of any length and numbers of any size."""


async def all_orders(store: SqlStore) -> list[Order]:
    return await store.orders(OrderQuery(), FIRST, 1000)


async def all_trades(store: SqlStore) -> list[Trade]:
    return await store.trades(TradeQuery(), FIRST, 1000)


class TestTakingRowsIn:
    async def test_a_new_store_has_no_watermark(self, store: SqlStore) -> None:
        assert await store.watermark() is None

    async def test_rows_and_their_watermark_are_there_afterwards(self, store: SqlStore) -> None:
        done = order(3, status=Status.ALLTRADED, traded=10.0)
        await store.write([order_row(1), trade_row(2), order_row(3, status=Status.ALLTRADED, traded=10.0)])
        assert await store.watermark() == Watermark(EPOCH, 3)
        assert await all_orders(store) == [done]
        assert await all_trades(store) == [trade(2)]

    async def test_a_reopened_store_knows_it_all(self, database: Database, store: SqlStore) -> None:
        await store.write([order_row(1), trade_row(2)])
        await store.close()
        again = database.store()
        await again.open()
        assert await again.watermark() == Watermark(EPOCH, 2)
        assert (await all_orders(again), await all_trades(again)) == ([order(1)], [trade(2)])

    async def test_rows_that_come_again_change_nothing(self, store: SqlStore) -> None:
        rows = [order_row(1), trade_row(2), order_row(3, status=Status.CANCELLED)]
        await store.write(rows)
        before = await all_orders(store), await all_trades(store)
        await store.write(rows)
        await store.write(rows[:2])
        assert (await all_orders(store), await all_trades(store)) == before
        assert await store.watermark() == Watermark(EPOCH, 3)

    async def test_a_journal_read_again_from_its_start_ends_in_the_same_tables(self, store: SqlStore) -> None:
        rows = [order_row(1), trade_row(2), order_row(3, status=Status.CANCELLED)]
        later = msgspec.structs.replace(order_row(4, "2"), epoch="e2")
        await store.write([*rows, later])
        before = await all_orders(store), await all_trades(store)
        await store.write(rows)  # of an older epoch than the watermark's, so not skipped
        await store.write([later])
        assert (await all_orders(store), await all_trades(store)) == before
        assert await store.quarantine(10) == []

    async def test_however_events_are_ordered_and_cut_into_batches_the_orders_end_alike(self, store: SqlStore) -> None:
        life = [
            (Status.SUBMITTING, 0.0),
            (Status.NOTTRADED, 0.0),
            (Status.PARTTRADED, 3.0),
            (Status.PARTTRADED, 7.0),
            (Status.CANCELLED, 5.0),
        ]
        chance, seq = random.Random(7), 0
        for number in range(30):
            rows = []
            for status, traded in chance.sample(life, len(life)):
                seq += 1
                rows.append(order_row(seq, str(number), status, traded=traded))
            while rows:
                size = chance.randint(1, len(rows))
                await store.write(rows[:size])
                del rows[:size]
        ended = await all_orders(store)
        assert len(ended) == 30
        assert {(each.status, each.traded) for each in ended} == {(Status.CANCELLED, 7.0)}

    async def test_a_late_event_moves_nothing_but_the_watermark(self, store: SqlStore) -> None:
        await store.write([order_row(1, status=Status.CANCELLED)])
        late = order(2, status=Status.NOTTRADED)
        await store.write([row(2, records.ORDER_LATE, "c1", late)])
        assert await all_orders(store) == [order(1, status=Status.CANCELLED)]
        assert await store.watermark() == Watermark(EPOCH, 2)

    async def test_carried_rows_say_nothing_new(self, database: Database, store: SqlStore) -> None:
        rows = [order_row(1), trade_row(2), row(3, records.ORDER_INTENT, "c1", intent())]
        await store.write(rows)
        before = await all_orders(store), await all_trades(store)
        carried = [msgspec.structs.replace(each, seq=each.seq + 10, kind=records.CARRIED + each.kind) for each in rows]
        await store.write(carried)
        assert (await all_orders(store), await all_trades(store)) == before
        assert await database.rows("select count(*) from intents") == [(1,)]
        assert await store.watermark() == Watermark(EPOCH, 13)

    async def test_carried_rows_are_state_enough_for_a_new_store(self, store: SqlStore) -> None:
        rows = [order_row(1), trade_row(2)]
        await store.write(
            [msgspec.structs.replace(each, seq=each.seq + 10, kind=records.CARRIED + each.kind) for each in rows]
        )
        assert (await all_orders(store), await all_trades(store)) == ([order(1)], [trade(2)])

    async def test_a_batch_that_was_refused_only_once_is_no_poison(
        self, store: SqlStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, calls = writing.move_watermark, []

        def refusing_once(*arguments: Any) -> None:
            calls.append(arguments)
            if len(calls) == 1:
                raise OverflowError("a passing mood")
            real(*arguments)

        monkeypatch.setattr(writing, "move_watermark", refusing_once)
        with pytest.raises(StoreUnavailable):
            await store.write([order_row(1)])
        await store.write([order_row(1)])
        assert await all_orders(store) == [order(1)]

    async def test_an_empty_batch_is_nothing(self, store: SqlStore) -> None:
        await store.write([])
        assert await store.watermark() is None

    async def test_a_large_batch_is_taken_in_at_once(self, store: SqlStore) -> None:
        await store.write([order_row(seq, str(seq)) for seq in range(1, 2501)])
        assert len(await store.orders(OrderQuery(), FIRST, 3000)) == 2500


class TestEveryKind:
    async def test_positions_and_accounts_are_the_latest(self, database: Database, store: SqlStore) -> None:
        def position(seq: int, volume: float) -> Row:
            event = Position(
                vt_positionid="PAPER.rb.SHFE.LONG",
                vt_symbol="rb.SHFE",
                symbol="rb",
                exchange="SHFE",
                direction=Direction.LONG,
                volume=volume,
                frozen=0.0,
                price=1.5,
                pnl=-0.25,
                yd_volume=1.0,
                gateway_name="PAPER",
                seq=seq,
            )
            return row(seq, topics.POSITION_UPDATED, event.vt_positionid, event)

        def account(seq: int, balance: float) -> Row:
            event = Account(
                vt_accountid="PAPER.1",
                accountid="1",
                balance=balance,
                frozen=0.1,
                available=balance - 0.1,
                gateway_name="PAPER",
                seq=seq,
            )
            return row(seq, topics.ACCOUNT_UPDATED, event.vt_accountid, event)

        await store.write([position(1, 3.0), account(2, 5.0)])
        await store.write([position(3, 4.0), account(4, 6.0), position(5, 2.0)])
        assert await numbers(database, "select seq, volume from positions") == [(5, Decimal(2))]
        assert await numbers(database, "select seq, balance from accounts") == [(4, Decimal(6))]

    async def test_quotes_move_forward(self, database: Database, store: SqlStore) -> None:
        def quote(seq: int, status: Status) -> Row:
            event = Quote(
                vt_quoteid="PAPER.q1",
                quoteid="q1",
                gateway_name="PAPER",
                vt_symbol="rb.SHFE",
                symbol="rb",
                exchange="SHFE",
                bid_price=1.0,
                bid_volume=2.0,
                ask_price=3.0,
                ask_volume=4.0,
                bid_offset=Offset.NONE,
                ask_offset=Offset.NONE,
                status=status,
                seq=seq,
            )
            return row(seq, topics.QUOTE_UPDATED, "PAPER.q1", event)

        await store.write([quote(1, Status.SUBMITTING), quote(2, Status.CANCELLED)])
        await store.write([quote(3, Status.NOTTRADED)])
        assert await database.rows("select seq, status from quotes") == [(3, "CANCELLED")]

    async def test_halts_and_stop_orders_are_the_latest(self, database: Database, store: SqlStore) -> None:
        def halt(seq: int, *, active: bool) -> Row:
            event = Halt(scope=HaltScope.ALL, active=active, by="ann", reason="drill", at=at(seq), seq=seq)
            return row(seq, topics.RISK_HALT, "all", event)

        def stop(seq: int, status: str) -> Row:
            event = StopOrderUpdate(
                stop_orderid="STOP.1",
                vt_symbol="rb.SHFE",
                direction=Direction.SHORT,
                offset=Offset.CLOSE,
                price=1.0,
                volume=2.0,
                strategy_name="trend",
                status=status,
                vt_orderids=["PAPER.7"],
            )
            return row(seq, topics.STOP_ORDER_UPDATED, "STOP.1", event)

        await store.write([halt(1, active=True), stop(2, "WAITING"), halt(3, active=False), stop(4, "TRIGGERED")])
        assert await database.rows("select seq, active, reason from halts") == [(3, 0, "drill")]
        assert await database.rows("select status, vt_orderids from stop_orders") == [("TRIGGERED", '["PAPER.7"]')]

    @pytest.mark.parametrize("together", [True, False])
    @pytest.mark.parametrize("first", ["intent", "outcome"])
    async def test_an_intent_has_its_latest_outcome_whichever_came_first(
        self, database: Database, store: SqlStore, first: str, together: bool
    ) -> None:
        bound = IntentOutcome(
            client_order_id="c1", gateway_name="PAPER", state=IntentState.BOUND, vt_orderid="PAPER.1", at=at(9)
        )
        unknown = msgspec.structs.replace(bound, state=IntentState.UNKNOWN, vt_orderid="")
        events = [(records.ORDER_INTENT, intent()), (records.INTENT_OUTCOME, unknown), (records.INTENT_OUTCOME, bound)]
        if first == "outcome":
            events = [events[1], events[2], events[0]]
        rows = [row(seq, kind, "c1", event) for seq, (kind, event) in enumerate(events, 1)]
        for batch in [rows] if together else [[each] for each in rows]:
            await store.write(batch)
        found = await numbers(database, "select kind, vt_symbol, volume, state, vt_orderid, settled_at from intents")
        assert found == [("ORDER", "rb2505.SHFE", Decimal(10), "BOUND", "PAPER.1", micros(at(9)))]

    async def test_what_people_and_rules_did_is_kept_for_good(self, database: Database, store: SqlStore) -> None:
        audit = Audit(who="ann", what="limit.changed", target="max_volume", before={"a": 1}, after={"a": 2}, at=at(1))
        risk = RiskEvent(kind="denied", rule="volume", message="too much", data={"volume": 501}, seq=2)
        base = PositionBase(gateway_name="PAPER", vt_symbol="rb.SHFE", volume=3.0, at=at(3))
        rows = [
            row(1, records.AUDIT, "max_volume", audit),
            row(2, topics.RISK_EVENT, "volume", risk),
            row(3, records.POSITION_BASE, "PAPER.rb.SHFE", base),
        ]
        await store.write(rows)
        await store.write([msgspec.structs.replace(rows[2], seq=4, kind=records.CARRIED + rows[2].kind)])
        before, after = database.quoted("before"), database.quoted("after")
        assert await database.rows(f"select seq, who, what, target, {before}, {after} from audit order by seq") == [
            (1, "ann", "limit.changed", "max_volume", '{"a":1}', '{"a":2}'),
            (2, "risk", "denied", "volume", None, '{"volume":501}'),
            (3, "reconciliation", "position.base", "PAPER.rb.SHFE", None, '{"volume":3.0}'),
        ]

    async def test_contracts_and_strategies_are_replaced(self, database: Database, store: SqlStore) -> None:
        await store.save_contracts([contract(1), contract(2), contract(1, pricetick=0.2)])
        await store.save_contracts([contract(2, pricetick=0.5, max_volume=7.0)])
        found = await numbers(database, "select vt_symbol, pricetick, max_volume from contracts order by vt_symbol")
        assert found == [("rb1.SHFE", Decimal("0.2"), None), ("rb2.SHFE", Decimal("0.5"), Decimal(7))]

        state = {"trading": True, "pos": 0.1, "state": StrategyState.FAILED, "error": "ZeroDivisionError"}
        await store.save_strategies([strategy("趋势")])
        await store.save_strategies([strategy("趋势", variables={"pos": 2}, class_file="trend.py", **state)])
        found = await database.rows("select strategy_name, parameters, variables, trading, inited from strategies")
        assert found == [("趋势", '{"n":[1,2]}', '{"pos":2}', True, False)]
        found = await numbers(database, "select pos, attributed_pos, state, error, class_file from strategies")
        assert found == [(Decimal("0.1"), Decimal(0), "FAILED", "ZeroDivisionError", "trend.py")]

    async def test_of_a_strategys_setting_and_variables_the_latest_is_kept(
        self, database: Database, store: SqlStore
    ) -> None:
        def setting(seq: int, *, removed: bool) -> Row:
            event = StrategySetting(
                strategy_name="趋势",
                class_name="Trend",
                vt_symbol="rb.SHFE",
                setting={"n": [1, seq]},
                auto_start=True,
                class_hash="a" * 64,
                removed=removed,
                by="ann",
                at=at(seq),
            )
            return row(seq, records.STRATEGY_SETTING, "趋势", event)

        def data(seq: int, pos: float) -> Row:
            event = StrategyData(
                strategy_name="趋势", variables={"pos": pos}, attributed_pos=pos, counted_seq=seq, at=at(seq)
            )
            return row(seq, records.STRATEGY_DATA, "趋势", event)

        rows = [setting(1, removed=False), data(2, 0.1), setting(3, removed=True), data(4, 0.3), data(5, 0.2)]
        await store.write(rows[:4])
        await store.write(rows[4:])
        await store.write([msgspec.structs.replace(rows[4], seq=6, kind=records.CARRIED + rows[4].kind)])
        wanted = f"seq, setting, removed, {database.quoted('by')}"
        assert await database.rows(f"select {wanted} from strategy_settings") == [(3, '{"n":[1,3]}', True, "ann")]
        found = await numbers(database, "select seq, counted_seq, attributed_pos from strategy_data")
        assert found == [(6, 5, Decimal("0.2"))]
        assert await database.rows("select variables from strategy_data") == [('{"pos":0.2}',)]

    async def test_each_day_of_a_strategy_stands_as_it_was_told_last(self, store: SqlStore) -> None:
        told = [
            strategy_day("2026-11-19", 1.1, legs=[leg(pos=2.0, mark=3500.5)]),
            strategy_day("2026-11-20", 2.2),
            strategy_day("2026-11-20", 3.3, unrealised=-0.7, trades=4, last_seq=9),
            strategy_day("2026-11-20", 9.9, "other"),
            strategy_day("2026-11-23", 4.4),
        ]
        rows = [row(seq, records.STRATEGY_DAY, day.strategy_name, day) for seq, day in enumerate(told, 1)]
        await store.write(rows[:2])
        await store.write(rows[2:])
        await store.write([msgspec.structs.replace(rows[4], seq=9, kind=records.CARRIED + rows[4].kind)])
        assert await store.strategy_days("trend") == [told[0], told[2], told[4]]
        assert await store.strategy_days("trend", "2026-11-20", "2026-11-20") == [told[2]]
        assert await store.strategy_days("trend", start_day="2026-11-20") == [told[2], told[4]]
        assert await store.strategy_days("trend", end_day="2026-11-20") == [told[0], told[2]]
        assert await store.strategy_days("nobody") == []

    async def test_a_contract_that_cannot_be_stored_keeps_no_other_out(
        self, database: Database, store: SqlStore
    ) -> None:
        strange = contract(2, option_expiry=datetime(2026, 12, 1))  # in no time zone
        await store.save_contracts([contract(1), strange, contract(3)])
        found = await database.rows("select vt_symbol from contracts order by vt_symbol")
        assert found == [("rb1.SHFE",), ("rb3.SHFE",)]

    @served
    async def test_a_contract_that_the_database_refuses_keeps_no_other_out(
        self, database: Database, store: SqlStore
    ) -> None:
        await store.save_contracts([contract(1), contract(2, exchange="X" * 100), contract(3)])
        found = await database.rows("select vt_symbol from contracts order by vt_symbol")
        assert found == [("rb1.SHFE",), ("rb3.SHFE",)]


class TestExactness:
    VALUES = (
        0.1,
        1e-8,
        123456789.12345679,
        0.1 + 0.2,
        1.2345678901234567e-05,
        3500.5,
        1e15 / 3,
        1e-24,
        9_007_199_254_740_993.0,
        0.0,
        -37.63,
    )

    async def test_decimals_are_the_floats_shortest_form(self, database: Database, store: SqlStore) -> None:
        await store.write([order_row(i, str(i), price=value) for i, value in enumerate(self.VALUES, 1)])
        stored = [price for (price,) in await numbers(database, "select price from orders order by seq")]
        assert stored == [Decimal(repr(value)) for value in self.VALUES]
        assert [each.price for each in await all_orders(store)] == list(self.VALUES)

    @served
    async def test_exact_sums_can_be_made_in_the_database(self, database: Database, store: SqlStore) -> None:
        await store.write([trade_row(seq, str(seq), volume=0.1) for seq in range(1, 11)])
        assert await numbers(database, "select sum(volume) from trades") == [(Decimal(1),)]

    async def test_digits_beyond_the_24th_make_no_contradiction(self, store: SqlStore) -> None:
        tiny = 1.2345678901234567e-12
        await store.write([trade_row(1, price=tiny)])
        await store.write([msgspec.structs.replace(trade_row(1, price=tiny), epoch="e2")])
        assert await store.quarantine(10) == []
        assert (await all_trades(store))[0].price == pytest.approx(tiny, rel=1e-10)

    async def test_times_are_exact_to_the_microsecond(self, database: Database, store: SqlStore) -> None:
        times = [at(0) + timedelta(microseconds=n) for n in (0, 1, 999_999, 123_456)]
        times += [
            datetime.fromisoformat(text) for text in ("1970-01-01T00:00:00.000001Z", "2199-12-31T23:59:59.999999Z")
        ]
        await store.write([trade_row(seq, str(seq), datetime=time) for seq, time in enumerate(times, 1)])
        assert [each.datetime for each in await all_trades(store)] == times
        stored = [
            value for (value,) in await database.rows(f"select {database.quoted('datetime')} from trades order by seq")
        ]
        assert stored == [micros(time) for time in times]

    async def test_ids_that_differ_in_case_or_spaces_are_different_ones(self, store: SqlStore) -> None:
        ids = ["abc", "ABC", "Abc", "abc ", "äbc", "ábc", "螺纹", "ß", "ss", "😀"]
        await store.write([order_row(seq, name) for seq, name in enumerate(ids, 1)])
        assert [each.orderid for each in await all_orders(store)] == ids
        for name in ids:
            found = await store.order(f"PAPER.{name}")
            assert found is not None
            assert found.orderid == name
        assert await store.order("PAPER.aBC") is None

    async def test_ids_of_one_seq_come_in_the_order_of_their_characters(self, store: SqlStore) -> None:
        ids = ["Z", "a", "B", "_", "é", "😀", "1"]
        await store.write([order_row(1, name, seq=1) for name in ids])
        assert [each.orderid for each in await all_orders(store)] == sorted(ids)

    async def test_users_texts_may_hold_anything(self, store: SqlStore) -> None:
        words = "🚀 'quotes' \"double\" \\ % %s :name ; -- \n\t 中文 " + "x" * 5000
        await store.write([order_row(1, reference=words, reason=words, strategy_name="趋势 😀 %s")])
        found = (await all_orders(store))[0]
        assert (found.reference, found.reason, found.strategy_name) == (words, words, "趋势 😀 %s")


class TestContradictions:
    async def test_another_content_under_a_known_key_goes_to_quarantine(self, store: SqlStore) -> None:
        await store.write([trade_row(1), trade_row(2, price=9.0, datetime=at(1))])
        await store.write([trade_row(3, price=8.0, datetime=at(1))])
        assert await all_trades(store) == [trade(1)]
        found = await store.quarantine(10)
        assert [(each.kind, each.key, each.arrived["price"]) for each in found] == [
            (topics.TRADE_EXECUTED, "PAPER:c1/t1", 8.0),
            (topics.TRADE_EXECUTED, "PAPER:c1/t1", 9.0),
        ]
        assert {each.known["price"] for each in found} == {3500.5}

    async def test_a_contradiction_that_comes_again_is_kept_once(self, store: SqlStore) -> None:
        rows = [trade_row(1), trade_row(2, price=9.0)]
        await store.write(rows)
        await store.write([msgspec.structs.replace(order_row(3), epoch="e2")])
        await store.write(rows)
        assert len(await store.quarantine(10)) == 1

    async def test_what_the_journal_found_is_kept_too(self, store: SqlStore) -> None:
        event = Quarantine(
            kind="trade.executed", key="k", reason="price", known={"price": 1.5}, arrived={"price": 2}, at=at(1)
        )
        await store.write([row(1, records.QUARANTINE, "k", event)])
        assert await store.quarantine(10) == [event]

    async def test_a_fill_that_gets_its_strategy_later_is_no_contradiction(self, store: SqlStore) -> None:
        await store.write([trade_row(1)])
        await store.write([trade_row(2, strategy_name="trend", datetime=at(1))])
        assert [each.strategy_name for each in await all_trades(store)] == ["trend"]
        assert await store.quarantine(10) == []

    async def test_an_intent_is_never_written_over(self, database: Database, store: SqlStore) -> None:
        await store.write([row(1, records.ORDER_INTENT, "c1", intent())])
        await store.write([row(2, records.ORDER_INTENT, "c1", intent(volume=99.0))])
        assert await numbers(database, "select volume from intents") == [(Decimal(10),)]
        assert [each.arrived["volume"] for each in await store.quarantine(10)] == [99.0]


POISONS: dict[str, Callable[[int], Row]] = {
    "broken JSON": lambda seq: row(seq, topics.ORDER_UPDATED, "x", b'{"vt_orderid": "half'),
    "a missing field": lambda seq: row(seq, topics.ORDER_UPDATED, "x", b"{}"),
    "an unknown kind": lambda seq: row(seq, "order.teleported", "x", b"{}"),
    "a time without a zone": lambda seq: row(
        seq, topics.TRADE_EXECUTED, "x", trade(seq, datetime=datetime(2026, 11, 20))
    ),
    "a number beyond 64 bits": lambda seq: order_row(seq, "x", seq=2**63 + seq),
}


class TestPoison:
    @pytest.mark.parametrize("poison", POISONS)
    async def test_the_culprit_is_named_and_the_rest_can_be_written(self, store: SqlStore, poison: str) -> None:
        rows = [order_row(seq, str(seq)) for seq in range(1, 41)]
        rows[26] = POISONS[poison](27)
        with pytest.raises(PoisonRow) as caught:
            await store.write(rows)
        assert caught.value.seq == 27
        assert await store.watermark() is None
        assert await all_orders(store) == []

        await store.write(rows[:26])
        await store.park(rows[26], caught.value.detail)
        await store.write(rows[27:])
        assert await store.watermark() == Watermark(EPOCH, 40)
        assert len(await all_orders(store)) == 39
        (letter,) = await store.dead_letters(10)
        assert (letter.seq, letter.kind, letter.key) == (27, rows[26].kind, rows[26].key)
        assert letter.payload == rows[26].payload.decode()
        assert letter.reason

    @served
    async def test_a_text_that_is_too_long_is_refused_and_not_cut(self, database: Database, store: SqlStore) -> None:
        rows = [order_row(1), order_row(2, "2", vt_symbol="x" * 200), order_row(3, "3")]
        with pytest.raises(PoisonRow) as caught:
            await store.write(rows)
        assert caught.value.seq == 2

    @served
    async def test_a_number_out_of_range_is_refused_and_not_bent(self, database: Database, store: SqlStore) -> None:
        with pytest.raises(PoisonRow) as caught:
            await store.write([order_row(1), order_row(2, "2", price=1e30)])
        assert caught.value.seq == 2

    async def test_the_first_of_several_is_named(self, store: SqlStore) -> None:
        rows = [order_row(seq, str(seq)) for seq in range(1, 21)]
        rows[4], rows[15] = POISONS["a number beyond 64 bits"](5), POISONS["a number beyond 64 bits"](16)
        with pytest.raises(PoisonRow) as caught:
            await store.write(rows)
        assert caught.value.seq == 5

    async def test_anything_can_be_parked(self, store: SqlStore) -> None:
        nasty = row(5, "k\0" * 200, "key\0" * 300, b"\xff\x00{")
        await store.park(nasty, "why\0" * 5000)
        await store.park(nasty, "again")
        (letter,) = await store.dead_letters(10)
        assert (letter.seq, letter.payload, letter.reason) == (5, r"\xff\0{", "again")
        assert await store.watermark() == Watermark(EPOCH, 5)

    async def test_the_newest_dead_letters_come_first(self, database: Database, store: SqlStore) -> None:
        for seq in (1, 2, 3):
            await store.park(row(seq, "k", "x", b""), "why")
            database.clock.advance(1)
        assert [letter.seq for letter in await store.dead_letters(2)] == [3, 2]


def _some_orders() -> list[Order]:
    chance = random.Random(11)
    found = []
    for seq in range(1, 91):
        status = chance.choice(list(Status))
        found.append(
            order(
                seq,
                str(seq),
                status,
                vt_symbol=chance.choice(["rb2505.SHFE", "IF2503.CFFEX"]),
                gateway_name=chance.choice(["PAPER", "CTP"]),
                strategy_name=chance.choice([None, "trend", "Trend"]),
                datetime=chance.choice([None, at(chance.uniform(0, 20_000))]),
                updated_at=at(seq * 100),
            )
        )
    return found


def _some_trades() -> list[Trade]:
    chance = random.Random(12)
    return [
        trade(
            seq,
            str(seq),
            vt_orderid=chance.choice(["PAPER.1", "PAPER.2"]),
            vt_symbol=chance.choice(["rb2505.SHFE", "IF2503.CFFEX"]),
            gateway_name=chance.choice(["PAPER", "CTP"]),
            strategy_name=chance.choice([None, "trend", "Trend"]),
            datetime=chance.choice([None, at(chance.uniform(0, 20_000))]),
        )
        for seq in range(1, 91)
    ]


COMMON: list[dict[str, Any]] = [
    {},
    {"vt_symbol": "rb2505.SHFE"},
    {"gateway_name": "CTP"},
    {"strategy_name": "trend"},
    {"strategy_name": "nobody"},
    {"start": at(5000)},
    {"end": at(5000)},
    {"start": at(3000), "end": at(9000)},
    {"start": at(90_000)},
    {"gateway_name": "CTP", "vt_symbol": "rb2505.SHFE", "start": at(1000)},
]
ORDERS_ONLY: list[dict[str, Any]] = [
    {"active": True},
    {"active": False},
    {"status": Status.PARTTRADED},
    {"status": Status.CANCELLED, "active": True},
    {"status": Status.REJECTED, "gateway_name": "PAPER", "strategy_name": "Trend", "end": at(19_000)},
]


def _fits(event: Order | Trade, wanted: dict[str, Any]) -> bool:
    time = event.datetime or (event.updated_at if isinstance(event, Order) else None)
    start, end = wanted.get("start"), wanted.get("end")
    in_time = (start is None and end is None) or (
        time is not None and (start is None or time >= start) and (end is None or time < end)
    )
    active = "active" not in wanted or (isinstance(event, Order) and event.is_active is wanted["active"])
    names = ("vt_symbol", "gateway_name", "strategy_name", "status", "vt_orderid")
    return in_time and active and all(getattr(event, name) == wanted[name] for name in names if name in wanted)


class TestHistory:
    async def test_every_filter_pages_through_all_orders_that_fit(self, store: SqlStore) -> None:
        events = _some_orders()
        await store.write([row(each.seq, topics.ORDER_UPDATED, each.vt_orderid, each) for each in events])
        for wanted in [*COMMON, *ORDERS_ONLY]:
            found: list[Order] = []
            after = FIRST
            while page := await store.orders(OrderQuery(**wanted), after, 7):
                assert len(page) <= 7
                found += page
                after = (page[-1].seq, page[-1].vt_orderid)
            assert found == [each for each in events if _fits(each, wanted)], wanted

    async def test_every_filter_pages_through_all_trades_that_fit(self, store: SqlStore) -> None:
        events = _some_trades()
        await store.write([row(each.seq, topics.TRADE_EXECUTED, each.vt_tradeid, each) for each in events])
        for wanted in [*COMMON, {"vt_orderid": "PAPER.2"}, {"vt_orderid": "PAPER.1", "gateway_name": "PAPER"}]:
            found: list[Trade] = []
            after = FIRST
            while page := await store.trades(TradeQuery(**wanted), after, 7):
                found += page
                after = (page[-1].seq, page[-1].vt_tradeid)
            assert found == [each for each in events if _fits(each, wanted)], wanted

    async def test_pages_go_on_within_one_seq(self, store: SqlStore) -> None:
        names = ["a", "b", "c", "d"]
        await store.write([order_row(1, name, seq=5) for name in names])
        first = await store.orders(OrderQuery(), FIRST, 2)
        rest = await store.orders(OrderQuery(), (5, first[-1].vt_orderid), 10)
        assert [each.orderid for each in [*first, *rest]] == names

    async def test_an_order_that_moves_is_found_by_its_new_time(self, store: SqlStore) -> None:
        await store.write([order_row(1, datetime=None, updated_at=at(0))])
        await store.write([order_row(2, datetime=at(-90_000), updated_at=at(10))])
        assert await store.orders(OrderQuery(start=at(-5), end=at(20)), FIRST, 10) == []
        assert len(await store.orders(OrderQuery(start=at(-90_000), end=at(-89_000)), FIRST, 10)) == 1

    async def test_the_newest_order_of_an_id_is_found(self, store: SqlStore) -> None:
        old = row(1, topics.ORDER_UPDATED, "PAPER.1@2026-11-19", order(1, client_order_id="mine"))
        new = row(2, topics.ORDER_UPDATED, "PAPER.1@2026-11-20", order(2, client_order_id="mine"))
        await store.write([old, new])
        for found in (await store.order("PAPER.1"), await store.order_by_client_id("mine")):
            assert found is not None
            assert found.seq == 2
        assert len(await all_orders(store)) == 2
        assert await store.order_by_client_id("yours") is None


BREAK = {
    "sqlite": "select * from there_is_no_such_table",
    "mysql": "kill connection_id()",
    "postgresql": "select pg_terminate_backend(pg_backend_pid())",
}


class TestFaults:
    async def test_a_connection_lost_within_a_transaction_leaves_nothing(
        self, database: Database, store: SqlStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await store.write([order_row(1, "1")])
        real = writing.move_watermark

        def broken(connection: Connection, *rest: Any) -> None:
            connection.execute(text(BREAK[database.kind]))
            real(connection, *rest)

        monkeypatch.setattr(writing, "move_watermark", broken)
        with pytest.raises(StoreUnavailable):
            await store.write([order_row(2, "2"), trade_row(3)])
        assert await store.watermark() == Watermark(EPOCH, 1)
        assert (len(await all_orders(store)), await all_trades(store)) == (1, [])

        monkeypatch.setattr(writing, "move_watermark", real)
        await store.write([order_row(2, "2"), trade_row(3)])
        assert await store.watermark() == Watermark(EPOCH, 3)

    @served
    async def test_a_stopped_server_is_told_and_found_again(self, server: Server, store: SqlStore) -> None:
        await store.write([order_row(1)])
        server.stop()
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await store.write([order_row(2)])
            with pytest.raises(StoreUnavailable):
                await store.orders(OrderQuery(), FIRST, 10)
        server.start()
        await store.write([order_row(2)])
        assert await store.watermark() == Watermark(EPOCH, 2)

    @served
    async def test_a_killed_server_loses_no_row_that_was_written(self, server: Server, store: SqlStore) -> None:
        await store.write([order_row(seq, str(seq)) for seq in range(1, 101)])
        server.kill()
        with pytest.raises(StoreUnavailable):
            await store.watermark()
        server.start()
        assert await store.watermark() == Watermark(EPOCH, 100)
        assert len(await all_orders(store)) == 100

    @served
    async def test_a_server_that_hangs_is_told_in_time_and_found_again(
        self, database: Database, server: Server
    ) -> None:
        store = database.store(timeout_s=1.0, pool_size=2)
        await store.open()
        await store.write([order_row(1)])
        server.pause()
        started = time.monotonic()
        calls = [
            store.write([order_row(2)]),
            store.orders(OrderQuery(), FIRST, 10),
            store.watermark(),
            store.order("x"),
        ]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(answer, StoreUnavailable) for answer in answers), answers
        with pytest.raises(StoreUnavailable):
            await store.watermark()
        assert time.monotonic() - started < 6
        server.resume()
        await store.write([order_row(2)])
        assert await store.watermark() == Watermark(EPOCH, 2)
        assert await all_orders(store) == [order(2)]

    @served
    async def test_a_store_can_be_closed_while_its_server_hangs(self, database: Database, server: Server) -> None:
        store = database.store(timeout_s=1.0)
        await store.open()
        server.pause()
        started = time.monotonic()
        await store.close()
        assert time.monotonic() - started < 5

    @served
    async def test_a_server_that_is_away_at_the_start_can_be_opened_later(
        self, database: Database, server: Server
    ) -> None:
        server.stop()
        store = database.store()
        with pytest.raises(StoreUnavailable):
            await store.open()
        with pytest.raises(StoreUnavailable):
            await store.watermark()
        server.start()
        await store.open()
        await store.open()
        assert await store.watermark() is None

    async def test_who_waits_for_a_lock_too_long_is_told(self, database: Database, store: SqlStore) -> None:
        await store.write([order_row(1)])
        other = database.store(timeout_s=1.0)
        await other.open()
        entered, leave = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def hold(connection: Connection) -> None:
            writing.watermark(connection, lock=True)
            loop.call_soon_threadsafe(entered.set)
            asyncio.run_coroutine_threadsafe(leave.wait(), loop).result(4)

        holding = asyncio.create_task(store.ask(hold, writes=True))
        await entered.wait()
        with pytest.raises(StoreUnavailable):
            await other.write([order_row(2)])
        leave.set()
        await holding
        await other.write([order_row(2)])
        assert await store.watermark() == Watermark(EPOCH, 2)

    @served
    async def test_a_wrong_password_or_database_is_the_operators_to_mend(
        self, database: Database, server: Server
    ) -> None:
        wrong = [
            database.url.replace("s3cret", "wr0ng-pass"),
            database.url.rpartition("/")[0] + "/nowhere",
            database.url + "?no_such_option=1",
        ]
        for url in wrong:
            store = database.store(url=SecretStr(url))
            with pytest.raises(ConfigurationError) as caught:
                await store.open()
            assert "wr0ng-pass" not in caught.value.detail
            assert "s3cret" not in caught.value.detail


def is_served_by_an_index(plan: str, kind: str) -> bool:
    """No scan of the table, and no sort of more than what an index gave."""
    if kind == "sqlite":
        return "SEARCH" in plan and "USING INDEX" in plan and "B-TREE" not in plan
    if kind == "mysql":
        return ("type=range" in plan or "Impossible WHERE" in plan) and "filesort" not in plan
    return "Index" in plan and "Seq Scan" not in plan


class TestPlans:
    async def test_every_filter_is_a_stretch_of_an_index(self, database: Database, store: SqlStore) -> None:
        chance = random.Random(5)
        gateways, names = ["PAPER", "CTP"], ["trend", "grid", "arb"]
        rows: list[Row] = []
        for seq in range(1, 6001, 2):
            number, gateway, name = str(seq), chance.choice(gateways), chance.choice(names)
            common = {"gateway_name": gateway, "strategy_name": name, "vt_symbol": f"rb{seq % 40}.SHFE"}
            status = chance.choice([*[Status.ALLTRADED] * 20, Status.REJECTED])
            rows.append(order_row(seq, number, status, **common))
            rows.append(trade_row(seq + 1, number, **common))
        await store.write(rows)
        if database.kind != "sqlite":
            tables = "orders, trades, hours"
            await database.execute(f"analyze {'table ' if database.kind == 'mysql' else ''}{tables}")
        common_filters = [{**wanted, **self._real(wanted)} for wanted in COMMON]
        for after in (0, 3000, 5500):
            for wanted in [*common_filters, *ORDERS_ONLY]:
                query = OrderQuery(**wanted)
                await self._check(database, store, query, after)
            for wanted in [*common_filters, {"vt_orderid": "PAPER.77"}]:
                await self._check(database, store, TradeQuery(**wanted), after)

    @staticmethod
    def _real(wanted: dict[str, Any]) -> dict[str, Any]:
        return {"vt_symbol": "rb7.SHFE"} if "vt_symbol" in wanted else {}

    @staticmethod
    async def _check(database: Database, store: SqlStore, query: OrderQuery | TradeQuery, after: int) -> None:
        plan = "\n".join(await store.ask(lambda run: queries.plan(run, query, (after, "x"), 20)))
        assert is_served_by_an_index(plan, database.kind), f"{query} after {after}:\n{plan}"


class TestSink:
    """With a real database; what the sink does by itself is in its unit tests."""

    async def test_a_server_killed_again_and_again_while_it_drains_gets_each_row_once(
        self, database: Database, store: SqlStore
    ) -> None:
        rows = [
            each
            for n in range(1, 4001, 4)
            for each in (
                order_row(n, str(n), Status.SUBMITTING),
                order_row(n + 1, str(n)),
                order_row(n + 2, str(n), Status.ALLTRADED, traded=10.0),
                trade_row(n + 3, str(n)),
            )
        ]
        sink = StoreSink(store, ListJournal(*rows), database.clock, batch=50)
        sink.start()
        for part in (1, 2, 3):
            while sink.drained < len(rows) * part // 4:
                await asyncio.sleep(0.001)
            if database.server is not None:
                await asyncio.to_thread(database.server.kill)
                await asyncio.to_thread(database.server.start)
        await sink.close(30)
        assert sink.state().lag == 0
        orders = await store.orders(OrderQuery(), FIRST, 5000)
        assert [(each.seq, each.status, each.traded) for each in orders] == [
            (seq, Status.ALLTRADED, 10.0) for seq in range(3, 4001, 4)
        ]
        assert [each.seq for each in await store.trades(TradeQuery(), FIRST, 5000)] == list(range(4, 4001, 4))
        assert await store.watermark() == Watermark(EPOCH, 4000)
        assert await store.quarantine(10) == []


class TestMigrations:
    async def test_what_is_to_do_is_told_and_done_once(self, empty: Database) -> None:
        store = empty.store()
        assert [step.revision for step in await store.pending()] == ["0001", "0002"]
        await store.open()
        assert await store.pending() == []
        await store.write([order_row(1)])
        again = empty.store()
        await again.open()
        assert await again.watermark() == Watermark(EPOCH, 1)

    async def test_the_migrations_make_the_tables_that_the_code_knows(self, empty: Database) -> None:
        await empty.store().open()
        assert await differences(empty) == []

    async def test_a_newer_schema_is_refused(self, empty: Database) -> None:
        await empty.store().open()
        await empty.execute("update alembic_version set version_num = '9999'")
        newer = empty.store()
        with pytest.raises(ConfigurationError, match="newer"):
            await newer.open()
        with pytest.raises(ConfigurationError, match="newer"):
            await newer.pending()

    async def test_a_migration_that_was_cut_short_is_finished(self, empty: Database) -> None:
        store = empty.store()
        await store.open()
        await store.write([order_row(1)])
        on = " on trades" if empty.kind == "mysql" else ""
        await empty.execute(
            "delete from alembic_version",
            "drop table halts",
            "drop table watermark",
            f"drop index ix_trades_vt_symbol_seq_vt_tradeid{on}",
        )
        again = empty.store()
        await again.open()
        assert await differences(empty) == []
        assert await all_orders(again) == [order(1)]

    async def test_a_database_of_the_first_release_keeps_its_strategies(self, empty: Database) -> None:
        store = empty.store()
        await store.open()
        await store.save_strategies([strategy("trend")])
        new = (
            "inited", "trading", "pos", "state", "error", "auto_start", "attributed_pos", "class_file", "class_hash",
            "class_is_old",
        )  # fmt: skip
        await empty.execute(
            *(f"drop table {table}" for table in ("strategy_settings", "strategy_data", "strategy_days")),
            *(f"alter table strategies drop column {name}" for name in new),
            "update alembic_version set version_num = '0001'",
        )
        assert [step.revision for step in await empty.store().pending()] == ["0002"]
        again = empty.store()
        await again.open()
        assert await differences(empty) == []
        found = await empty.rows("select strategy_name, variables, trading, state, class_file from strategies")
        assert found == [("trend", '{"pos":1}', False, "CREATED", "")]
        await again.save_strategies([strategy("trend", state=StrategyState.RUNNING), strategy("other")])
        found = await empty.rows("select strategy_name, state from strategies order by strategy_name")
        assert found == [("other", "CREATED"), ("trend", "RUNNING")]

    async def test_somebody_elses_tables_are_left_alone(self, empty: Database) -> None:
        if empty.kind == "sqlite":
            Path(store_url(empty.settings(), Path()).database or "").parent.mkdir(parents=True)
        await empty.execute("create table orders (id integer primary key, customer varchar(10))")
        with pytest.raises(ConfigurationError, match="orders"):
            await empty.store().open()

    async def test_several_processes_may_migrate_at_the_same_time(self, empty: Database) -> None:
        program = (
            "import asyncio, sys; from pathlib import Path; from pydantic import SecretStr\n"
            "from vnpy_core.adapters.store.settings import StoreSettings\n"
            "from vnpy_core.adapters.store.sql import SqlStore\n"
            "from vnpy_core.adapters.store.url import store_url\n"
            "from vnpy_core.kit.clock import SystemClock\n"
            "async def main():\n"
            "    settings = StoreSettings(url=SecretStr(sys.argv[1]))\n"
            "    store = SqlStore(store_url(settings, Path()), settings, SystemClock())\n"
            "    await store.open(); await store.close()\n"
            "asyncio.run(main())\n"
        )
        command = [sys.executable, "-c", program, empty.url]
        run = functools.partial(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
        for done in await asyncio.gather(*(asyncio.to_thread(run) for _ in range(2))):
            assert done.returncode == 0, done.stderr
        assert await differences(empty) == []


def strategy(name: str, **changes: Any) -> StrategyUpdate:
    values: dict[str, Any] = {"class_name": "Trend", "vt_symbol": "rb.SHFE", "author": ""}
    values |= {"parameters": {"n": [1, 2]}, "variables": {"pos": 1}}
    return StrategyUpdate(strategy_name=name, **{**values, **changes})


def strategy_day(day: str, realised: float, /, name: str = "trend", **changes: Any) -> StrategyDay:
    values: dict[str, Any] = {"unrealised": 0.0, "fees": 0.1, "turnover": 35005.0, "trades": 2, "wins": 1, "losses": 0}
    values |= {"legs": [], "last_seq": 7, "at": at(1)}
    return StrategyDay(strategy_name=name, day=day, realised=realised, **{**values, **changes})


def leg(*, pos: float, mark: float) -> ProfitLeg:
    return ProfitLeg(vt_symbol="rb2505.SHFE", pos=pos, price=3500.1, mark=mark, size=10.0, trip=-0.3)


async def differences(database: Database) -> list[Any]:
    """Between the database and the tables that the code knows."""
    settings = database.settings()
    engine = make_engine(store_url(settings, Path()), settings)

    def compare(connection: Connection) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async with engine.connect() as connection:
        found = await connection.run_sync(compare)
    await engine.dispose()
    return found


async def numbers(database: Database, statement: str) -> list[Any]:
    """Rows with their decimals as such; SQLite gives them as texts."""

    def number(value: Any) -> Any:
        return Decimal(value) if isinstance(value, str) and value.lstrip("-").replace(".", "").isdigit() else value

    return [tuple(number(value) for value in each) for each in await database.rows(statement)]
