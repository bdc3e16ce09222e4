"""What a strategy is and holds outlives kills, desktop sessions and broken files; each fill is in its `pos` once."""

from __future__ import annotations

import json
import os
import random
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from testkit.clock import FakeClock
from vnpy_core.bus import records
from vnpy_core.domain import enums
from vnpy_core.domain.books import Books
from vnpy_core.domain.errors import ConfigurationError, JournalFailed
from vnpy_core.domain.events import StopOrderUpdate, StrategyData, StrategySetting, Trade
from vnpy_core.engine.apps.cta_files import DATA, SETTING

AT = FakeClock().now()


class JournalOfDicts:
    """A journal that is durable at once: the books as a start finds them, and every row."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, Any]] = []
        self.books = Books()
        self.seq = 0

    def record(self, kind: str, key: str, event: Any) -> Future[int]:
        self.seq += 1
        again = records.decode(kind, records.encode(event))  # what cannot be journaled fails here
        assert key == again.strategy_name
        self.books.apply(key, again, self.seq, 0)
        self.rows.append((kind, again))
        durable: Future[int] = Future()
        durable.set_result(self.seq)
        return durable

    def settings(self) -> dict[str, StrategySetting]:
        return {name: kept.event for name, kept in self.books.strategy_settings.items()}  # type: ignore[misc]

    def data(self) -> dict[str, StrategyData]:
        return {name: kept.event for name, kept in self.books.strategy_data.items()}  # type: ignore[misc]


class Trader:
    """CtaEngine with our memory, started on a folder and a journal as a service starts it."""

    def __init__(self, main_engine: Any, journal: JournalOfDicts, trades: list[Trade], *, attached: bool) -> None:
        from vnpy_ctastrategy.engine import CtaEngine

        from vnpy_core.engine.apps.cta_memory import CtaMemory

        self.journal = journal
        self.engine = CtaEngine(main_engine, main_engine.event_engine)
        self.engine.classes = {"CountingStrategy": _counting_strategy()}
        self.engine.load_strategy_class = lambda: None
        self.memory = CtaMemory(self.engine, journal.record, FakeClock())
        self.has_ended = False
        if attached:
            self.engine.init_engine()
        self.memory.install()
        self.resolved = None
        if not attached:
            self.resolved = self.memory.resolve(journal.settings(), journal.data())
            self.engine.init_engine()
        self.memory.restore([], trades, [], 0)

    def add(self, name: str, **setting: Any) -> None:
        self.engine.add_strategy("CountingStrategy", name, "rb2701.SHFE", setting)

    def init(self, name: str) -> Any:
        """As the service does it: what was saved is given back in one go."""
        strategy = self.engine.strategies[name]
        for variable in strategy.variables:
            if (value := self.engine.strategy_data.get(name, {}).get(variable)) is not None:
                setattr(strategy, variable, value)
        strategy.inited = True
        return strategy

    def fill(self, name: str, volume: float, *, counted: bool = True) -> Trade:
        """A fill of a strategy's order, journaled, and counted unless the process ends before."""
        from vnpy.event import Event
        from vnpy.trader.constant import Direction, Exchange
        from vnpy.trader.event import EVENT_TRADE
        from vnpy.trader.object import TradeData

        from vnpy_core.engine.sequencer import Staged

        self.journal.seq += 1
        trade = a_trade(name, volume, self.journal.seq)
        self.memory.attribute("P.1", name)
        if counted:
            event = Event(
                EVENT_TRADE,
                TradeData("P", "rb2701", Exchange.SHFE, "1", str(trade.seq), volume=abs(volume), price=3500.0,
                          direction=Direction.LONG if volume > 0 else Direction.SHORT),
            )  # fmt: skip
            event.staged = Staged(trade)
            self.memory.before_trade(event)
            self.engine.process_trade_event(event)
        return trade

    def kill(self) -> None:
        """The files stay as they are."""
        self.memory._files._contents = dict
        self.end()

    def end(self) -> None:
        if not self.has_ended:
            self.memory.uninstall()
            self.has_ended = True

    def saved(self, name: str) -> dict[str, Any]:
        """What a start would give back."""
        return {k: v for k, v in self.engine.strategy_data[name].items() if k != "vnpy_core_counted_seq"}


def _counting_strategy() -> type:
    from strategies.counting_strategy import CountingStrategy  # type: ignore[import-not-found]

    found: type = CountingStrategy
    return found


def a_trade(name: str, volume: float, seq: int) -> Trade:
    return Trade(
        vt_tradeid=f"P.{seq}", vt_orderid="P.1", tradeid=str(seq), orderid="1", symbol="rb2701", exchange="SHFE",
        vt_symbol="rb2701.SHFE", gateway_name="P", price=3500.0, volume=abs(volume), offset=enums.Offset.OPEN,
        direction=enums.Direction.LONG if volume > 0 else enums.Direction.SHORT, strategy_name=name, seq=seq,
    )  # fmt: skip


@pytest.fixture(scope="module")
def main_engine(vnpy_home) -> Iterator[Any]:
    from vnpy.event import EventEngine
    from vnpy.trader.engine import MainEngine

    engine = MainEngine(EventEngine())
    yield engine
    engine.close()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    from vnpy.trader import utility

    monkeypatch.setattr(utility, "TEMP_DIR", tmp_path)
    return tmp_path


@pytest.fixture
def journal() -> JournalOfDicts:
    return JournalOfDicts()


@pytest.fixture
def trader(folder, journal, main_engine) -> Iterator[Callable[..., Trader]]:
    """Starts one after the other; each ends with the test."""
    started: list[Trader] = []

    def start(*trades: Trade, attached: bool = False, journal: JournalOfDicts = journal) -> Trader:
        started.append(Trader(main_engine, journal, list(trades), attached=attached))
        return started[-1]

    yield start
    for one in started:
        one.end()


def read(folder: Path, file: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / file).read_text())
    return content


def change(folder: Path, file: str, edit: Callable[[dict[str, Any]], object]) -> None:
    """As a person does, or a desktop VnPy."""
    content = read(folder, file)
    edit(content)
    (folder / file).write_text(json.dumps(content))


# --- fills ---


def test_a_fill_is_saved_with_its_pos_its_sum_and_its_number_in_one_row(trader, journal):
    one = trader()
    one.add("s")
    one.init("s")
    first, second = one.fill("s", 3), one.fill("s", -1)
    saved = [event for kind, event in journal.rows if kind == records.STRATEGY_DATA][-2:]
    assert [(d.variables["pos"], d.variables["fills"], d.attributed_pos, d.counted_seq) for d in saved] == [
        (3, 1, 3, first.seq),
        (2, 2, 2, second.seq),
    ]
    assert one.memory.attributed("s") == 2


def test_a_fill_that_was_journaled_but_not_counted_is_counted_at_the_next_start_and_only_once(trader, journal):
    one = trader()
    one.add("s")
    one.init("s")
    counted, lost = one.fill("s", 3), one.fill("s", 2, counted=False)
    one.kill()
    for _ in range(2):
        again = trader(counted, lost)
        assert again.saved("s")["pos"] == again.memory.attributed("s") == 5
        assert again.init("s").pos == 5
        again.kill()


def test_a_fill_before_the_init_is_added_to_what_is_saved(trader):
    one = trader()
    one.add("s")
    one.init("s")
    fills = [one.fill("s", 3)]
    one.end()
    again = trader(*fills)
    fills.append(again.fill("s", 1))
    assert again.saved("s") == {"pos": 4, "fills": 1, "seen": [1]}
    again.kill()
    assert trader(*fills).saved("s") == {"pos": 4, "fills": 1, "seen": [1]}


def test_a_fill_that_comes_twice_counts_once(trader):
    one = trader()
    one.add("s")
    strategy = one.init("s")
    from vnpy.event import Event
    from vnpy.trader.constant import Direction, Exchange
    from vnpy.trader.object import TradeData

    from vnpy_core.engine.sequencer import Staged

    one.fill("s", 3)
    repeated = Event(
        "eTrade.", TradeData("P", "rb2701", Exchange.SHFE, "1", str(one.journal.seq), Direction.LONG, volume=3)
    )
    repeated.staged = Staged(None)  # the stage knew it
    one.memory.before_trade(repeated)
    one.engine.process_trade_event(repeated)
    assert strategy.pos == one.memory.attributed("s") == 3


def test_what_has_not_changed_is_not_journaled_again(trader, journal):
    one = trader()
    one.add("s")
    strategy = one.init("s")
    one.fill("s", 3)
    before = len(journal.rows)
    for _ in range(100):
        one.engine.sync_strategy_data(strategy)
    assert len(journal.rows) == before


def test_a_variable_that_is_not_there_or_that_json_cannot_hold_does_not_keep_the_others_from_being_saved(
    trader, journal
):
    one = trader()
    one.add("s")
    strategy = one.init("s")
    strategy.variables += ["nowhere", "odd"]
    strategy.odd = object()
    one.engine.put_strategy_event = lambda strategy: None
    with capture_logs() as lines:
        one.fill("s", 3)
        one.fill("s", 1)
    assert journal.data()["s"].variables == {"pos": 4, "fills": 2, "seen": [1, 2]}
    assert [line["variable"] for line in lines if line["log_level"] == "error"] == ["odd"]


# --- strategies ---


def test_a_strategy_of_a_name_that_another_one_had_begins_anew(trader, journal):
    one = trader()
    one.add("s")
    one.init("s")
    fills = [one.fill("s", 3)]
    one.engine.remove_strategy("s")
    assert journal.settings()["s"].removed
    assert one.memory.setting("s") is None
    late = one.fill("s", 7, counted=False)  # of an order that the former one left behind
    one.memory._counted = late.seq  # CtaEngine got it, as nobody's
    one.add("s")
    one.kill()
    again = trader(*fills, late)
    assert again.memory.attributed("s") == 0
    assert again.init("s").pos == 0


def test_a_removed_strategy_stays_removed_and_its_stop_orders_end(trader, journal, folder):
    one = trader()
    one.add("s")
    one.engine.remove_strategy("s")
    one.kill()
    assert "s" in read(folder, SETTING) or read(folder, SETTING) == {}  # whatever was written by then
    again = trader()
    assert again.resolved.removed == {"s"}
    assert again.resolved.settings == {}
    assert "s" not in again.engine.strategies
    seen: list[Any] = []
    again.engine.put_stop_order_event = lambda stop: seen.append((stop.stop_orderid, stop.status.name))
    stop = StopOrderUpdate(
        stop_orderid="STOP.7", vt_symbol="rb2701.SHFE", direction=enums.Direction.LONG, offset=enums.Offset.OPEN,
        price=1, volume=1, strategy_name="s", status="WAITING", vt_orderids=[],
    )  # fmt: skip
    again.memory.restore([], [], [stop], 7)
    assert seen == [("STOP.7", "CANCELLED")]


def test_moving_keeps_everything_but_the_contract(trader, journal):
    one = trader()
    one.add("s", step=5)
    one.init("s")
    fill = one.fill("s", 3)
    one.engine.strategies["s"].vt_symbol = "rb2705.SHFE"
    one.engine.update_strategy_setting("s", {"step": 5})
    one.kill()
    again = trader(fill)
    kept = again.memory.setting("s")
    assert (kept.vt_symbol, kept.setting, kept.by) == ("rb2705.SHFE", {"step": 5}, "engine")
    assert again.engine.strategies["s"].vt_symbol == "rb2705.SHFE"
    assert again.init("s").pos == 3


def test_what_an_edit_changed_is_journaled_and_an_edit_that_changes_nothing_is_not(trader, journal):
    one = trader()
    one.add("s", step=5)
    before = len(journal.rows)
    one.engine.edit_strategy("s", {"step": 5})
    assert len(journal.rows) == before
    one.engine.edit_strategy("s", {"step": 6})
    assert journal.settings()["s"].setting == {"step": 6}


def test_a_list_that_a_strategy_changes_in_place_is_not_changed_in_what_is_saved(trader, journal):
    one = trader()
    one.add("s")
    one.init("s")
    fill = one.fill("s", 1)
    one.end()
    again = trader(fill)
    again.init("s").seen.append("not saved")
    again.memory.flush()
    assert journal.data()["s"].variables["seen"] == [1]
    assert read(again.memory._files._folder, DATA)["s"]["seen"] == [1]


def test_a_set_comes_back_as_a_set_and_is_a_list_in_vnpys_file(trader, folder):
    one = trader()
    one.add("s")
    one.init("s").seen = {2, 1}
    one.engine.sync_strategy_data(one.engine.strategies["s"])
    one.end()
    assert read(folder, DATA)["s"]["seen"] == [1, 2]
    assert trader().init("s").seen == {1, 2}


# --- the files ---


def test_the_first_start_takes_over_the_files_of_an_existing_trader(trader, journal, folder):
    (folder / SETTING).write_text(json.dumps({"s": entry(step=5)}))
    (folder / DATA).write_text(json.dumps({"s": {"pos": 3, "fills": 9}}))
    one = trader(a_trade("s", 3, 1))  # VnPy has counted it: there is no mark
    kept = journal.settings()["s"]
    assert (kept.by, kept.configured, kept.auto_start, kept.setting) == ("file", True, False, {"step": 5})
    assert one.init("s").pos == one.memory.attributed("s") == 3
    assert journal.data()["s"].counted_seq == 1


def test_what_a_desktop_session_changed_wins_and_what_it_did_not_touch_is_the_journals(trader, journal, folder):
    one = trader()
    for name in ("a", "b", "gone"):
        one.add(name)
        one.init(name)
    fills = [one.fill("a", 1), one.fill("b", 1)]
    one.memory.flush()
    fills.append(one.fill("b", 4))
    one.kill()  # the files know nothing of the last one
    change(folder, SETTING, lambda file: (file.pop("gone"), file.update(new=entry(), a=entry(step=7))))
    change(folder, DATA, lambda file: file.update(a={"pos": 9, "fills": 2}))
    again = trader(*fills)
    assert sorted(again.resolved.settings) == ["a", "b", "new"]
    assert again.resolved.removed == {"gone"}
    assert again.init("a").pos == again.memory.attributed("a") == 9
    assert again.init("a").step == 7
    assert again.init("b").pos == 5
    assert {name: kept.by for name, kept in journal.settings().items()} == {
        "a": "file", "b": "engine", "gone": "file", "new": "file",
    }  # fmt: skip
    again.kill()
    assert trader(*fills).init("a").pos == 9  # once taken, it is ours


def test_what_somebody_set_back_to_what_it_was_before_wins_too(trader, folder):
    one = trader()
    one.add("s", step=1)
    one.init("s")
    fills = [one.fill("s", 1)]
    one.memory.flush()
    one.engine.edit_strategy("s", {"step": 2})
    fills.append(one.fill("s", 1))
    one.end()
    change(folder, SETTING, lambda file: file["s"]["setting"].update(step=1))
    change(folder, DATA, lambda file: file["s"].update(pos=1, vnpy_core_counted_seq=fills[-1].seq))
    again = trader(*fills)
    assert (again.init("s").step, again.init("s").pos) == (1, 1)


def test_a_strategy_that_was_added_just_before_a_kill_is_not_taken_for_removed(trader, folder):
    one = trader()
    one.add("old")
    one.memory.flush()
    one.memory._files._contents = dict  # the writer is too late for the next one
    one.add("new")
    one.kill()
    assert list(read(folder, SETTING)) == ["old"]
    assert sorted(trader().resolved.settings) == ["new", "old"]


@pytest.mark.parametrize("file", [SETTING, DATA])
@pytest.mark.parametrize("content", [None, b"", b'{"s": {"po'])
def test_a_file_that_is_missing_or_broken_is_healed_from_the_journal(trader, folder, file, content):
    one = trader()
    one.add("s", step=5)
    one.init("s")
    fill = one.fill("s", 3)
    one.end()
    whole = (folder / file).read_bytes()
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    again = trader(fill)
    assert again.init("s").pos == 3
    assert again.init("s").step == 5
    again.end()
    assert (folder / file).read_bytes() == whole
    assert [path.read_bytes() for path in folder.glob("*.broken")] == ([] if content is None else [content])


@pytest.mark.parametrize("file", [SETTING, DATA])
def test_a_broken_file_that_nothing_can_heal_is_refused_and_left(trader, folder, file):
    (folder / file).write_text("{")
    with pytest.raises(ConfigurationError, match=file):
        trader()
    assert (folder / file).read_text() == "{"


def test_one_entry_that_is_nonsense_does_not_keep_the_others_out(trader, folder):
    one = trader()
    one.add("s")
    one.end()
    change(folder, SETTING, lambda file: file.update(odd={"class_name": 7}))
    assert sorted(trader().resolved.settings) == ["s"]
    assert len(list(folder.glob("*.broken"))) == 1


def test_a_class_that_is_not_there_keeps_its_strategys_place_in_both_files(trader, folder):
    (folder / SETTING).write_text(json.dumps({"s": entry() | {"class_name": "NotThere"}}))
    (folder / DATA).write_text(json.dumps({"s": {"pos": 3}}))
    one = trader()
    one.add("other")
    one.end()
    assert sorted(read(folder, SETTING)) == ["other", "s"]
    assert read(folder, DATA)["s"] == {"pos": 3, "vnpy_core_counted_seq": 0}
    again = trader()
    assert again.resolved.settings["s"].class_name == "NotThere"
    assert again.memory.attributed("s") == 3


def test_nothing_is_called_ours_before_the_journal_has_it(folder, journal, trader):
    (folder / SETTING).write_text(json.dumps({"s": entry()}))

    class Failing(JournalOfDicts):
        def record(self, kind: str, key: str, event: Any) -> Future[int]:
            failed: Future[int] = Future()
            failed.set_exception(JournalFailed("no space"))
            return failed

    before = (folder / SETTING).read_bytes()
    with pytest.raises(JournalFailed):
        trader(journal=Failing())
    assert (folder / SETTING).read_bytes() == before
    assert trader().resolved.settings["s"].by == "file"


def test_the_mark_of_another_journal_does_not_swallow_fills(trader, journal, folder):
    (folder / SETTING).write_text(json.dumps({"s": entry()}))
    (folder / DATA).write_text(json.dumps({"s": {"pos": 3, "vnpy_core_counted_seq": 5000}}))
    one = trader()
    lost = one.fill("s", 2, counted=False)
    one.kill()
    assert trader(lost).saved("s")["pos"] == 5


def test_an_engine_that_we_attached_to_writes_its_files_itself_and_is_journaled(trader, journal, folder):
    (folder / SETTING).write_text(json.dumps({"s": entry()}))
    (folder / DATA).write_text(json.dumps({"s": {"pos": 3}}))
    one = trader(attached=True)
    one.init("s")
    one.fill("s", 2)
    one.add("t")
    assert read(folder, DATA)["s"]["pos"] == 5
    assert list(read(folder, SETTING)) == ["s", "t"]
    assert journal.data()["s"].attributed_pos == 5
    assert journal.settings()["t"].by == "engine"


def test_an_engine_that_reads_its_files_after_we_attached_loses_nothing(trader, folder):
    one = trader(attached=True)
    (folder / SETTING).write_text(json.dumps({"s": entry(), "lost": entry() | {"class_name": "NotThere"}}))
    (folder / DATA).write_text(json.dumps({"s": {"pos": 3}, "lost": {"pos": 4}}))
    one.engine.init_engine()
    assert {name: data["pos"] for name, data in read(folder, DATA).items()} == {"s": 3, "lost": 4}
    assert sorted(read(folder, SETTING)) == ["lost", "s"]


def entry(**setting: Any) -> dict[str, Any]:
    return {"class_name": "CountingStrategy", "vt_symbol": "rb2701.SHFE", "setting": setting}


# --- anything in any order ---


def test_lives_of_strategies_with_kills_desktop_sessions_and_edits_by_hand(trader, journal, folder):
    seed = os.environ.get("VNPYCORE_TEST_SEED") or secrets.token_hex(4)
    print(f"seed {seed}")
    life = Life(random.Random(seed), folder, trader)
    for _ in range(40):
        life.run()
        life.look()


class Life:
    """Runs of a service and what comes between them, beside what must be so."""

    def __init__(self, rng: random.Random, folder: Path, start: Callable[..., Trader]) -> None:
        self.random, self.folder, self.start = rng, folder, start
        self.fills: list[Trade] = []
        self.steps: dict[str, int] = {}
        self.pos: dict[str, float] = {}

    def run(self) -> None:
        one = self.start(*self.fills)
        for name in one.engine.strategies:
            one.init(name)
        for _ in range(self.random.randint(0, 8)):
            self.random.choice([self.add, self.edit, self.remove, self.trade, self.trade, self.flush])(one)
        if self.steps and self.random.random() < 0.5:
            name = self.random.choice(sorted(self.steps))
            self.fills.append(one.fill(name, 3, counted=False))
            self.pos[name] += 3
        if self.random.random() < 0.3:
            one.end()
        else:
            one.kill()
        self.meddle()

    def add(self, one: Trader) -> None:
        name = self.random.choice("abcdef")
        if name not in self.steps:
            self.steps[name], self.pos[name] = self.random.randint(1, 99), 0
            one.add(name, step=self.steps[name])
            one.init(name)

    def edit(self, one: Trader) -> None:
        if self.steps:
            name = self.random.choice(sorted(self.steps))
            self.steps[name] = self.random.randint(1, 99)
            one.engine.edit_strategy(name, {"step": self.steps[name]})

    def remove(self, one: Trader) -> None:
        if self.steps:
            name = self.random.choice(sorted(self.steps))
            one.engine.remove_strategy(name)
            del self.steps[name], self.pos[name]

    def trade(self, one: Trader) -> None:
        if self.steps:
            name = self.random.choice(sorted(self.steps))
            volume = self.random.choice([-2, -1, 1, 2])
            self.fills.append(one.fill(name, volume))
            self.pos[name] += volume

    def flush(self, one: Trader) -> None:
        one.memory.flush()

    def meddle(self) -> None:
        """A person, or a desktop VnPy; of each file what it said before the kill, which may be old."""
        chance = self.random.random()
        if chance < 0.2:
            self.set_by_hand()
        elif chance < 0.4:
            self.trade_on_a_desktop()
        elif chance < 0.5:
            for file in (SETTING, DATA):
                if self.random.random() < 0.5:
                    (self.folder / file).unlink()
                elif self.steps and self.random.random() < 0.5:
                    (self.folder / file).write_bytes((self.folder / file).read_bytes()[:-3] + b"?")

    def set_by_hand(self) -> None:
        file = read(self.folder, SETTING)
        may_add = "z" not in file and "z" not in self.steps
        for name in sorted(file.keys() & self.steps.keys())[:1]:
            self.steps[name] = file[name]["setting"]["step"] = self.random.randint(100, 199)
        for name in sorted(file.keys() & self.steps.keys())[1:2]:
            del file[name], self.steps[name], self.pos[name]
        if may_add:
            file["z"], self.steps["z"], self.pos["z"] = entry(step=1), 1, 0
        (self.folder / SETTING).write_text(json.dumps(file))

    def trade_on_a_desktop(self) -> None:
        """VnPy saves a strategy's variables without our mark."""
        file = read(self.folder, DATA)
        for name in sorted(file.keys() & self.steps.keys())[:1]:
            self.pos[name] = self.random.randint(200, 299)
            file[name] = {"pos": self.pos[name], "fills": 1}
        (self.folder / DATA).write_text(json.dumps(file, indent=4))

    def look(self) -> None:
        one = self.start(*self.fills)
        assert {name: one.init(name).step for name in one.engine.strategies} == self.steps
        assert {name: one.init(name).pos for name in one.engine.strategies} == self.pos
        assert {name: one.memory.attributed(name) for name in one.engine.strategies} == self.pos
        one.kill()
