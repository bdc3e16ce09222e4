"""Rollovers against a venue that fills, fills in part, rejects, loses answers and dies."""

import asyncio
from itertools import count

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testkit.clock import FakeClock
from testkit.fake_strategies import FakeStrategies
from testkit.rolling import NEW, OLD, RollingEngine
from vnpy_core.domain.commands import SubmitOrder
from vnpy_core.domain.enums import (
    Direction,
    HaltScope,
    IntentState,
    Offset,
    OrderType,
    ReconciliationState,
    Status,
    StrategyState,
)
from vnpy_core.domain.errors import (
    Conflict,
    GatewayRefused,
    NotFound,
    OutcomeUnknown,
    RiskDenied,
    StorageFull,
    TradingHalted,
    ValidationFailed,
)
from vnpy_core.domain.events import Halt
from vnpy_core.features.strategies.rollover import KEPT, Rollovers
from vnpy_core.features.strategies.rollover_plan import RolloverRequest
from vnpy_core.features.strategies.rollover_records import RolloverState


class Room:
    """A service on its own file; `rollovers` may be made anew, as a restart does."""

    def __init__(self, file) -> None:
        self.file = file
        self.clock = FakeClock()
        self.strategies = FakeStrategies()
        self.engine = RollingEngine(self.strategies)
        self._ids = count(1)
        self.rollovers = self.made()

    def made(self) -> Rollovers:
        return Rollovers(
            self.engine,
            self.strategies,
            self.engine.view,
            self.engine.bus,
            self.clock,
            file=self.file,
            new_id=lambda: f"r{next(self._ids):03}",
            reprice_s=0.01,
        )

    def put(self, name="demo", pos=5.0, state=StrategyState.STOPPED, **fields):
        self.strategies.put(name, state, vt_symbol=OLD, **({"pos": pos, "attributed_pos": pos} | fields))

    def plan(self, **fields):
        return self.rollovers.plan(request(**fields))

    async def roll(self, **fields):
        """A rollover from its begin to its end."""
        begun = await self.rollovers.start(request(**fields), by="t")
        return await self.end(begun.id)

    async def end(self, rollover_id):
        async with asyncio.timeout(20):
            while self.rollovers.rollover(rollover_id).state is RolloverState.RUNNING:
                await asyncio.sleep(0.001)
        return self.rollovers.rollover(rollover_id)

    def sent(self):
        return [(c.symbol, c.direction, c.offset, c.volume, c.price) for c in self.engine.commands]


def request(**fields) -> RolloverRequest:
    return RolloverRequest(**({"from_vt_symbol": OLD, "to_vt_symbol": NEW} | fields))


@pytest.fixture
async def room(tmp_path):
    room = Room(tmp_path / "rollovers.json")
    await room.rollovers.open()
    yield room
    await room.rollovers.close()


# What is sent


async def test_a_long_position_is_sold_in_the_old_contract_and_bought_in_the_new_one(room):
    room.put(pos=5.0)
    done = await room.roll()
    assert room.sent() == [
        ("rb2701", Direction.SHORT, Offset.CLOSE, 5.0, 3495.0),
        ("rb2705", Direction.LONG, Offset.OPEN, 5.0, 3526.0),
    ]
    assert {(c.type, c.reference, c.gateway_name) for c in room.engine.commands} == {
        (OrderType.LIMIT, "CtaStrategy_demo", "PAPER")
    }
    assert done.state is RolloverState.DONE
    (part,) = done.strategies
    assert (part.closed, part.opened, part.moved, part.problem) == (5.0, 5.0, True, None)
    assert room.engine.held["demo"] == {OLD: 0.0, NEW: 5.0}
    strategy = room.strategies.strategy("demo")
    assert (strategy.vt_symbol, strategy.pos) == (NEW, 5.0)
    assert ("move", "demo", "t") in room.strategies.asked


async def test_a_short_position_is_bought_back_and_sold_again(room):
    room.put(pos=-2.0)
    await room.roll(payup=0)
    assert room.sent() == [
        ("rb2701", Direction.LONG, Offset.CLOSE, 2.0, 3501.0),
        ("rb2705", Direction.SHORT, Offset.OPEN, 2.0, 3520.0),
    ]
    assert room.engine.held["demo"] == {OLD: 0.0, NEW: -2.0}


async def test_a_strategy_without_a_position_is_only_moved(room):
    room.put(pos=0.0)
    assert (await room.roll()).state is RolloverState.DONE
    assert room.sent() == []
    assert room.strategies.strategy("demo").vt_symbol == NEW


async def test_no_order_is_larger_than_was_asked_and_no_more_than_one_is_out_of_the_market(room):
    room.put(pos=7.0)
    await room.roll(max_volume=3.0)
    assert [(c.offset, c.volume) for c in room.engine.commands] == [
        (Offset.CLOSE, 3.0),
        (Offset.OPEN, 3.0),
        (Offset.CLOSE, 3.0),
        (Offset.OPEN, 3.0),
        (Offset.CLOSE, 1.0),
        (Offset.OPEN, 1.0),
    ]


async def test_only_what_was_closed_is_opened(room):
    room.put(pos=5.0)
    partly = iter([2.0, 2.0, 3.0, 3.0])
    room.engine.fills = lambda command: next(partly)
    assert (await room.roll()).state is RolloverState.DONE
    assert [(c.offset, c.volume) for c in room.engine.commands] == [
        (Offset.CLOSE, 5.0),
        (Offset.OPEN, 2.0),
        (Offset.CLOSE, 3.0),
        (Offset.OPEN, 3.0),
    ]
    assert len(room.engine.cancels) == 1  # what was left of the first one


async def test_an_order_that_waits_is_cancelled_and_follows_the_market(room):
    room.put(pos=1.0)
    tries = count(1)

    def fills(command: SubmitOrder) -> float:
        if next(tries) < 3:
            room.engine.show(OLD, 3490.0)
            return 0.0
        return command.volume

    room.engine.fills = fills
    assert (await room.roll()).state is RolloverState.DONE
    assert [c.price for c in room.engine.commands] == [3495.0, 3485.0, 3485.0, 3526.0]
    assert len(room.engine.cancels) == 2
    assert len({c.client_order_id for c in room.engine.commands}) == 4


async def test_all_strategies_of_the_contract_are_rolled_or_those_that_are_named(room):
    for name, pos in (("a", 1.0), ("b", -2.0), ("c", 3.0)):
        room.put(name, pos)
    await room.roll(strategies=("c",))
    assert {c.reference for c in room.engine.commands} == {"CtaStrategy_c"}
    await room.roll()
    held = {name: room.engine.held[name] for name in "abc"}
    assert held == {"a": {OLD: 0.0, NEW: 1.0}, "b": {OLD: 0.0, NEW: -2.0}, "c": {OLD: 0.0, NEW: 3.0}}
    # Long ones first: at one time the two sides' orders would trade with each other.
    assert [c.reference[-1] for c in room.engine.commands] == ["c", "c", "a", "a", "b", "b"]


async def test_prices_stay_within_the_days_limits(room):
    room.put(pos=1.0)
    room.engine.show(OLD, 3500.0, limit_down=3498.0)
    room.engine.show(NEW, 3520.0, limit_up=3522.0)
    await room.roll()
    assert [c.price for c in room.engine.commands] == [3498.0, 3522.0]


async def test_small_steps_are_exact(room):
    room.put(pos=0.7)
    for vt_symbol in (OLD, NEW):
        room.engine.add_contract(vt_symbol, min_volume=0.1, pricetick=0.1)
    await room.roll(max_volume=0.25, payup=3)
    assert [c.volume for c in room.engine.commands] == [0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.1, 0.1]
    assert {c.price for c in room.engine.commands} == {3499.7, 3521.3}


@settings(max_examples=60, deadline=None)
@given(
    pos=st.integers(-40, 40).filter(bool),
    max_volume=st.integers(1, 15),
    shares=st.lists(st.sampled_from([0.0, 0.0, 0.3, 0.5, 1.0]), max_size=30),
)
def test_property_whatever_is_filled_no_lot_is_lost_or_doubled(tmp_path_factory, pos, max_volume, shares):
    async def run() -> None:
        room = Room(tmp_path_factory.mktemp("r") / "rollovers.json")
        room.put(pos=float(pos))
        given_shares = iter(shares)
        outs = []

        def fills(command: SubmitOrder) -> float:
            part = record.strategies[0]
            outs.append(part.to_open)
            return float(int(next(given_shares, 1.0) * command.volume))

        room.engine.fills = fills
        room.rollovers._doors = room.rollovers._doors._replace(reprice_s=0.0001)
        await room.rollovers.open()
        record = await room.rollovers.start(request(max_volume=float(max_volume)), by="t")
        await room.end(record.id)
        assert record.state is RolloverState.DONE
        assert room.engine.held["demo"] == {OLD: 0.0, NEW: float(pos)}
        assert room.strategies.strategy("demo").pos == pos
        assert max(outs) <= max_volume
        await room.rollovers.close()

    asyncio.run(run())


# What keeps it


async def test_after_the_time_what_is_left_is_cancelled_and_nothing_more_is_sent(room):
    room.put(pos=5.0)
    room.put("other", 1.0)
    sent = iter([2.0])

    def fills(command: SubmitOrder) -> float:
        room.clock.advance(31.0)
        return next(sent, 0.0)

    room.engine.fills = fills
    ended = await room.roll(timeout_s=30.0, strategies=("demo",))
    assert ended.state is RolloverState.INCOMPLETE
    (part,) = ended.strategies
    assert (part.closed, part.opened, part.moved) == (2.0, 0.0, False)
    assert "30 s are over" in part.problem
    assert not room.engine.view.active_orders
    assert room.strategies.strategy("demo").vt_symbol == OLD


async def test_the_next_rollover_goes_on_where_an_unfinished_one_ended(room):
    room.put(pos=5.0)
    sent = iter([3.0, 2.0])

    def fills(command: SubmitOrder) -> float:
        volume = next(sent)
        if command.offset is Offset.OPEN:
            room.clock.advance(31.0)
        return volume

    room.engine.fills = fills
    await room.roll()
    assert room.engine.held["demo"] == {OLD: 2.0, NEW: 2.0}
    room.engine.fills = lambda command: command.volume
    room.engine.commands.clear()
    (part,) = room.plan().strategies
    assert (part.pos, part.old, part.new, part.lacking) == (4.0, 2.0, 2.0, 1.0)
    assert [(o.offset, o.volume) for o in part.orders] == [(Offset.CLOSE, 2.0), (Offset.OPEN, 3.0)]
    assert (await room.roll()).state is RolloverState.DONE
    assert room.engine.held["demo"] == {OLD: 0.0, NEW: 5.0}
    assert [(c.offset, c.volume) for c in room.engine.commands] == [
        (Offset.OPEN, 1.0),
        (Offset.CLOSE, 2.0),
        (Offset.OPEN, 2.0),
    ]


async def unfinished(room, **fields):
    """Two of five lots are closed and opened, and the time is up."""
    room.put(pos=5.0, **fields)

    def fills(command: SubmitOrder) -> float:
        if command.offset is Offset.OPEN:
            room.clock.advance(31.0)
        return 2.0

    room.engine.fills = fills
    ended = await room.roll()
    room.engine.fills = lambda command: command.volume
    return ended


async def test_what_it_left_is_known_through_a_next_one_that_fails(room):
    await unfinished(room)
    room.engine.next_errors = [TradingHalted("halted")]
    assert (await room.roll()).state is RolloverState.FAILED
    (part,) = room.plan().strategies
    assert (part.old, part.new) == (3.0, 2.0)
    assert (await room.roll()).state is RolloverState.DONE
    assert room.engine.held["demo"] == {OLD: 0.0, NEW: 5.0}


async def test_what_it_left_is_no_guess_where_pos_was_changed_since(room):
    await unfinished(room)
    room.put(pos=9.0)
    assert "it is 9 now" not in str(room.plan().problems)
    (problem,) = room.plan().problems
    assert "which is 9 now" in problem
    with pytest.raises(Conflict, match="ignore_unfinished"):
        await room.roll()
    (part,) = room.plan(ignore_unfinished=True).strategies
    assert (part.old, part.new) == (9.0, 0.0)


async def test_another_contract_waits_until_the_first_is_finished(room):
    await unfinished(room)
    room.engine.add_contract("rb2710.SHFE")
    room.engine.show("rb2710.SHFE", 3600.0)
    (problem,) = room.rollovers.plan(request(to_vt_symbol="rb2710.SHFE")).problems
    assert "left demo with 2 lots in rb2705.SHFE" in problem


async def test_where_only_the_move_failed_the_next_one_only_moves(room):
    room.put(pos=5.0)
    room.strategies.errors["move", "demo"] = Conflict("it waits for orders")
    ended = await room.roll()
    assert (ended.state, ended.strategies[0].problem) == (RolloverState.INCOMPLETE, "it waits for orders")
    room.strategies.errors.clear()
    room.engine.commands.clear()
    assert (await room.roll()).state is RolloverState.DONE
    assert room.engine.commands == []


async def test_orders_that_the_venue_rejects_are_tried_again_and_the_reason_is_told(room):
    room.put(pos=5.0)
    tries = count(1)

    def fills(command: SubmitOrder) -> float:
        if next(tries) == 3:
            room.clock.advance(31.0)
        return 0.0

    room.engine.fills = fills
    room.engine.status_of = lambda command: Status.REJECTED
    ended = await room.roll()
    assert ended.state is RolloverState.FAILED
    assert len(room.engine.commands) == 3
    assert "rejected PAPER.3" in ended.strategies[0].problem


@pytest.mark.parametrize("error", [RiskDenied("too many"), GatewayRefused("not enough to close"), StorageFull("full")])
async def test_a_refused_order_is_tried_again(room, error):
    room.put(pos=5.0)
    room.engine.next_errors = [error, None, error]
    ended = await room.roll()
    assert (ended.state, ended.strategies[0].problem) == (RolloverState.DONE, None)
    assert room.engine.held["demo"] == {OLD: 0.0, NEW: 5.0}


async def test_a_halt_ends_it_at_once(room):
    room.put(pos=5.0)
    halt = Halt(scope=HaltScope.ALL, active=True, reason="", by="t", at=room.clock.now())

    def fills(command: SubmitOrder) -> float:
        room.engine._halts["all"] = halt
        return 2.0

    room.engine.fills = fills
    ended = await room.roll()
    assert ended.state is RolloverState.INCOMPLETE
    assert "halted" in ended.strategies[0].problem
    assert len(room.engine.commands) == 1


async def test_an_order_of_which_nobody_knows_is_not_sent_again(room):
    room.put(pos=5.0)
    room.engine.next_errors = [OutcomeUnknown("no answer")]
    ended = await room.roll()
    assert ended.state is RolloverState.FAILED
    assert "nobody knows whether all of order ro-r001-0-c1 was sent" in ended.strategies[0].problem
    assert room.engine.commands == []


async def test_an_order_whose_answer_was_lost_counts_once_it_is_found(room):
    room.put(pos=5.0)
    submit = room.engine.submit_order

    async def lose(command):
        room.engine.submit_order = submit
        await submit(command)
        raise OutcomeUnknown("no answer")

    room.engine.submit_order = lose
    assert (await room.roll()).state is RolloverState.DONE
    assert room.engine.held["demo"] == {OLD: 0.0, NEW: 5.0}


async def test_a_part_of_an_order_whose_word_is_late_is_waited_for_and_not_sent_again(room):
    room.put(pos=5.0)
    room.rollovers._doors = room.rollovers._doors._replace(reprice_s=1.0)
    submit, loop, late = room.engine.submit_order, asyncio.get_running_loop(), []

    async def split(command):
        """Today's lots and yesterday's; the venue's word of the second order is late."""
        room.engine.submit_order = submit
        second = msgspec.structs.replace(command, client_order_id=f"{command.client_order_id}.2", volume=3.0)
        room.engine.add_intent(command, IntentState.BOUND, volume=2.0)
        room.engine.add_intent(second)
        await submit(msgspec.structs.replace(command, volume=2.0))
        loop.call_later(0.05, lambda: late.append(asyncio.create_task(submit(second))))
        raise OutcomeUnknown("the order was sent, but the engine has no word of it yet")

    room.engine.submit_order = split
    assert (await room.roll()).state is RolloverState.DONE
    assert room.engine.held["demo"] == {OLD: 0.0, NEW: 5.0}


async def test_what_is_known_of_an_order_counts_where_a_part_of_it_stays_unknown(room):
    room.put(pos=5.0)
    submit = room.engine.submit_order

    async def split(command):
        room.engine.add_intent(command, IntentState.BOUND, volume=2.0)
        room.engine.add_intent(msgspec.structs.replace(command, client_order_id=f"{command.client_order_id}.2"))
        await submit(msgspec.structs.replace(command, volume=2.0))
        raise OutcomeUnknown("the gateway failed while sending")

    room.engine.submit_order = split
    room.engine.fills = lambda command: 1.0
    ended = await room.roll()
    assert "nobody knows whether all of order ro-r001-0-c1 was sent" in ended.strategies[0].problem
    assert (ended.state, ended.strategies[0].closed) == (RolloverState.INCOMPLETE, 1.0)
    assert (len(room.engine.commands), len(room.engine.cancels)) == (1, 1)


async def test_an_order_that_was_not_sent_after_all_is_sent_again(room):
    room.put(pos=5.0)
    submit = room.engine.submit_order

    async def lose(command):
        room.engine.submit_order = submit
        room.engine.add_intent(command, IntentState.NOT_SENT)
        raise OutcomeUnknown("no answer")

    room.engine.submit_order = lose
    assert (await room.roll()).state is RolloverState.DONE
    assert room.engine.held["demo"] == {OLD: 0.0, NEW: 5.0}


async def test_a_strategy_is_moved_only_after_its_last_fill_came(room):
    room.put(pos=5.0)
    room.engine.fills_are_late = True
    room.rollovers._doors = room.rollovers._doors._replace(reprice_s=5.0)
    begun = await room.rollovers.start(request(), by="t")
    while len(room.engine.commands) < 1:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(room.engine.commands) == 1
    room.engine.fills_are_late = False
    room.engine.deliver()
    assert (await room.end(begun.id)).state is RolloverState.DONE


async def test_a_strategy_whose_fills_do_not_come_stays_where_it_is(room):
    room.put(pos=5.0)
    room.engine.fills_are_late = True
    ended = await room.roll()
    assert "fills of PAPER.1 did not come" in ended.strategies[0].problem
    assert (ended.state, ended.strategies[0].closed) == (RolloverState.INCOMPLETE, 5.0)
    assert len(room.engine.commands) == 1


async def test_an_order_that_cannot_be_cancelled_ends_it_and_is_named(room):
    room.put(pos=5.0)
    room.engine.fills = lambda command: 0.0
    room.engine.cancel_errors["PAPER.1"] = Conflict("the venue does not answer")
    ended = await room.roll()
    assert "PAPER.1 does not end, and may still trade" in ended.strategies[0].problem
    assert len(room.engine.commands) == 1


async def test_one_strategys_trouble_does_not_keep_the_others(room):
    room.put("a", 1.0)
    room.put("b", 1.0)
    room.strategies.errors["move", "a"] = Conflict("not today")
    ended = await room.roll()
    assert [(part.strategy_name, part.moved) for part in ended.strategies] == [("a", False), ("b", True)]
    assert ended.state is RolloverState.INCOMPLETE


async def test_a_strategy_that_is_started_meanwhile_is_left_alone(room):
    room.put(pos=5.0)

    def fills(command: SubmitOrder) -> float:
        room.strategies._keep(room.strategies.strategy("demo"), StrategyState.RUNNING)
        return 2.0

    room.engine.fills = fills
    ended = await room.roll()
    assert "demo is RUNNING" in ended.strategies[0].problem
    assert len(room.engine.commands) == 1


# A strategy that starts of the service start


async def test_a_start_of_the_service_does_not_start_it_while_its_lots_are_in_two_contracts(room):
    room.put(auto_start=True)
    seen = []

    def fills(command: SubmitOrder) -> float:
        seen.append(room.strategies.strategy("demo").auto_start)
        return command.volume

    room.engine.fills = fills
    await room.roll()
    assert seen == [False, False]
    assert room.strategies.strategy("demo").auto_start


async def test_after_an_unfinished_one_only_the_next_lets_it_start_again(room):
    await unfinished(room, auto_start=True)
    assert not room.strategies.strategy("demo").auto_start
    await room.roll()
    assert room.strategies.strategy("demo").auto_start
    await room.roll(from_vt_symbol=NEW, to_vt_symbol=OLD)
    assert room.strategies.strategy("demo").auto_start


async def test_one_that_traded_nothing_leaves_it_as_it_was(room):
    room.put(auto_start=True)
    room.engine.next_errors = [TradingHalted("halted")]
    assert (await room.roll()).state is RolloverState.FAILED
    assert room.strategies.strategy("demo").auto_start


async def test_one_that_was_not_started_by_itself_is_not_afterwards(room):
    room.put()
    await room.roll()
    assert not room.strategies.strategy("demo").auto_start
    assert "set_auto_start" not in {what for what, *_ in room.strategies.asked}


# Whether it may begin


async def refused(room, **fields):
    """The one problem, which starting gives too."""
    (problem,) = room.plan(**fields).problems
    with pytest.raises(Conflict, match=r".") as error:
        await room.rollovers.start(request(**fields), by="t")
    assert error.value.detail == problem
    assert room.engine.commands == []
    assert room.rollovers.rollovers() == []
    return problem


@pytest.mark.parametrize("state", [StrategyState.RUNNING, StrategyState.INITIALISING])
async def test_a_strategy_must_not_trade(room, state):
    room.put(state=state)
    assert f"demo is {state}" in await refused(room)


async def test_a_strategys_orders_must_have_ended(room):
    room.put()
    command = SubmitOrder(
        client_order_id="c", gateway_name="PAPER", symbol="rb2701", exchange="SHFE", direction=Direction.LONG,
        offset=Offset.OPEN, type=OrderType.LIMIT, volume=1.0, price=1.0,
    )  # fmt: skip
    room.engine.add_order(command, strategy_name="demo")
    assert "active orders" in await refused(room)


async def test_a_strategys_stop_orders_must_be_gone(room):
    room.put()
    room.strategies.put_stop(1)
    assert "stop orders" in await refused(room)


async def test_a_pos_that_was_not_restored_yet_is_not_believed(room):
    room.put(state=StrategyState.CREATED, pos=0.0, attributed_pos=5.0)
    assert "initialise it first" in await refused(room)


async def test_a_strategy_that_was_never_initialised_may_be_rolled_where_its_pos_is_known(room):
    room.put(state=StrategyState.CREATED)
    assert (await room.roll()).state is RolloverState.DONE


async def test_the_gateway_must_be_reconciled(room):
    room.put()
    room.engine.add_reconciliation(state=ReconciliationState.DIFFERENT)
    assert "not reconciled" in await refused(room)


async def test_the_gateway_must_be_connected(room):
    room.put()
    await room.engine.disconnect("PAPER")
    assert "not connected" in await refused(room)


async def test_trading_must_not_be_halted(room):
    room.put()
    await room.engine.halt(Halt(scope=HaltScope.ALL, active=True, at=room.clock.now()), cancel=False)
    assert "halted" in await refused(room)


async def test_without_a_tick_there_is_no_price(room):
    room.put()
    room.engine.add_contract("rb2710.SHFE")
    assert "rb2710.SHFE has no price" in await refused(room, to_vt_symbol="rb2710.SHFE")


async def test_without_strategies_there_is_nothing_to_do(room):
    assert "no strategy trades" in await refused(room)


async def test_a_volume_that_the_new_contract_does_not_trade_is_refused(room):
    room.put(pos=5.0)
    room.engine.add_contract(NEW, min_volume=2.0)
    assert "no multiple" in await refused(room)


async def test_orders_without_end_are_refused(room):
    room.put(pos=1e7)
    assert "100000 orders" in await refused(room)


async def test_a_strategy_is_in_one_rollover_at_a_time(room):
    room.put()
    begun = await room.rollovers.start(request(), by="t")
    assert "being rolled by r001" in str(room.plan().problems)
    with pytest.raises(Conflict, match="being rolled"):
        await room.rollovers.start(request(), by="t")
    await room.end(begun.id)
    assert len(room.rollovers.rollovers()) == 1


async def test_what_is_not_there_is_said(room):
    room.put()
    with pytest.raises(NotFound, match=r"rb9999\.SHFE"):
        room.plan(to_vt_symbol="rb9999.SHFE")
    with pytest.raises(NotFound, match="nobody"):
        room.plan(strategies=("nobody",))
    with pytest.raises(NotFound, match="does not offer both"):
        room.plan(gateway_name="CTP")
    with pytest.raises(ValidationFailed):
        room.plan(to_vt_symbol=OLD)
    with pytest.raises(ValidationFailed, match=r"demo trades rb2701\.SHFE"):
        room.plan(strategies=("demo",), from_vt_symbol=NEW, to_vt_symbol=OLD)
    room.engine.add_gateway("CTP")
    for vt_symbol in (OLD, NEW):
        room.engine.add_contract(vt_symbol, "CTP")
    with pytest.raises(ValidationFailed, match="CTP, PAPER offer both"):
        room.plan()
    assert room.plan(gateway_name="PAPER").problems == []


async def test_nothing_is_sent_where_it_cannot_be_kept_or_put_on_record(room):
    room.put()
    room.engine.journal_error = StorageFull("full")
    with pytest.raises(StorageFull):
        await room.rollovers.start(request(), by="t")
    assert (room.engine.commands, room.rollovers.rollovers()) == ([], [])
    room.engine.journal_error = None
    room.rollovers._file = room.file.parent / "file" / "rollovers.json"
    (room.file.parent / "file").write_text("in the way")
    with pytest.raises(Conflict, match="cannot be written"):
        await room.rollovers.start(request(), by="t")
    assert (room.engine.commands, room.rollovers.rollovers()) == ([], [])


# What to look at


async def test_warnings_say_what_differs(room):
    room.put(pos=5.0)
    room.engine.add_contract(NEW, size=20.0, pricetick=2.0)
    room.engine.add_position(OLD)  # 3 LONG
    room.engine.add_position(OLD, Direction.SHORT)
    warnings = room.plan().warnings
    assert warnings == [
        "size is 10 in rb2701.SHFE and 20 in rb2705.SHFE",
        "pricetick is 1 in rb2701.SHFE and 2 in rb2705.SHFE",
        "the account holds 3 LONG of rb2701.SHFE, these strategies 5: so much cannot be closed",
        "the account holds 3 SHORT of rb2701.SHFE, these strategies 0: the rest stays there",
    ]


async def test_old_ticks_are_warned_of(room):
    room.put(pos=0.0)
    room.clock.advance(3600 * 35)  # the fake engine's ticks are of noon the day after
    assert [warning.split(" s old")[0] for warning in room.plan().warnings] == [
        "the last tick of rb2701.SHFE is 3600",
        "the last tick of rb2705.SHFE is 3600",
    ]


# What is kept


async def test_begin_and_end_are_on_record(room):
    room.put()
    await room.roll()
    async with asyncio.timeout(5):
        while len(room.engine.audits) < 2:
            await asyncio.sleep(0.001)
    begun, ended = room.engine.audits
    assert (begun.who, begun.what, begun.target) == ("t", "strategies.rollover", "r001")
    assert begun.after["strategies"][0]["old"] == 5.0
    assert (ended.what, ended.after["state"]) == ("strategies.rollover_ended", "DONE")


async def test_the_newest_hundred_are_kept(room):
    room.put(pos=0.0)
    for number in range(KEPT + 5):
        ends = (OLD, NEW) if number % 2 == 0 else (NEW, OLD)
        await room.roll(from_vt_symbol=ends[0], to_vt_symbol=ends[1])
    assert len(room.rollovers.rollovers()) == KEPT
    assert room.rollovers.rollovers()[0].id == f"r{KEPT + 5:03}"
    with pytest.raises(NotFound):
        room.rollovers.rollover("r001")


async def test_an_unfinished_one_is_kept_however_many_came_after_it(room):
    await unfinished(room)
    room.put("other", 0.0)
    for number in range(KEPT + 5):
        ends = (OLD, NEW) if number % 2 == 0 else (NEW, OLD)
        await room.roll(from_vt_symbol=ends[0], to_vt_symbol=ends[1], strategies=("other",))
    (part,) = room.plan(strategies=("demo",)).strategies
    assert (part.old, part.new) == (3.0, 2.0)
    assert (await room.roll(strategies=("demo",))).state is RolloverState.DONE
    assert room.engine.held["demo"] == {OLD: 0.0, NEW: 5.0}


async def closed_only(room):
    """A rollover that closed 5 lots and opened none of them."""
    room.put(pos=5.0)

    def fills(command: SubmitOrder) -> float:
        if command.offset is Offset.CLOSE:
            return command.volume
        room.clock.advance(31.0)
        return 0.0

    room.engine.fills = fills
    (part,) = (await room.roll()).strategies
    assert (part.closed, part.opened) == (5.0, 0.0)
    room.engine.fills = lambda command: command.volume
    room.engine.commands.clear()


async def restart(room):
    async with asyncio.timeout(5):
        while not any(mark in room.file.read_bytes() for mark in (b'"forgotten":true', b'"traded_since":true')):
            await asyncio.sleep(0.001)
    await room.rollovers.close()
    room.rollovers = room.made()
    await room.rollovers.open()


async def test_a_new_strategy_of_the_name_is_not_given_the_lots_of_the_former_one(room):
    await closed_only(room)
    await room.strategies.remove("demo", by="t")
    room.rollovers.forget("demo")
    room.put(pos=0.0)
    await restart(room)
    assert (await room.roll()).state is RolloverState.DONE
    assert room.engine.commands == []


async def test_a_strategy_that_has_traded_since_is_for_a_person_to_put_right(room):
    await closed_only(room)
    for direction in (Direction.LONG, Direction.SHORT):
        command = SubmitOrder(
            client_order_id=f"its own {direction}", gateway_name="PAPER", symbol="rb2701", exchange="SHFE",
            direction=direction, offset=Offset.OPEN, type=OrderType.LIMIT, volume=1.0, price=3500.0,
            reference="CtaStrategy_demo",
        )  # fmt: skip
        await room.engine.submit_order(command)
    assert room.strategies.strategy("demo").pos == 0.0
    await restart(room)
    (problem,) = room.plan().problems
    assert "it traded since" in problem
    assert room.plan(ignore_unfinished=True).problems == []


async def test_a_restart_knows_what_an_unfinished_rollover_left(room):
    await unfinished(room)
    await room.rollovers.close()
    room.rollovers = room.made()
    await room.rollovers.open()
    (part,) = room.plan().strategies
    assert (part.old, part.new) == (3.0, 2.0)
    assert (await room.roll()).state is RolloverState.DONE
    assert room.engine.held["demo"] == {OLD: 0.0, NEW: 5.0}


async def test_the_services_end_cancels_what_is_active(room):
    room.put(pos=5.0)
    room.rollovers._doors = room.rollovers._doors._replace(reprice_s=1.0)
    room.engine.fills = lambda command: 1.0
    begun = await room.rollovers.start(request(), by="t")
    while not room.engine.commands:
        await asyncio.sleep(0)
    await room.rollovers.close()
    ended = room.rollovers.rollover(begun.id)
    assert ended.state is RolloverState.INCOMPLETE
    assert "the service stops" in ended.strategies[0].problem
    assert not room.engine.view.active_orders
    assert ended.strategies[0].closed == 1.0


async def test_a_crash_is_brought_to_rest_by_the_next_start(room):
    room.put(pos=5.0, auto_start=True)
    fills = iter([2.0, 1.0])
    room.engine.fills = lambda command: next(fills, 0.0)
    room.rollovers._doors = room.rollovers._doors._replace(reprice_s=60.0)
    await room.rollovers.start(request(), by="t")
    while not room.engine.commands:
        await asyncio.sleep(0.001)
    await room.rollovers._tasks.cancel()  # the process is gone; its order is not
    room.engine.add_reconciliation(state=ReconciliationState.RUNNING)
    assert len(room.engine.view.active_orders) == 1
    room.rollovers = room.made()
    await room.rollovers.open()
    assert room.rollovers.rollover("r001").state is RolloverState.RUNNING
    assert "being rolled" in str(room.plan().problems)
    assert room.engine.cancels == []  # not before the venue has shown what it has
    room.engine.add_reconciliation(state=ReconciliationState.RECONCILED)
    ended = await room.end("r001")
    (part,) = ended.strategies
    assert (ended.state, part.closed, part.opened) == (RolloverState.INCOMPLETE, 2.0, 0.0)
    assert part.problem == "the service ended meanwhile"
    assert not room.engine.view.active_orders
    assert not room.strategies.strategy("demo").auto_start
    room.engine.fills = lambda command: command.volume
    assert (await room.roll()).state is RolloverState.DONE
    assert room.engine.held["demo"] == {OLD: 0.0, NEW: 5.0}
    assert room.strategies.strategy("demo").auto_start


async def test_a_strategy_that_was_moved_before_a_crash_is_known_to_be(room):
    room.put("a", 5.0, auto_start=True)
    room.put("b", 5.0)
    room.rollovers._doors = room.rollovers._doors._replace(reprice_s=60.0)
    room.engine.fills = lambda command: command.volume if command.reference.endswith("_a") else 0.0
    move, moved = room.strategies.move, asyncio.Event()

    async def move_and_die(name, vt_symbol, *, by):
        await move(name, vt_symbol, by=by)
        moved.set()
        await asyncio.Event().wait()

    room.strategies.move = move_and_die
    await room.rollovers.start(request(), by="t")
    await moved.wait()
    await room.rollovers._tasks.cancel()
    await room.strategies.set_auto_start("a", False, by="t")  # what was not given back
    room.rollovers = room.made()
    await room.rollovers.open()
    ended = await room.end("r001")
    assert [(part.strategy_name, part.moved, part.problem) for part in ended.strategies] == [
        ("a", True, None),
        ("b", False, "the service ended meanwhile"),
    ]
    assert room.strategies.strategy("a").auto_start
    assert room.plan(strategies=("a",), from_vt_symbol=NEW, to_vt_symbol=OLD).problems == []


async def test_a_crash_whose_gateway_does_not_come_back_is_still_open_at_the_next_end(room):
    room.put(pos=5.0)
    room.rollovers._doors = room.rollovers._doors._replace(reprice_s=60.0)
    room.engine.fills = lambda command: 2.0
    await room.rollovers.start(request(), by="t")
    await room.rollovers._tasks.cancel()
    room.engine.add_reconciliation(state=ReconciliationState.PENDING)
    for _ in range(2):
        room.rollovers = room.made()
        await room.rollovers.open()
        assert room.rollovers.rollover("r001").state is RolloverState.RUNNING
        await room.rollovers.close()


async def test_a_broken_file_is_put_aside(room):
    await room.rollovers.close()
    room.file.write_bytes(b"[{")
    room.rollovers = room.made()
    await room.rollovers.open()
    assert room.rollovers.rollovers() == []
    assert room.file.with_name("rollovers.json.broken").read_bytes() == b"[{"
