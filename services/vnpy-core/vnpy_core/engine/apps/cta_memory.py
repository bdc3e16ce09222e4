"""What CtaEngine keeps in memory or in VnPy's files only, kept for ever: strategies, variables, and whose is what.

CtaEngine adds each fill of a strategy's order to its `pos` and saves that. Without the map from order to strategy a
restart loses fills; with it, and without a mark of what was counted, it would count them twice. So each save is a row
of the journal: variables, the sum of the fills, and the number of the last one. VnPy's files follow, see `cta_files`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import structlog
from vnpy.event import Event
from vnpy.trader.constant import Direction, Offset
from vnpy.trader.utility import get_file_path
from vnpy_ctastrategy import engine as cta_engine
from vnpy_ctastrategy.base import StopOrder, StopOrderStatus

from vnpy_core.bus import records
from vnpy_core.domain.books import signed
from vnpy_core.domain.errors import ConfigurationError, JournalFailed
from vnpy_core.domain.events import Event as DomainEvent
from vnpy_core.domain.events import Order, StopOrderUpdate, StrategyData, StrategySetting, Trade
from vnpy_core.engine import translate
from vnpy_core.engine.apps.cta_files import DATA, FILES, SETTING, Contents, CtaFiles, Entry, Found, seal
from vnpy_core.engine.apps.saved_values import as_kept, as_restored
from vnpy_core.ports.clock import Clock

MARK = "vnpy_core_counted_seq"
"""In a strategy's saved data: the journal's seq of the last fill that its `pos` has in it. VnPy reads over it."""
UNKNOWN = -1
"""As `counted_seq`: VnPy alone has counted; what was known when we took over is in it."""
BY_FILE = "file"
BY_ENGINE = "engine"
DURABLE_S = 10.0
"""What was taken from a file must be journaled in this time, before the file is called ours."""

Record = Callable[[str, str, DomainEvent], "Future[int] | None"]
"""`Stage.record`: (kind, key, event); the future is done once it is durable."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Resolved:
    """What strategies there are, by journal and files together."""

    settings: dict[str, StrategySetting]
    """The living ones, by name."""
    removed: frozenset[str]
    """Those on record as removed: service.toml must not bring them back."""


class CtaMemory:
    """One CtaEngine. Event thread, but for what says otherwise.

    Where `resolve` was called the files are ours to write; an engine that we attached to goes on writing its own.
    """

    def __init__(self, engine: Any, record: Record, clock: Clock) -> None:
        self._engine = engine
        self._record = record
        self._clock = clock
        self._files = CtaFiles(_folder(engine), clock)
        self._owns_files = False
        self._settings: dict[str, StrategySetting] = {}
        """By name, removed ones too."""
        self._data: dict[str, StrategyData] = {}
        self._entries: Contents = {SETTING: {}, DATA: {}}
        """What the files should hold."""
        self._attributed: dict[str, float] = {}
        self._stops: dict[str, list[StopOrderUpdate]] = {}
        """strategy_name -> stop orders of before this start that are not in force yet."""
        self._fill: Any = None
        """The fill that is being handled, until a saved `pos` has it in it."""
        self._counted = UNKNOWN
        """The seq of the last fill that CtaEngine got, in this run or before: it has counted all up to it."""
        self._left_out: set[tuple[str, str]] = set()

    def install(self) -> None:
        """Wrap how the engine saves strategies. Any thread."""
        self._engine.sync_strategy_data = self._sync
        self._engine.update_strategy_setting = self._update_setting
        self._engine.remove_strategy_setting = self._remove_setting

    def uninstall(self) -> None:
        """Give the engine its own methods back, and write the files a last time. Blocks."""
        for name in ("sync_strategy_data", "update_strategy_setting", "remove_strategy_setting"):
            self._engine.__dict__.pop(name, None)
        if self._owns_files:
            self._files.close()

    # --- what is kept ---

    def resolve(self, settings: Mapping[str, StrategySetting], data: Mapping[str, StrategyData]) -> Resolved:
        """Settle what holds, the journal's rows or the files, and make the files say it. Before CtaEngine reads them.

        An entry that somebody else wrote wins over the journal, else the journal wins. Not the event thread: blocks
        until the journal has what was taken from the files. Raises ConfigurationError (a broken file, and the journal
        knows of no strategies), JournalFailed, StorageFull, OSError.
        """
        found = {file: self._files.read(file) for file in FILES}
        self._put_broken_aside(found, healable=bool(settings or data))
        taken_settings = list(self._resolve_settings(settings, found[SETTING]))
        taken_data = list(self._resolve_data(settings, data, found[DATA]))
        # The variables first: a strategy that is back must not be found with those of the former one of its name.
        taken: dict[str, list[StrategySetting] | list[StrategyData]] = {
            records.STRATEGY_DATA: taken_data,
            records.STRATEGY_SETTING: taken_settings,
        }
        for kind, events in taken.items():
            if events:
                names = [event.strategy_name for event in events]
                _log.warning("taken from VnPy's files, which are not as we left them", kind=kind, strategies=names)
        _await([self._record(kind, event.strategy_name, event) for kind, events in taken.items() for event in events])
        self._files.write(self._contents())
        self._files.start(self._contents)
        self._owns_files = True
        living = {name: kept for name, kept in self._settings.items() if not kept.removed}
        return Resolved(living, frozenset(self._settings.keys() - living.keys()))

    def setting(self, name: str) -> StrategySetting | None:
        """How a living strategy is set. Any thread."""
        kept = self._settings.get(name)
        return None if kept is None or kept.removed else kept

    def keep_setting(self, setting: StrategySetting) -> None:
        """Journal how a strategy is set from now on. Any thread; waits for nothing."""
        kept = msgspec.structs.replace(setting, setting=translate.plain(setting.setting))
        self._take_setting(kept)
        self._record(records.STRATEGY_SETTING, kept.strategy_name, kept)
        self._files.touch()

    def forget(self, name: str, *, by: str = "") -> None:
        """Journal that a strategy is removed; its variables and its stop orders of before this start go with it."""
        if (kept := self.setting(name)) is not None:
            self.keep_setting(msgspec.structs.replace(kept, removed=True, by=by, at=self._clock.now()))
        self._engine.strategy_data.pop(name, None)
        for kept_of in (self._data, self._attributed, self._entries[DATA]):
            kept_of.pop(name, None)
        self._cancel_stops(name)  # or a later one of its name would put them into force
        self._files.touch()

    def attributed(self, name: str) -> float:
        """The sum of a strategy's fills, lots; long counts plus. Any thread."""
        known = self._attributed.get(name)
        # What VnPy alone has counted is taken as it is.
        return _pos(self._engine.strategy_data.get(name, {})) if known is None else known

    def flush(self) -> None:
        """Write VnPy's files now, where they are ours. Any thread but the event thread: blocks."""
        if self._owns_files:
            self._files.flush()

    # --- a start ---

    def restore(
        self,
        orders: Iterable[Order],
        trades: Iterable[Trade],
        stop_orders: Iterable[StopOrderUpdate],
        highest_stop: int,
    ) -> None:
        """Take over what was before this start. Stop orders come back into force when their strategy starts."""
        for order in orders:
            if order.strategy_name:
                self._attribute_known(order)
        for stop_order in stop_orders:
            self._stops.setdefault(stop_order.strategy_name, []).append(stop_order)
        self._engine.stop_order_count = max(self._engine.stop_order_count, highest_stop)
        for name in [name for name in self._stops if name in self._settings and self._settings[name].removed]:
            self._cancel_stops(name)
        self._count_missed(trades)

    def take_up(self, name: str, orders: Iterable[Order], trades: Iterable[Trade]) -> None:
        """A strategy is there that was not at `restore`: its orders are its own again, and its fills are counted.

        Those that CtaEngine has not got yet it will count itself.
        """
        for order in orders:
            if order.strategy_name == name:
                self._attribute_known(order)
        own = [trade for trade in trades if trade.strategy_name == name and trade.seq <= self._counted]
        self._count(name, own, self._counted)
        self._write_data()

    def restore_stops(self, strategy_name: str) -> None:
        """Put a strategy's stop orders of before this start into force, under their ids."""
        for kept in self._stops.pop(strategy_name, []):
            stop_order = _stop_order(kept)
            self._engine.stop_orders[stop_order.stop_orderid] = stop_order
            self._engine.strategy_orderid_map[strategy_name].add(stop_order.stop_orderid)
            self._engine.put_stop_order_event(stop_order)

    # --- a run ---

    def attribute(self, vt_orderid: str, strategy_name: str) -> None:
        """An id turned out to be this strategy's order, or with "" nobody's. Any thread; waits for nothing."""
        strategy = self._engine.strategies.get(strategy_name)
        if strategy is not None:
            self._engine.orderid_strategy_map[vt_orderid] = strategy
            self._engine.strategy_orderid_map[strategy_name].add(vt_orderid)
        elif former := self._engine.orderid_strategy_map.pop(vt_orderid, None):
            self._engine.strategy_orderid_map[former.strategy_name].discard(vt_orderid)

    def before_trade(self, event: Event) -> None:
        """Before CtaEngine handles a fill: it skips one whose id it has seen, which is not how fills repeat.

        Ids come again after a restart of some venues, and a venue shows old fills again after ours.
        """
        staged, fill = getattr(event, "staged", None), event.data
        ids: set[str] = self._engine.vt_tradeids
        if staged is not None and staged.data is None:
            ids.add(fill.vt_tradeid)
        elif staged is not None:
            ids.discard(fill.vt_tradeid)
            self._counted = staged.data.seq
        self._fill = None if fill.vt_tradeid in ids else fill
        strategy = self._engine.orderid_strategy_map.get(fill.vt_orderid)
        if self._fill is not None and strategy is not None:
            name = strategy.strategy_name
            self._attributed[name] = self.attributed(name) + _signed_volume(fill)

    def may_call(self, strategy: Any, function: Callable[..., Any]) -> bool:
        """Whether a callback may run: before its on_init a strategy has nothing to handle an old order with."""
        news = (strategy.on_order, strategy.on_trade, strategy.on_stop_order)
        return bool(strategy.inited) or function not in news

    # --- CtaEngine's own saving ---

    def _sync(self, strategy: Any) -> None:
        """Save a strategy after a fill, as it stops, or because it asks to."""
        name = strategy.strategy_name
        fill = self._take_fill(strategy)
        if fill is not None and not strategy.inited:
            # Its variables are not restored yet; saving them would lose the saved ones.
            variables = as_restored(self._data[name].variables) if name in self._data else {}
            self._save(name, variables | {"pos": _pos(variables) + _signed_volume(fill)})
            return
        self._save(name, _variables(strategy))

    def _update_setting(self, name: str, setting: Mapping[str, Any]) -> None:
        """CtaEngine added or edited a strategy."""
        strategy = self._engine.strategies[name]
        kept = self.setting(name)
        if self._owns_files and kept is None and name not in self._data:
            self._save(name, {})  # first: fills of one that had its name before are not its own
        now = StrategySetting(
            strategy_name=name,
            class_name=type(strategy).__name__,
            vt_symbol=strategy.vt_symbol,
            setting=translate.plain(setting),
            configured=True,
            by=BY_ENGINE,
            at=self._clock.now(),
        )
        if kept is None:
            self.keep_setting(now)
        elif not _is_so_set(kept, _setting_entry(now)):
            same = {"class_name": now.class_name, "vt_symbol": now.vt_symbol, "setting": now.setting}
            self.keep_setting(msgspec.structs.replace(kept, **same, by=now.by, at=now.at))
        if not self._owns_files:
            type(self._engine).update_strategy_setting(self._engine, name, setting)

    def _remove_setting(self, name: str) -> None:
        """CtaEngine removed a strategy."""
        if not self._owns_files:
            type(self._engine).remove_strategy_setting(self._engine, name)
        elif self._engine.strategy_setting.pop(name, None) is None:
            return
        self.forget(name, by=BY_ENGINE)

    def _save(self, name: str, variables: Mapping[str, Any]) -> None:
        """Journal a strategy's variables with what is counted in them."""
        before = self._data.get(name)
        data = StrategyData(
            strategy_name=name,
            variables=self._as_kept(name, variables),
            attributed_pos=self.attributed(name),
            counted_seq=before.counted_seq if before and self._counted == UNKNOWN else self._counted,
            at=self._clock.now(),
        )
        if before and (before.variables, before.attributed_pos) == (data.variables, data.attributed_pos):
            return
        self._keep_data(data)
        self._write_data()

    def _keep_data(self, data: StrategyData) -> None:
        self._take_data(data)
        self._engine.strategy_data[data.strategy_name] = _data_entry(data)  # its own: strategies change lists in place
        self._record(records.STRATEGY_DATA, data.strategy_name, data)

    def _write_data(self) -> None:
        if self._owns_files:
            self._files.touch()
        else:
            cta_engine.save_json(self._engine.data_filename, self._engine.strategy_data)

    def _as_kept(self, name: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        kept, left_out = as_kept(variables)
        for variable in left_out:
            if (name, variable) not in self._left_out:
                self._left_out.add((name, variable))
                _log.error("a variable is not saved: JSON cannot hold it", strategy_name=name, variable=variable)
        return kept

    def _take_fill(self, strategy: Any) -> Any:
        """The fill that is being handled, once, where it is this strategy's: it is saved for other reasons too."""
        fill = self._fill
        if fill is None or self._engine.orderid_strategy_map.get(fill.vt_orderid) is not strategy:
            return None
        self._fill = None
        return fill

    # --- inside ---

    def _contents(self) -> Contents:
        return {file: dict(entries) for file, entries in self._entries.items()}

    def _take_setting(self, setting: StrategySetting) -> None:
        name = setting.strategy_name
        self._settings[name] = setting
        if setting.removed:
            self._entries[SETTING].pop(name, None)
        else:
            self._entries[SETTING][name] = _setting_entry(setting)
            if self._owns_files:
                self._engine.strategy_setting[name] = _setting_entry(setting)

    def _take_data(self, data: StrategyData) -> None:
        name = data.strategy_name
        self._data[name] = data
        self._attributed[name] = data.attributed_pos
        self._entries[DATA][name] = _data_entry(data)

    def _cancel_stops(self, name: str) -> None:
        """Local stop orders that nobody will put into force again."""
        for kept in self._stops.pop(name, []):
            stop_order = _stop_order(kept)
            stop_order.status = StopOrderStatus.CANCELLED
            self._engine.put_stop_order_event(stop_order)

    def _put_broken_aside(self, found: Mapping[str, Found], *, healable: bool) -> None:
        for file, what in found.items():
            if not what.broken:
                continue
            if not healable:
                raise ConfigurationError(f"{file} is broken: {what.broken}. Mend it, or remove it to begin anew")
            aside = self._files.put_aside(file)
            _log.error("a file of strategies is broken; the journal heals it", detail=what.broken, aside=str(aside))

    def _resolve_settings(self, settings: Mapping[str, StrategySetting], found: Found) -> Iterable[StrategySetting]:
        """Take over what holds; gives what the journal must be told."""
        now = self._clock.now()
        for name in {**settings, **found.entries}:
            kept, entry = settings.get(name), found.entries.get(name)
            if entry is not None and (kept is None or (name in found.foreign and not _is_so_set(kept, entry))):
                wins = _from_entry(name, entry, None if kept is None or kept.removed else kept, now)
            elif kept is not None and not kept.removed and name in found.gone:
                wins = msgspec.structs.replace(kept, removed=True, by=BY_FILE, at=now)
            else:
                assert kept is not None
                wins = kept
            self._take_setting(wins)
            if wins is not kept:
                yield wins

    def _resolve_data(
        self, settings: Mapping[str, StrategySetting], data: Mapping[str, StrategyData], found: Found
    ) -> Iterable[StrategyData]:
        """The same for the variables; those of one that is removed, or was, are nobody's."""
        former = {name for name, kept in settings.items() if kept.removed}
        removed = {name for name, kept in self._settings.items() if kept.removed}
        kept_ones = {name: kept for name, kept in data.items() if name not in former}
        now = self._clock.now()
        for name in dict.fromkeys([*kept_ones, *found.entries, *former]):
            if name in removed:
                continue
            kept, entry = kept_ones.get(name), found.entries.get(name, {})
            is_changed = name in found.foreign and kept is not None and not _is_so_saved(kept, entry)
            is_theirs = kept is None or is_changed or name in found.gone
            wins = _data_from_entry(name, entry, now) if kept is None or is_theirs else kept
            self._take_data(wins)
            if is_theirs:
                yield wins

    def _attribute_known(self, order: Order) -> None:
        assert order.strategy_name is not None
        self.attribute(order.vt_orderid, order.strategy_name)
        if not order.is_active:
            self._engine.strategy_orderid_map[order.strategy_name].discard(order.vt_orderid)

    def _count_missed(self, trades: Iterable[Trade]) -> None:
        """Add the fills that were journaled but, because the process ended, not counted."""
        last_seq, own = 0, defaultdict[str, list[Trade]](list)
        for trade in trades:
            last_seq = max(last_seq, trade.seq)
            own[trade.strategy_name or ""].append(trade)
        # Those that could not be made too: what they show is their `pos` all the same.
        living = (name for name, kept in self._settings.items() if not kept.removed)
        for name in dict.fromkeys([*self._engine.strategies, *living]):
            self._count(name, own[name], last_seq)
        self._counted = max(self._counted, last_seq)
        if self._owns_files:
            # What CtaEngine read from the file is less: sets are lists there.
            self._engine.strategy_data = {name: _data_entry(data) for name, data in self._data.items()}
        self._write_data()

    def _count(self, name: str, own: list[Trade], last_seq: int) -> None:
        """Of its `own` fills, all up to `last_seq`, add those that are not in its `pos`."""
        data = self._data.get(name)
        if data is None:
            saved = self._engine.strategy_data.get(name, {})
            data = _data_from_entry(name, saved, self._clock.now())
        # Without a mark it was VnPy alone that counted; from here on we know.
        mark = last_seq if data.counted_seq == UNKNOWN else min(data.counted_seq, last_seq)
        counted = self._counted_up(data, [trade for trade in own if trade.seq > mark], last_seq)
        if counted is not data or name not in self._data:
            self._keep_data(counted)

    def _counted_up(self, data: StrategyData, missed: list[Trade], last_seq: int) -> StrategyData:
        """`data` with the missed fills in it."""
        name, pos, attributed = data.strategy_name, _pos(data.variables), data.attributed_pos
        for trade in missed:
            pos, attributed = pos + float(signed(trade)), attributed + float(signed(trade))
            _log.warning("a fill was not counted before the restart", strategy_name=name, seq=trade.seq)
        if not math.isclose(pos, attributed, abs_tol=1e-9):
            _log.warning("a strategy's pos is not the sum of its fills", strategy_name=name, pos=pos, fills=attributed)
        if not missed and UNKNOWN < data.counted_seq <= last_seq:
            return data  # else its mark is of another journal, or there is none
        variables = data.variables | ({"pos": pos} if missed else {})
        return msgspec.structs.replace(
            data, variables=variables, attributed_pos=attributed, counted_seq=last_seq, at=self._clock.now()
        )


def _folder(engine: Any) -> Path:
    """Where VnPy has its files."""
    return Path(get_file_path(engine.data_filename)).parent


def _await(tickets: Iterable[Future[int] | None]) -> None:
    """Until all are durable. Raises JournalFailed, StorageFull."""
    for ticket in tickets:
        try:
            if ticket is not None:
                ticket.result(DURABLE_S)
        except TimeoutError as error:
            raise JournalFailed("the journal did not take what VnPy's strategy files say") from error


def _variables(strategy: Any) -> dict[str, Any]:
    """What CtaEngine saves of a strategy, without those that a class names but nobody has set yet."""
    names = (name for name in strategy.variables if name not in ("inited", "trading"))
    return {name: getattr(strategy, name) for name in names if hasattr(strategy, name)}


def _is_so_set(kept: StrategySetting, entry: Entry) -> bool:
    """Whether a living strategy is set as an entry of VnPy's file says."""
    return not kept.removed and _setting_entry(kept) == {name: entry[name] for name in _setting_entry(kept)}


def _setting_entry(setting: StrategySetting) -> Entry:
    return {"class_name": setting.class_name, "vt_symbol": setting.vt_symbol, "setting": dict(setting.setting)}


def _from_entry(name: str, entry: Entry, kept: StrategySetting | None, now: Any) -> StrategySetting:
    """A strategy as VnPy's file has it; what that does not say stays as it was."""
    return StrategySetting(
        strategy_name=name,
        class_name=entry["class_name"],
        vt_symbol=entry["vt_symbol"],
        setting=entry["setting"],
        auto_start=kept.auto_start if kept else False,
        configured=kept.configured if kept else True,
        class_file=kept.class_file if kept else "",
        class_hash=kept.class_hash if kept else "",
        by=BY_FILE,
        at=now,
    )


def _data_entry(data: StrategyData) -> Entry:
    mark = {} if data.counted_seq == UNKNOWN else {MARK: data.counted_seq}
    return as_restored(data.variables) | mark


def _is_so_saved(kept: StrategyData, entry: Entry) -> bool:
    return seal(entry) == seal(_data_entry(kept))


def _data_from_entry(name: str, entry: Entry, now: Any) -> StrategyData:
    variables = as_kept({key: value for key, value in entry.items() if key != MARK})[0]
    mark = entry.get(MARK)
    return StrategyData(
        strategy_name=name,
        variables=variables,
        attributed_pos=_pos(variables),
        counted_seq=mark if isinstance(mark, int) else UNKNOWN,
        at=now,
    )


def _pos(variables: Mapping[str, Any]) -> float:
    pos = variables.get("pos", 0.0)
    return pos if isinstance(pos, int | float) else 0.0


def _signed_volume(trade: Any) -> float:
    """What a fill adds to a strategy's `pos`, as CtaEngine counts it."""
    volume: float = trade.volume
    return volume if trade.direction is Direction.LONG else -volume


def _stop_order(kept: StopOrderUpdate) -> StopOrder:
    return StopOrder(
        vt_symbol=kept.vt_symbol,
        direction=Direction[kept.direction.name],
        offset=Offset[kept.offset.name],
        price=kept.price,
        volume=kept.volume,
        stop_orderid=kept.stop_orderid,
        strategy_name=kept.strategy_name,
        datetime=kept.datetime.astimezone(translate.SHANGHAI) if kept.datetime else None,
        lock=kept.lock,
        net=kept.net,
        vt_orderids=list(kept.vt_orderids),
    )
