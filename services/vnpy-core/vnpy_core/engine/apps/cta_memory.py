"""What CtaEngine keeps in memory only, kept across restarts: whose orders are whose, counted fills, local stop orders.

CtaEngine adds each fill of a strategy's order to its `pos` and saves `pos` in its data file. Without the map from order
to strategy a restart loses fills; with it, and without a mark of what was counted, it would count them twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from vnpy.event import Event
from vnpy.trader.constant import Direction, Offset
from vnpy_ctastrategy import engine as cta_engine
from vnpy_ctastrategy.base import StopOrder

from vnpy_core.domain.books import signed
from vnpy_core.domain.events import Order, StopOrderUpdate, Trade
from vnpy_core.engine import translate

MARK = "vnpy_core_counted_seq"
"""In a strategy's saved data: the journal's seq of the last fill that its `pos` has in it. VnPy reads over it."""

_log = structlog.get_logger(__name__)


class CtaMemory:
    """One CtaEngine. Event thread, but for `attribute`."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._stops: dict[str, list[StopOrderUpdate]] = {}
        """strategy_name -> stop orders of before this start that are not in force yet."""
        self._fill: Any = None
        """The fill that is being handled, until a saved `pos` has it in it."""
        self._counted: int | None = None
        """The seq of the last fill that CtaEngine got in this run: it has counted all up to it."""

    def install(self) -> None:
        """Wrap how the engine saves a strategy."""
        self._engine.sync_strategy_data = self._sync

    def uninstall(self) -> None:
        """Give the engine its own method back."""
        self._engine.__dict__.pop("sync_strategy_data", None)

    def attribute(self, vt_orderid: str, strategy_name: str) -> None:
        """An id turned out to be this strategy's order, or with "" nobody's. Any thread; waits for nothing."""
        strategy = self._engine.strategies.get(strategy_name)
        if strategy is not None:
            self._engine.orderid_strategy_map[vt_orderid] = strategy
            self._engine.strategy_orderid_map[strategy_name].add(vt_orderid)
        elif former := self._engine.orderid_strategy_map.pop(vt_orderid, None):
            self._engine.strategy_orderid_map[former.strategy_name].discard(vt_orderid)

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
                self.attribute(order.vt_orderid, order.strategy_name)
                if not order.is_active:
                    self._engine.strategy_orderid_map[order.strategy_name].discard(order.vt_orderid)
        for stop_order in stop_orders:
            self._stops.setdefault(stop_order.strategy_name, []).append(stop_order)
        self._engine.stop_order_count = max(self._engine.stop_order_count, highest_stop)
        self._count_missed(trades)

    def restore_stops(self, strategy_name: str) -> None:
        """Put a strategy's stop orders of before this start into force, under their ids."""
        for kept in self._stops.pop(strategy_name, []):
            stop_order = _stop_order(kept)
            self._engine.stop_orders[stop_order.stop_orderid] = stop_order
            self._engine.strategy_orderid_map[strategy_name].add(stop_order.stop_orderid)
            self._engine.put_stop_order_event(stop_order)

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

    def may_call(self, strategy: Any, function: Callable[..., Any]) -> bool:
        """Whether a callback may run: before its on_init a strategy has nothing to handle an old order with."""
        news = (strategy.on_order, strategy.on_trade, strategy.on_stop_order)
        return bool(strategy.inited) or function not in news

    def _sync(self, strategy: Any) -> None:
        """Save a strategy after a fill, with the mark of what was counted."""
        name, data = strategy.strategy_name, self._engine.strategy_data
        mark = data.get(name, {}).get(MARK) if self._counted is None else self._counted
        fill = self._take_fill(strategy)
        if not strategy.inited and fill is not None:
            # Its variables are not restored yet; saving them would lose the saved ones.
            self._add_to_saved(name, _signed_volume(fill))
            data[name] |= {} if mark is None else {MARK: mark}
            _save(self._engine)
            return
        # As CtaEngine does, with the mark in the same write: a file with `pos` and without it would lose fills.
        saved = strategy.get_variables()
        del saved["inited"], saved["trading"]
        data[name] = saved | ({} if mark is None else {MARK: mark})
        _save(self._engine)

    def _take_fill(self, strategy: Any) -> Any:
        """The fill that is being handled, once, where it is this strategy's: it is saved for other reasons too."""
        fill = self._fill
        if fill is None or self._engine.orderid_strategy_map.get(fill.vt_orderid) is not strategy:
            return None
        self._fill = None
        return fill

    def _count_missed(self, trades: Iterable[Trade]) -> None:
        """Add the fills that were journaled but, because the process ended, not counted."""
        last_seq, own = 0, defaultdict[str, list[Trade]](list)
        for trade in trades:
            last_seq = max(last_seq, trade.seq)
            own[trade.strategy_name or ""].append(trade)
        for name in self._engine.strategies:
            saved = self._engine.strategy_data.setdefault(name, {})
            # Without a mark it was VnPy alone that counted; from here on we know.
            mark = saved.setdefault(MARK, last_seq)
            for trade in own[name]:
                if trade.seq > mark:
                    self._add_to_saved(name, float(signed(trade)))
                    _log.warning("a fill was not counted before the restart", strategy_name=name, seq=trade.seq)
            saved[MARK] = max(mark, last_seq)
        _save(self._engine)

    def _add_to_saved(self, strategy_name: str, volume: float) -> None:
        saved = self._engine.strategy_data.setdefault(strategy_name, {})
        saved["pos"] = saved.get("pos", 0) + volume


def _signed_volume(trade: Any) -> float:
    """What a fill adds to a strategy's `pos`, as CtaEngine counts it."""
    volume: float = trade.volume
    return volume if trade.direction is Direction.LONG else -volume


def _save(engine: Any) -> None:
    cta_engine.save_json(engine.data_filename, engine.strategy_data)


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
