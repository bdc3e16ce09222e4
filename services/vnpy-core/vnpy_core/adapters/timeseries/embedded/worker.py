"""The store's own thread: rolls, merges and removes while the store is open."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from vnpy_core.adapters.timeseries.embedded.catalog import Catalog, Place
from vnpy_core.adapters.timeseries.embedded.disk import LockHeld
from vnpy_core.adapters.timeseries.embedded.rolling import Roller
from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings
from vnpy_core.domain.errors import CoreError, StorageFull, describe
from vnpy_core.ports.clock import Clock

POLL_S = 5.0
"""How often the thread looks when nobody wakes it, seconds."""
RETRY_S = 30.0
"""A partition that could not be rolled is left alone so long, seconds."""
_SPARE_PAGES = 8_192
_LOCK_WAIT_S = 1.0

_log = structlog.get_logger(__name__)


class Worker:
    """Started and stopped by one thread; any may `wake` it."""

    def __init__(self, roller: Roller, catalog: Catalog, settings: TimeSeriesSettings, clock: Clock) -> None:
        self.problem = ""
        """What was in the way the last time, in words."""
        self._roller = roller
        self._catalog = catalog
        self._settings = settings
        self._clock = clock
        self._held: dict[Place, tuple[float, str]] = {}
        """The partitions that are left alone: until when, and why."""
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; again is harmless."""
        if self._thread is None:
            self._closing.clear()
            self._thread = threading.Thread(target=self._run, name="timeseries", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End after what is under way, which takes less than a second."""
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def wake(self) -> None:
        """There is enough to roll."""
        self._wake.set()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._guarded_round()
            self._wake.wait(min(POLL_S, self._settings.roll_s))
            self._wake.clear()

    def _guarded_round(self) -> None:
        try:
            problem = self._round()
        except LockHeld:
            return
        except CoreError as error:
            problem = describe(error)
        except Exception as error:  # noqa: BLE001 - a guarded door: the tail must go on being rolled
            _log.exception("the tick and bar store's worker met an unexpected error")
            problem = describe(error)
        if problem and problem != self.problem:
            _log.error("ticks and bars wait in the tail; tried again later", reason=problem)
        if self.problem and not problem:
            _log.info("ticks and bars are rolled again")
        self.problem = problem

    def _round(self) -> str:
        """All that is due; what was in the way. Raises CoreError."""
        problem = self._each(self._roller.due(self._settings.roll_rows, self._settings.roll_s), self._roller.roll)
        problem = self._each(self._roller.crowded(), self._roller.merge) or problem
        with self._roller.holding(_LOCK_WAIT_S):
            self._roller.remove_doomed()
        self._catalog.shrink(_SPARE_PAGES)
        return problem

    def _each(self, places: list[Place], do: Callable[[Place], object]) -> str:
        """One after the other; one that fails is left alone for a while. Raises StorageFull, LockHeld, which
        concern all.
        """
        problem = ""
        now = self._clock.monotonic()
        for place in places:
            if self._closing.is_set():
                break
            until, reason = self._held.get(place, (now, ""))
            if until > now:
                problem = reason
                continue
            try:
                with self._roller.holding(_LOCK_WAIT_S):
                    do(place)
                self._held.pop(place, None)
            except (LockHeld, StorageFull):
                raise
            except CoreError as error:
                problem = describe(error)
                self._held[place] = now + RETRY_S, problem
        return problem
