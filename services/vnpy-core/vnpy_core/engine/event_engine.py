"""The guarded event engine: one raising handler must not end the event thread.

VnPy's `_run` has no `except`: any exception in any handler kills the thread silently. `EventGuard` wraps `put`,
`_process` and `stop` of an EventEngine instance, ours or a running host's alike, and takes the wraps off again.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import structlog
from vnpy.event import EVENT_TIMER, Event, EventEngine

from vnpy_core.engine.interrupt import Callbacks

TICK_LIMIT = 20_000
"""Events waiting in VnPy's queue past which a newer tick replaces the waiting one of its symbol."""
SLOW_EVENT_S = 0.05
_DRAIN = "eCoreDrain"
_TICK = "eTick."
"""Also the beginning of its twin, which has the symbol behind it."""

_log = structlog.get_logger(__name__)


class EventQueue:
    """queue.Queue for one thread that gets: nobody takes a lock while there is something to get.

    A `put` that is interrupted, as a callback's may be, leaves an event that the next `get` finds.
    """

    def __init__(self) -> None:
        self.items: deque[Event] = deque()
        """What waits, as it is now; who iterates takes `queue`."""
        self.mutex = threading.Lock()
        """For those who look into a queue.Queue; nobody here needs it."""
        self._sleeping = False
        self._wakes: SimpleQueue[None] = SimpleQueue()

    @property
    def queue(self) -> deque[Event]:
        """A copy of what waits."""
        return self.items.copy()

    def qsize(self) -> int:
        """How many events wait."""
        return len(self.items)

    def put(self, event: Event) -> None:
        """Any thread."""
        self.items.append(event)
        if self._sleeping:
            self._wakes.put(None)

    def get(self) -> Event:
        """The oldest event; waits for one. The event thread."""
        items = self.items
        while not items:
            # Said first, then looked: the other side appends first, then asks, so that one of both sees it.
            self._sleeping = True
            if not items:
                self._wakes.get()  # perhaps a wake of before, so look again
            self._sleeping = False
        return items.popleft()


class InterruptibleEventEngine(EventEngine):  # type: ignore[misc]
    """VnPy's engine with a cheaper queue, whose timer thread ends at once on stop instead of a second later."""

    def __init__(self, interval: int = 1) -> None:
        super().__init__(interval)
        self._queue = EventQueue()
        self._timer_stopped = threading.Event()
        # A failed start must not leave a process that cannot exit.
        self._thread.daemon = True
        self._timer.daemon = True

    def _run(self) -> None:
        get = self._queue.get  # without VnPy's time limit, which reads the clock for each event
        while self._active:
            event = get()
            self._process(event)  # looked up now: a guard may have come while this thread waited

    def _run_timer(self) -> None:
        while self._active and not self._timer_stopped.wait(self._interval):
            self.put(Event(EVENT_TIMER))

    def stop(self) -> None:
        """End both threads. Any thread but these two may call, once or again."""
        self._active = False
        self._timer_stopped.set()
        self._queue.put(Event(_DRAIN))  # wakes the event thread out of its wait
        for thread in (self._timer, self._thread):
            if thread.is_alive():
                thread.join()


class EventGuard:
    """Isolation, conflation, measurement and draining for one EventEngine.

    `install` and `uninstall` may be called from any thread; the counters are written on the event thread only.
    """

    def __init__(
        self,
        engine: EventEngine,
        *,
        drain_s: float = 5.0,
        tick_limit: int = TICK_LIMIT,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engine = engine
        self.events_handled = 0
        self.handler_errors = 0
        self.slow_events = 0
        self.ticks_conflated = 0
        self.busy_since: float | None = None
        """When the event under way was begun (monotonic seconds), or None while the thread is idle."""
        self._first: dict[str, Callable[[Event], None]] = {}
        self.callbacks = Callbacks()
        """What the event thread is calling; the watchdog ends what does not return."""
        self._drain_s = drain_s
        self._tick_limit = tick_limit
        self._monotonic = monotonic
        self._errors: Counter[tuple[str, str]] = Counter()
        self._captures = threading.local()
        self.waiting: deque[Event] = (
            engine._queue.items if isinstance(engine._queue, EventQueue) else engine._queue.queue
        )
        """The events in VnPy's queue; for its length only, which needs no lock."""
        self.idle: Callable[[], None] = lambda: None
        """Called on the event thread whenever its queue has run empty."""
        self._waiting_ticks: dict[tuple[str, str], Event] = {}
        self._waiting_lock = threading.Lock()
        self._originals: dict[str, Any] | None = None
        self._own: dict[str, Any] = {}
        self._put_on: Callable[[Event], None] = engine.put
        self.route: Callable[[Event], None] = self.enqueue
        """Where a put event goes first: the stage's `put`, which forwards to `enqueue`."""
        self.settle: Callable[[float], bool] = lambda timeout: True
        """Waits, `timeout` s at most, until what was routed is enqueued; a drain must."""
        self.on_error: Callable[[Callable[[Event], Any], BaseException], None] = lambda handler, error: None
        """Told of each handler that raised, on the event thread, after it was reported."""

    def install(self) -> None:
        """Wrap the engine's `put`, `_process` and `stop`."""
        if self._originals is not None:
            return
        self._originals = {"put": self.engine.put, "_process": self.engine._process, "stop": self.engine.stop}
        self._own = {name: vars(self.engine)[name] for name in self._originals if name in vars(self.engine)}
        self._put_on = self.engine.put
        self.engine.put = self._put
        self.engine._process = self._process
        self.engine.stop = self._stop

    def uninstall(self) -> None:
        """Give the engine its own methods back."""
        if self._originals is None:
            return
        for name in self._originals:
            if name in self._own:  # somebody's wrap that was there before ours
                setattr(self.engine, name, self._own[name])
            else:
                delattr(self.engine, name)
        self._originals = None

    @property
    def queue_length(self) -> int:
        """Events that wait in VnPy's queue."""
        return len(self.waiting)

    @property
    def on_event_thread(self) -> bool:
        """Whether the caller runs on the event thread."""
        return bool(threading.get_ident() == self.engine._thread.ident)

    @property
    def thread_alive(self) -> bool:
        """Whether the event thread runs."""
        return bool(self.engine._thread.is_alive())

    def precede(self, event_type: str, handler: Callable[[Event], None]) -> None:
        """Call `handler` before all others of this type, also where those were registered long ago. Once a type."""
        self._first[event_type] = handler

    @contextmanager
    def capture_logs(self) -> Iterator[list[str]]:
        """Collect the text of log events that this thread puts meanwhile: the reason behind a `""` or None."""
        lines: list[str] = []
        outer = getattr(self._captures, "lines", None)
        self._captures.lines = lines
        try:
            yield lines
        finally:
            self._captures.lines = outer

    def drain(self, timeout: float) -> bool:
        """Wait until everything that is queued, and what that causes, was handled; False when `timeout` s ran out.

        Not from the event thread.
        """
        deadline = self._monotonic() + timeout
        while self.thread_alive:
            if not self.settle(max(0.0, deadline - self._monotonic())):
                return False
            passed = threading.Event()
            self._put_on(Event(_DRAIN, passed))
            if not passed.wait(max(0.0, deadline - self._monotonic())):
                return False
            # What the last events caused may still be on its way to the queue.
            if self.queue_length == 0 and self.settle(0.0) and self.queue_length == 0:
                return True
        return self.queue_length == 0

    def _stop(self) -> None:
        if not self.on_event_thread and not self.drain(self._drain_s):
            _log.error("stopped with events left in the queue", left=self.queue_length, waited_s=self._drain_s)
        assert self._originals is not None
        self._originals["stop"]()

    def _put(self, event: Event) -> None:
        if event.type.startswith(_TICK) and self._unheard(event.type):
            return
        lines = getattr(self._captures, "lines", None)
        if lines is not None and hasattr(event.data, "msg"):
            lines.append(event.data.msg)
        self.route(event)

    def enqueue(self, event: Event) -> None:
        """Put an event on VnPy's queue; where too many wait, a tick takes its elder's place. Any thread."""
        if len(self.waiting) >= self._tick_limit and event.type.startswith(_TICK) and self._conflated(event):
            return
        self._put_on(event)

    def _unheard(self, event_type: str) -> bool:
        """Whether this is a tick's twin, `eTick.` with a symbol, to which nobody listens: half of a market's events."""
        engine = self.engine
        return (
            event_type != _TICK
            and event_type not in engine._handlers
            and not engine._general_handlers
            and event_type not in self._first
        )

    def _conflated(self, event: Event) -> bool:
        """Whether `event` took the place of the waiting tick of its symbol, because too many events wait."""
        key = (event.type, event.data.vt_symbol)
        with self._waiting_lock:
            waiting = self._waiting_ticks.get(key)
            if waiting is None:
                self._waiting_ticks[key] = event
                return False
            waiting.data = event.data
            self.ticks_conflated += 1
            return True

    def _process(self, event: Event) -> None:
        if event.type != _DRAIN:
            self._handle(event)
        elif event.data is not None:
            event.data.set()
        if not self.waiting:
            try:
                self.idle()
            except Exception as error:  # noqa: BLE001 - a guarded door; a loop that is closed must not end the thread
                self._report(self.idle, event, error)

    def _handle(self, event: Event) -> None:
        kind = event.type
        if self._waiting_ticks and kind.startswith(_TICK):
            key = (kind, event.data.vt_symbol)
            with self._waiting_lock:
                if self._waiting_ticks.get(key) is event:
                    del self._waiting_ticks[key]
        started = self.busy_since = self._monotonic()
        # Copies: a handler that unregisters itself must not make the next one be skipped.
        handlers = (*self.engine._handlers.get(kind, ()), *self.engine._general_handlers)
        if kind in self._first:
            handlers = (self._first[kind], *handlers)
        run = self.callbacks.run
        for handler in handlers:
            try:
                returned = run(handler, event)
            except BaseException as error:  # noqa: BLE001 - a guarded door; sys.exit() in a handler must not end the thread
                self._report(handler, event, error)
            else:
                if returned is not None and inspect.iscoroutine(returned):
                    returned.close()
                    self._report(handler, event, TypeError("the handler is async; VnPy never awaits it"))
        self.busy_since = None
        self.events_handled += 1
        if self._monotonic() - started > SLOW_EVENT_S:
            self.slow_events += 1

    def _report(self, handler: Callable[..., Any], event: Event, error: BaseException) -> None:
        self.handler_errors += 1
        name = f"{getattr(handler, '__module__', '?')}.{getattr(handler, '__qualname__', repr(handler))}"
        key = (name, type(error).__name__)
        self._errors[key] += 1
        count = self._errors[key]
        if str(count).strip("0") == "1":  # 1, 10, 100, …: a handler that fails on each tick must not flood the log
            _log.error("event handler failed", handler=name, event_type=event.type, times=count, exc_info=error)
        try:
            self.on_error(handler, error)
        except BaseException:  # noqa: BLE001 - a guarded door: who hears of a failure must not end the thread by another
            _log.exception("what follows a handler's failure failed", handler=name)
