"""Records the live market: ticks go from the event thread through a bounded ring to a thread that writes them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import structlog

from vnpy_core.adapters.timeseries import record_list
from vnpy_core.adapters.timeseries.intake import Intake
from vnpy_core.adapters.timeseries.live_bars import LiveBars
from vnpy_core.adapters.timeseries.losses import Losses
from vnpy_core.adapters.timeseries.record_list import RecordList
from vnpy_core.adapters.timeseries.settings import RecorderSettings
from vnpy_core.domain.errors import CoreError, TryLater, describe
from vnpy_core.domain.events import Tick
from vnpy_core.domain.history import TickBatch, to_datetime
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.flow import Flow
from vnpy_core.ports.recorder import RecorderState
from vnpy_core.ports.timeseries import TimeSeriesStore

PORTION = 256
"""Ticks that are laid out at a time: more would keep the event thread from the interpreter for over a millisecond."""
BREATH_S = 0.001
"""Between two portions, seconds."""
BUSY_S = 0.02
"""How often the ring is emptied while ticks come, seconds. They are written every `flush_ms`."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 10.0
"""Between two tries while the store is away, seconds."""
TRIES = 3
"""How often ticks are offered to a store that refuses them, before they are given up."""
STOP_S = 3.0
"""How long `stop` waits at most, seconds."""

FULL = "the ring was full"
STOPPED = "the recorder had been stopped"
REFUSED = "the store refused them"

_NAME = "recorder"
_log = structlog.get_logger(__name__)


class Recorder:
    """Implements `ports.recorder.Recorder`. Where a method says nothing else, any thread may call it.

    Ticks are durable `flush_ms` after they came. While the store is away they wait; those that the ring has no room
    for are lost, counted, and shown as gaps. A fast replay is held while the ring is half full.
    """

    def __init__(
        self, store: TimeSeriesStore, settings: RecorderSettings, clock: Clock, flow: Flow, path: Path
    ) -> None:
        """`path`: the file that keeps a changed record list. Raises ConfigurationError where that is broken."""
        self._store = store
        self._clock = clock
        self._flow = flow
        self._path = path
        self._saving = threading.Lock()
        saved = record_list.load(path)
        self._list = RecordList(settings.symbols if saved is None else saved)
        self._wanted: dict[str, bool] = {}
        self._replaying: frozenset[str] = frozenset()
        self._replayed = 0

        self._flush_s = settings.flush_ms / 1000
        self._most = settings.ring
        self._busy_at = settings.ring // 2
        self._ring: deque[Tick] = deque()
        self._held = 0
        """Ticks that have left the ring and are not yet durable."""
        self._holding = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

        self._losses = Losses(clock)
        self._intake = Intake(clock, self._losses)
        self._batches: deque[TickBatch] = deque()
        """What the store is offered first, and again: more than one only after it refused one."""
        self._refusals = 0
        self._bars = LiveBars(store, clock)
        self._opened = self._looked = False
        self._ticks_errand = _Errand("ticks", clock)
        self._bars_errand = _Errand("bars", clock)
        self._looks = 0
        self._durable_at = clock.monotonic()
        """What came before this is durable."""

    # --- the event thread ---

    def take(self, tick: Tick) -> None:
        """Record a tick if it is wanted. Event thread; returns at once."""
        wanted = self._wanted.get(tick.vt_symbol)
        if wanted is None:
            wanted = self._decide(tick.vt_symbol)
        if not wanted:
            return
        if tick.gateway_name in self._replaying:
            self._replayed += 1
        elif len(self._ring) + self._held < self._busy_at or self._has_room(tick):
            self._ring.append(tick)

    def _decide(self, vt_symbol: str) -> bool:
        # In this order: a list that changes meanwhile brings a new dictionary, and this answer is forgotten.
        decided, listed = self._wanted, self._list
        wanted = decided[vt_symbol] = listed.has(vt_symbol)
        return wanted

    def _has_room(self, tick: Tick) -> bool:
        if self._stopping.is_set():
            self._losses.add(tick.vt_symbol, tick.datetime, tick.datetime, 1, STOPPED)
            return False
        if not self._holding:
            self._flow.hold(_NAME)
            self._holding = True  # only now: what the thread releases must have been held
        if len(self._ring) + self._held < self._most:
            return True
        self._losses.add(tick.vt_symbol, tick.datetime, tick.datetime, 1, FULL)
        return False

    # --- any thread ---

    @property
    def patterns(self) -> tuple[str, ...]:
        """The vt_symbols and patterns that are recorded."""
        return self._list.patterns

    def set_patterns(self, patterns: tuple[str, ...]) -> None:
        """Record these from now on, also after a restart. Blocks for a write to disk.

        Raises ValidationFailed (an empty or overlong pattern), StorageFull, TimeSeriesUnavailable (cannot be saved).
        """
        with self._saving:
            record_list.save(self._path, patterns)
            self._list = RecordList(patterns)
            self._wanted = {}

    def ignore_gateway(self, name: str, *, ignored: bool = True) -> None:
        """Record nothing of this gateway while it replays what was."""
        self._replaying = self._replaying | {name} if ignored else self._replaying - {name}

    def state(self) -> RecorderState:
        """How it is."""
        waiting = len(self._ring) + self._held
        symbols = self._intake.symbols()
        return RecorderState(
            patterns=self.patterns,
            recorded=sum(each.recorded for each in symbols.values()),
            dropped=self._losses.count,
            ignored=self._replayed + self._intake.ignored,
            stale=self._intake.stale,
            waiting=waiting,
            ring=self._most,
            lag_ms=max(0.0, self._clock.monotonic() - self._durable_at) * 1000 if waiting else 0.0,
            bars=self._bars.written,
            error=self._ticks_errand.error or self._bars_errand.error,
            symbols=symbols,
            gaps=self._losses.gaps(),
        )

    def start(self) -> None:
        """Begin to write; what was taken before waits in the ring. Opens the store where the caller could not."""
        self._thread = threading.Thread(target=self._run, name=_NAME, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, for `STOP_S` seconds at most and without waiting for a store that is away; then end.

        Blocks; neither on the event thread nor on the loop. Ticks that come later are lost.
        """
        self._stopping.set()
        self._busy_at = 0
        if self._thread is not None:
            self._thread.join(STOP_S)
        self._flow.release(_NAME)
        if waiting := len(self._ring) + self._held:
            _log.error(
                "ticks were not written", count=waiting, reason=self._ticks_errand.error or "the store did not answer"
            )

    # --- the recorder's thread ---

    def _run(self) -> None:
        write_at = time.monotonic()
        while not self._stopping.wait(self._time_until(write_at)):
            due = time.monotonic() >= write_at
            self._guarded_step(write=due)
            if due:
                write_at = time.monotonic() + self._flush_s
        self._guarded_step(write=True, ending=True)

    def _guarded_step(self, *, write: bool, ending: bool = False) -> None:
        try:
            self.step(write=write, ending=ending)
        except Exception:  # noqa: BLE001 - a guarded door: who is released may raise, and recording must outlive it
            _log.exception("the recorder met an unexpected error")

    def _time_until(self, write_at: float) -> float:
        left = max(0.0, write_at - time.monotonic())
        return min(left, BUSY_S if self._ring else self._flush_s)

    def step(self, *, write: bool, ending: bool = False) -> None:
        """Empty the ring; with `write` also write what was in it. The recorder's thread (or a test instead of it)."""
        began = self._clock.monotonic()
        self._empty_ring(in_haste=ending)
        if write and self._ticks_errand.run(self._write_ticks, now=ending):
            self._durable_at = began
            self._bars_errand.run(lambda: self._write_bars(ending=ending), now=ending)
        self._let_flow()

    def _empty_ring(self, *, in_haste: bool) -> None:
        """Lay out what is in the ring now, in portions that let other threads breathe."""
        left = len(self._ring)
        while left:
            portion = min(left, PORTION)
            left -= portion
            self._held += portion
            self._held -= portion - self._intake.take(self._ring, portion)
            if left and not in_haste:
                self._stopping.wait(BREATH_S)

    def _write_ticks(self) -> None:
        """Make durable all that was laid out. Raises what the store does."""
        if not self._opened:
            self._store.open()
            self._opened = True
        while self._batches or len(self._intake):
            if not self._batches:
                self._batches.append(self._intake.batch())
            self._append(self._batches[0])

    def _write_bars(self, *, ending: bool) -> None:
        try:
            if not self._looked and not ending:
                self._find_unfinished()
        finally:
            self._bars.step(self._clock.monotonic() + self._flush_s, ending=ending)

    def _find_unfinished(self) -> None:
        """Some tries only: a store that takes ticks but cannot say what it has, has too much of it to be asked."""
        self._looks += 1
        self._looked = self._looks >= TRIES
        self._bars.find_unfinished(lambda vt_symbol: self._wanted.get(vt_symbol) or self._decide(vt_symbol))
        self._looked = True

    def _append(self, batch: TickBatch) -> None:
        try:
            self._store.append_ticks(batch)
        except TryLater:
            raise
        except Exception:
            self._refused(batch)
            raise
        self._batches.popleft()
        self._refusals = 0
        self._held -= self._intake.recorded(batch)
        self._bars.take(batch)

    def _refused(self, batch: TickBatch) -> None:
        """After some tries offer each contract's ticks alone, and give up those that are refused still."""
        self._refusals += 1
        if self._refusals < TRIES:
            return
        self._batches.popleft()
        self._refusals = 0
        if len(batch.ticks) > 1:
            for series, ticks in batch.ticks.items():
                alone = TickBatch({series: ticks}, batch.names)
                alone.stamped = batch.stamped
                self._batches.append(alone)
            return
        for series, ticks in batch.ticks.items():
            start, end = (to_datetime(int(ticks["ts"][at])) for at in (0, -1))
            self._losses.add(series.vt_symbol, start, end, ticks.size, REFUSED)
            self._held -= ticks.size
            _log.critical("ticks cannot be stored; they are given up", symbol=series.vt_symbol, count=ticks.size)

    def _let_flow(self) -> None:
        waiting = len(self._ring) + self._held
        if self._holding and waiting < self._most // 4:
            self._holding = False
            self._flow.release(_NAME)
        elif waiting >= self._most // 2 and not self._stopping.is_set():
            # Again: a release may just have crossed the event thread's hold.
            self._flow.hold(_NAME)
            self._holding = True


class _Errand:
    """Work for the store, again and again; after an error with longer and longer pauses."""

    def __init__(self, what: str, clock: Clock) -> None:
        self.error = ""
        """Why it failed last; empty when all is well."""
        self._what = what
        self._clock = clock
        self._failures = 0
        self._again_at = float("-inf")

    def run(self, work: Callable[[], None], *, now: bool) -> bool:
        """Do it if it is due (or `now`); whether it was done."""
        if not now and self._clock.monotonic() < self._again_at:
            return False
        try:
            work()
        except CoreError as error:
            self._failed(describe(error))
            return False
        except Exception as error:  # noqa: BLE001 - a guarded door: recording must outlive whatever a store raises
            _log.exception("the recorder met an unexpected error")
            self._failed(describe(error))
            return False
        if self.error:
            _log.info(f"{self._what} are stored again", tries=self._failures)
        self.error, self._failures, self._again_at = "", 0, float("-inf")
        return True

    def _failed(self, error: str) -> None:
        if not self.error:
            _log.error(f"{self._what} cannot be stored at present; they wait", reason=error)
        self.error = error
        self._failures += 1
        pause = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(self._failures - 1, 10))
        self._again_at = self._clock.monotonic() + pause
