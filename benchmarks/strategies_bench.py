"""What 200 strategies cost in the service, beside the same strategies in a plain VnPy, in one run.

    .venv/bin/python benchmarks/strategies_bench.py [--rounds 6] [--seconds 5] [--rate 5000]

VnPy's eight classes, 25 of each, trade on 50 contracts; both processes have the same apps and the same gateway, which
measures itself. Each is given the market in turn: the plain one, the service, the service that also records each tick;
at `--rate`, as fast as its event thread takes them, and the service once more while somebody uses its REST API. No
client listens. Each round has new processes: the same program may take twice the time in one process that it takes in
the next, by where its memory happens to lie, so the best of each are compared too. `--rounds 1 --seconds 300` shows
more of the memory.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from strategies_plan import COUNT, SYMBOLS, plan
from stream_kit import BENCHMARKS, Child, Load, Refused, Service, machine, median, percentile, say, service, spread

MARKET = """
[gateways.MARKET]
class = "strategies_market:Market"
auto_connect = true
setting.socket = "{socket}"
"""
STRATEGY = """
[strategies.{name}]
class_name = "{class_name}"
vt_symbol = "{vt_symbol}"
auto_init = true
auto_start = true
"""
PLAIN, OURS, RECORDING = COLUMNS = "bare VnPy", "service", "recording"
REST_RATE = 20
OVERHEAD, REST_MS, EVENT_MS, GROWTH_MB = 0.15, 100.0, 50.0, 1.0
"""What the issue asks; memory is called flat while it grows less than so many MB a minute."""
WARM_S, REST_S, START_S = 3.0, 1.0, 120.0

Found = dict[str, list[dict[str, float]]]
"""Column -> what each round showed."""


class Market:
    """The gateway in one of the processes, by its socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rw")

    def run(self, rate: float, seconds: float) -> dict[str, float]:
        """Give it the market for so long; what it saw."""
        self._lines.write(json.dumps({"rate": rate, "seconds": seconds}) + "\n")
        self._lines.flush()
        seen: dict[str, float] = json.loads(self._lines.readline())
        seen["at"] = time.monotonic()
        ticks = seen["handled"]
        seen["rate"] = ticks / seen["seconds"]
        seen["event_us"], seen["process_us"] = seen["event_cpu"] / ticks * 1e6, seen["process_cpu"] / ticks * 1e6
        return seen

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


class Trader(threading.Thread):
    """Somebody at the REST API: two lists, an order and its cancel, so many requests a second."""

    def __init__(self, core: Service) -> None:
        super().__init__(name="trader", daemon=True)
        self.times: dict[str, list[float]] = {name: [] for name in ("orders", "positions", "order", "cancel")}
        self.refused: list[str] = []
        self._core = core
        self._over = threading.Event()
        self._orders = 0

    def __enter__(self) -> Trader:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        while not self._over.is_set():
            self._timed("orders", "GET", "/trading/orders")
            self._timed("positions", "GET", "/trading/positions")
            order = self._timed("order", "POST", "/trading/orders", self._order())
            if order is not None:
                self._timed("cancel", "DELETE", f"/trading/orders/{order['vt_orderid']}")

    def _order(self) -> dict[str, Any]:
        """One that rests; not the same again soon, or risk control refuses it."""
        self._orders += 1
        symbol, price = SYMBOLS[self._orders % len(SYMBOLS)], 2750 - self._orders // len(SYMBOLS) % 40
        return {
            "vt_symbol": f"{symbol}.SHFE", "direction": "LONG", "offset": "OPEN", "type": "LIMIT", "volume": 1,
            "price": price,
        }  # fmt: skip

    def _timed(self, name: str, *request: Any) -> Any:
        begun = time.perf_counter()
        try:
            answer = self._core.ask(*request)
        except Refused as refused:
            self.refused.append(str(refused))
            answer = None
        taken = time.perf_counter() - begun
        self.times[name].append(taken * 1000)
        self._over.wait(max(0.0, 1 / REST_RATE - taken))
        return answer


@contextmanager
def plain(folder: Path) -> Iterator[Market]:
    """VnPy alone, with all strategies trading."""
    (folder / ".vntrader").mkdir(parents=True)
    (folder / ".vntrader" / "vt_setting.json").write_text('{"log.console": false, "log.file": false}')
    command = [sys.executable, str(BENCHMARKS / "strategies_plain.py"), str(folder / "market")]
    with Child(command, cwd=folder), ExitStack() as stack:
        market = Market(folder / "market")
        stack.callback(market.close)
        yield market


@contextmanager
def ours(folder: Path) -> Iterator[tuple[Service, Market]]:
    """The service, with all strategies trading."""
    folder.mkdir()
    strategies = [STRATEGY.format(name=name, class_name=kind, vt_symbol=symbol) for name, kind, symbol in plan()]
    with service(folder, MARKET.format(socket=folder / "market") + "".join(strategies)) as core, ExitStack() as stack:
        market = Market(folder / "market")
        stack.callback(market.close)
        deadline = time.monotonic() + START_S
        while (trading := market.run(100, 0.5)["trading"]) < COUNT:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{trading} strategies trade after {START_S:.0f} s, not {COUNT}")
        yield core, market


class Bench(NamedTuple):
    bare: Market
    core: Service
    own: Market

    def run(self, column: str, rate: float, seconds: float, trader: Trader | None = None) -> dict[str, float]:
        """One column's turn; afterwards a rest, so that what is left of it is not the next one's."""
        if column != PLAIN:
            self.core.ask("PUT", "/data/recorder", {"symbols": ["*"] if column == RECORDING else []})
        with trader or nullcontext():
            seen = (self.bare if column == PLAIN else self.own).run(rate, seconds)
        if seen["trading"] < COUNT or seen["handled"] < seen["put"]:
            raise RuntimeError(f"{column}: {seen}")
        time.sleep(REST_S)
        return seen


def measured(rounds: int, seconds: float, rate: float) -> tuple[Found, Found, Found, list[Trader]]:
    """At the rate, at the limit, at the rate with somebody at the REST API; each round in new processes."""
    paced, full, used = ({column: [] for column in COLUMNS} for _ in range(3))
    traders = []
    for number in range(1, rounds + 1):
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            bare = stack.enter_context(plain(Path(folder, "plain")))
            bench = Bench(bare, *stack.enter_context(ours(Path(folder, "service"))))
            for column in COLUMNS:
                bench.run(column, rate, WARM_S)
            for column in COLUMNS:
                paced[column].append(bench.run(column, rate, seconds))
            for column in COLUMNS:
                full[column].append(bench.run(column, 0, seconds / 2))
            for column in (OURS, RECORDING):
                traders.append(Trader(bench.core))
                used[column].append(bench.run(column, rate, seconds, traders[-1]))
            # Last, when both have done the same.
            for column in (PLAIN, OURS):
                paced[column][-1]["growth"] = growth([bench.run(column, rate, seconds / 5) for _ in range(5)])
        say(f"round {number}: {told(paced, full)}")
    return paced, full, used, traders


def told(paced: Found, full: Found) -> str:
    return "; ".join(
        f"{column} {found[-1]['event_us']:.0f}/{found[-1]['process_us']:.0f} us a tick, p99 {found[-1]['p99']:.1f} ms, "
        f"{full[column][-1]['rate']:,.0f}/s"
        for column, found in paced.items()
    )


# --- the table ---


class Line(NamedTuple):
    """`texts` by column; `asked` is what the issue wants and `met` whether this run shows it."""

    what: str
    texts: dict[str, str]
    asked: str = ""
    met: bool | None = None


def lines(paced: Found, full: Found, used: Found, traders: list[Trader], rate: float) -> list[Line]:
    at_rate, busy = f"{rate:,.0f} ticks/s", "with REST requests"
    rest = [value for trader in traders for values in trader.times.values() for value in values]
    rest_p99 = percentile(rest, 0.99)
    events_p99 = max(median([seen["p99"] for seen in used[column]]) for column in (OURS, RECORDING))
    slope = median([seen["growth"] for seen in paced[OURS]])
    return [
        Line("ticks handled a second", each(paced, "rate", ",.0f")),
        *compared(f"event thread's CPU a tick at {at_rate}, us", paced, "event_us"),
        *compared(f"process' CPU a tick at {at_rate}, us", paced, "process_us"),
        *compared("ticks a second, as fast as they are taken", full, "rate", form=",.0f", speed=True),
        *compared("process' CPU a tick then, us", full, "process_us"),
        Line("put to handled p50, ms", each(paced, "p50", ".2f")),
        Line("put to handled p99, ms", each(paced, "p99", ".1f")),
        Line(f"put to handled p99 {busy}, ms", each(used, "p99", ".1f"), f"<= {EVENT_MS:g}", events_p99 <= EVENT_MS),
        Line(f"put to handled, slowest {busy}, ms", each(used, "worst", ".0f")),
        Line(
            f"REST p50 / p99, ms ({len(rest):,} requests)",
            {OURS: f"{percentile(rest, 0.5):.1f} / {rest_p99:.1f}", RECORDING: slowest(traders)},
            f"<= {REST_MS:g}",
            rest_p99 <= REST_MS,
        ),
        Line("memory, MB", each(paced, "memory_after", ".0f")),
        Line(
            "memory, MB a minute",
            {column: spread([seen["growth"] for seen in paced[column]], "+.1f") for column in (PLAIN, OURS)},
            f"<= {GROWTH_MB:g}",
            slope <= GROWTH_MB,
        ),
    ]  # fmt: skip


def slowest(traders: list[Trader]) -> str:
    """The p99 of each kind of request."""
    names = traders[0].times
    times = {name: [value for trader in traders for value in trader.times[name]] for name in names}
    return "p99 " + ", ".join(f"{name} {percentile(values, 0.99):.0f}" for name, values in times.items())


def each(found: Found, name: str, form: str) -> dict[str, str]:
    return {column: spread([one[name] for one in seen], form) for column, seen in found.items() if seen}


def compared(what: str, found: Found, name: str, *, form: str = ".1f", speed: bool = False) -> Iterator[Line]:
    """The figure, and what the service costs more than the plain one; `speed`: more is better."""
    yield Line(what, each(found, name, form))
    values = {column: [one[name] for one in seen] for column, seen in found.items()}
    best = max if speed else min

    def over(column: str, choose: Callable[[list[float]], float]) -> float:
        ratio = choose(values[column]) / choose(values[PLAIN])
        return (1 / ratio if speed else ratio) - 1

    texts = {c: f"{over(c, median):+.0%}, best beside best {over(c, best):+.0%}" for c in (OURS, RECORDING)}
    yield Line("    over bare VnPy", texts, f"<= {OVERHEAD:.0%}", over(OURS, median) <= OVERHEAD)


def growth(seen: list[dict[str, float]]) -> float:
    """MB a minute, the straight line through what memory was at each round's end."""
    seen = sorted(seen, key=lambda one: one["at"])
    minutes, sizes = [one["at"] / 60 for one in seen], [one["memory_after"] for one in seen]
    middle, size = sum(minutes) / len(minutes), sum(sizes) / len(sizes)
    spread_ = sum((x - middle) ** 2 for x in minutes)
    if not spread_:
        return 0.0
    return sum((x - middle) * (y - size) for x, y in zip(minutes, sizes, strict=True)) / spread_


def table(found: list[Line]) -> str:
    verdict = {True: "yes", False: "NO", None: ""}
    texts = [("", *COLUMNS, "asked", "met")]
    texts += [(line.what, *(line.texts.get(c, "") for c in COLUMNS), line.asked, verdict[line.met]) for line in found]
    widths = [max(len(text[column]) for text in texts) for column in range(len(texts[0]))]
    rows = ["| " + " | ".join(map(str.ljust, text, widths)) + " |" for text in texts]
    rows.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(rows)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=6)
    arguments.add_argument("--seconds", type=float, default=5)
    arguments.add_argument("--rate", type=float, default=5_000)
    wanted = arguments.parse_args()
    begun, before, load = time.monotonic(), machine(), Load()
    paced, full, used, traders = measured(wanted.rounds, wanted.seconds, wanted.rate)
    print(before)
    print(
        f"{time.monotonic() - begun:.0f} s; {COUNT} strategies on {len(SYMBOLS)} contracts; medians of {wanted.rounds} "
        "rounds in turn (least..most)"
    )
    print(load.told() + "\n")
    print(table(lines(paced, full, used, traders, wanted.rate)))
    if refused := [text for trader in traders for text in trader.refused]:
        print(f"\n{len(refused)} requests were refused, as: {refused[0]}")


if __name__ == "__main__":
    main()
