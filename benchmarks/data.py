"""What recording, storing and reading ticks costs, beside vnpy_sqlite in the same run and folder.

    .venv/bin/python benchmarks/data.py [--part store|live] [--rate 20000] [--rounds 6] [--folder DIR]

`store`: ticks/s in and out and bytes per tick, on generated ticks of full depth and on the real ru1901 where
../shared/data is; 1-minute bars of a million ticks of 20 contracts. VnPy's drivers run in processes of their own.

`live`: a whole service with the paper gateway for orders and a gateway that sends `--rate` ticks a second of 50
contracts; POST /orders in turn with the recorder off and on, in one process.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from vnpy_core.adapters.timeseries.embedded import EmbeddedStore
from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings
from vnpy_core.domain.bars import COLUMNS, Period, bars_from_ticks
from vnpy_core.domain.history import LAST_NS, NS, Interval, Series, TickArray, TickBatch, empty_ticks
from vnpy_core.features.market_data.importing import ImportSpec, run_import
from vnpy_core.kit.clock import SystemClock

REPOSITORY = Path(__file__).resolve().parents[1]
RU1901 = REPOSITORY.parent / "shared" / "data" / "ctp" / "shfe_ru1901_20181008-20181012.tick-ctp.zip"
PASSWORD = "for-the-benchmark-only-7"
CONTRACTS = 20
TICKS_EACH = 50_000
BATCH = 20_000
"""Ticks in a write: what the recorder writes at once."""
PEER_TICKS = 20_000
"""What the peer is asked to store: it would take minutes for a million."""
START = 1_790_000_000 * NS
"""A day in autumn 2026, with no other meaning."""

Rates = dict[str, float]


# --- ticks ---


def generated(contracts: int = CONTRACTS, each: int = TICKS_EACH) -> dict[Series, TickArray]:
    """Random walks with five levels, two ticks a second, as a liquid future shows them."""
    chance = np.random.default_rng(1)
    return {Series(f"gen{number:02}", "SHFE"): _walk(chance, each) for number in range(contracts)}


def _walk(chance: np.random.Generator, count: int) -> TickArray:
    ticks = empty_ticks(count)
    ticks["ts"] = START + np.arange(count) * (NS // 2)
    ticks["localtime"] = ticks["ts"] + chance.integers(1_000, 30_000, count) * 1_000
    last = 3000 + np.cumsum(chance.integers(-1, 2, count)).astype(float)
    ticks["last_price"] = last
    ticks["last_volume"] = chance.integers(0, 50, count)
    ticks["volume"] = np.cumsum(ticks["last_volume"])
    ticks["turnover"] = np.cumsum(ticks["last_volume"] * last * 10)
    ticks["open_interest"] = 1e6 + np.cumsum(chance.integers(-20, 21, count))
    ticks["limit_up"], ticks["limit_down"], ticks["open_price"], ticks["pre_close"] = 3300, 2700, 3000, 2990
    ticks["high_price"], ticks["low_price"] = np.maximum.accumulate(last), np.minimum.accumulate(last)
    for side, sign in (("bid", -1), ("ask", 1)):
        for level in range(1, 6):
            ticks[f"{side}_price_{level}"] = last + sign * level
            ticks[f"{side}_volume_{level}"] = chance.integers(1, 500, count)
    return ticks


# --- our store ---


@contextmanager
def opened(folder: Path) -> Iterator[EmbeddedStore]:
    store = EmbeddedStore(folder, TimeSeriesSettings(), SystemClock())
    store.open()
    try:
        yield store
    finally:
        store.close()


def appended(folder: Path, ticks: dict[Series, TickArray]) -> Rates:
    """As the recorder writes: batches of all contracts, each durable; then rolled, sized and read."""
    share = BATCH // len(ticks)
    batches = [
        TickBatch({series: rows[first : first + share].copy() for series, rows in ticks.items()})
        for first in range(0, len(next(iter(ticks.values()))), share)
    ]
    count = sum(rows.size for rows in ticks.values())
    with opened(folder) as store:
        seconds = _timed(lambda: [store.append_ticks(batch) for batch in batches])
        rolled = seconds + _timed(store.flush)
        size = _size(folder)
        found = []
        read = _timed(lambda: found.extend(_read(store, list(ticks))))
        assert sum(found) == count
        bars = [_timed(lambda: _bars(store, list(ticks))) for _ in range(8)]
        with ThreadPoolExecutor(2) as two:
            paired = [_timed(lambda: list(two.map(lambda one: _bars(store, [one]), ticks))) for _ in range(8)]
    return {
        "in": count / seconds, "in, rolled too": count / rolled, "out": count / read, "bytes": size / count,
        "bars first": bars[0], "bars": statistics.median(bars[1:]),
        "bars, two at a time": statistics.median(paired[1:]),
    }  # fmt: skip


def merged(folder: Path, ticks: dict[Series, TickArray]) -> Rates:
    """As an import writes: contract by contract, and each tick is looked for first."""
    count = sum(rows.size for rows in ticks.values())
    with opened(folder) as store:
        copies = {series: rows.copy() for series, rows in ticks.items()}
        seconds = _timed(lambda: [store.merge_ticks(series, rows) for series, rows in copies.items()])
    return {"in": count / seconds}


def imported(folder: Path) -> tuple[Rates, TickArray]:
    """The real file, from the zip on; and its ticks."""
    with opened(folder) as store:
        spec = ImportSpec(path=str(RU1901), kind="tick")
        results = []
        seconds = _timed(
            lambda: results.append(run_import(spec, store, {"ru1901": "SHFE"}.get, lambda done, text: None))
        )
        store.flush()
        size = _size(folder)
        read = _timed(lambda: _read(store, [Series("ru1901", "SHFE")]))
        ticks = np.concatenate(list(store.ticks(Series("ru1901", "SHFE"), 0, LAST_NS)))
    count = results[0].added
    return {"in": count / seconds, "out": count / read, "bytes": size / count}, ticks


def _read(store: EmbeddedStore, wanted: list[Series]) -> list[int]:
    return [rows.size for series in wanted for rows in store.ticks(series, 0, LAST_NS)]


def _bars(store: EmbeddedStore, wanted: list[Series]) -> int:
    minute = Period.parse(Interval.MINUTE)
    return sum(
        bars.size
        for series in wanted
        for bars in bars_from_ticks(store.ticks(series, 0, LAST_NS, columns=COLUMNS), minute, series.exchange)
    )


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _size(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


# --- VnPy's drivers, in processes of their own ---


def driven(folder: Path, driver: str, ticks: TickArray, symbol: str) -> Rates:
    """Ticks through `save_tick_data` and `load_tick_data` of a driver."""
    home = folder / driver / symbol
    (home / ".vntrader").mkdir(parents=True)
    (home / ".vntrader" / "vt_setting.json").write_text(
        '{"log.active": false, "log.console": false, "log.file": false}'
    )
    np.save(home / "ticks.npy", ticks)
    command = [sys.executable, __file__, "--driver", driver, "--symbol", symbol]
    environment = {**os.environ, "HOME": str(home)}
    done = subprocess.run(command, cwd=home, env=environment, check=True, capture_output=True, text=True)
    rates: Rates = json.loads(done.stdout.splitlines()[-1])
    return rates


def drive(driver: str, symbol: str) -> None:
    """The child's work, in its home."""
    from vnpy.trader.constant import Exchange  # noqa: PLC0415 - VnPy's home is where this process was started

    home = Path.cwd()
    rows = np.load(home / "ticks.npy")
    if driver == "vnpy_sqlite":
        from vnpy_sqlite import Database  # noqa: PLC0415

        _report(home / ".vntrader", Database(), rows, symbol, Exchange.SHFE)
    else:
        from vnpy_core.engine.database import CoreDatabase  # noqa: PLC0415

        with opened(home / "timeseries") as store:
            _report(home / "timeseries", CoreDatabase(store), rows, symbol, Exchange.SHFE, store.flush)


def _report(
    folder: Path, database: Any, rows: TickArray, symbol: str, exchange: Any, settle: Callable[[], None] = bool
) -> None:
    objects = tick_objects(rows, symbol, exchange)
    parts = [objects[first : first + 1000] for first in range(0, len(objects), 1000)]
    start, end = objects[0].datetime.replace(tzinfo=None), objects[-1].datetime.replace(tzinfo=None)
    saved = _timed(lambda: [database.save_tick_data(part, stream=True) for part in parts])
    settle()
    found: list[Any] = []
    loaded = _timed(lambda: found.extend(database.load_tick_data(symbol, exchange, start, end)))
    print(json.dumps({"in": len(rows) / saved, "out": len(found) / loaded, "bytes": _size(folder) / len(found)}))


def tick_objects(rows: TickArray, symbol: str, exchange: Any) -> list[Any]:
    from vnpy.trader.database import DB_TZ  # noqa: PLC0415
    from vnpy.trader.object import TickData  # noqa: PLC0415

    from vnpy_core.domain.history import TICK_NUMBERS, to_datetime  # noqa: PLC0415

    return [
        TickData(
            gateway_name="BENCH", symbol=symbol, exchange=exchange,
            datetime=to_datetime(int(row["ts"])).astimezone(DB_TZ),
            **{name: float(row[name]) for name in TICK_NUMBERS},
        )
        for row in rows
    ]  # fmt: skip


# --- a whole service ---

CONFIG = """
[server]
port = {port}
[paths]
data = "{folder}/data"
strategies = "{folder}/strategies"
[journal]
reserve_mb = 0
[recorder]
symbols = []
[gateways.PAPER]
class = "vnpy_core.gateways.paper.gateway:PaperGateway"
auto_connect = true
[gateways.PAPER.setting]
contracts = "{contracts}"
symbols = "{symbols}"
[gateways.TICKS]
class = "tick_source:TickSource"
auto_connect = true
[gateways.TICKS.setting]
rate = {rate}
stats = "{folder}/stats.json"
"""
SYMBOLS = [f"rb27{month:02}.SHFE" for month in range(1, 13)]
"""Several, as VnPy's risk manager allows 1,000 cancels a day of one."""
SETTLE_S, ROUND_S, EVERY_S = 2.0, 8.0, 0.03


class Overloaded(Exception):
    """The service is too busy for this."""


class Service:
    """The service with its market, and one client."""

    def __init__(self, folder: Path, rate: int) -> None:
        self.folder = folder
        self.refused = 0
        """Orders that were answered with 503."""
        (folder / "strategies").mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config = folder / "service.toml"
        config.write_text(
            CONFIG.format(
                port=port, folder=folder, rate=rate, symbols=";".join(SYMBOLS),
                contracts=REPOSITORY / "vnpy_config" / "contracts.toml",
            )
        )  # fmt: skip
        environment = {
            **os.environ,
            "VNPYCORE__AUTH__ADMIN_PASSWORD": PASSWORD,
            "PYTHONPATH": str(Path(__file__).parent),
        }
        command = [sys.executable, "-m", "vnpy_core", "serve", "-c", str(config)]
        self._log = (folder / "log.txt").open("wb")
        self.process = subprocess.Popen(command, env=environment, stdout=self._log, stderr=self._log)
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._headers = {"Content-Type": "application/json"}
        while not self._is_ready():
            assert self.process.poll() is None, (folder / "log.txt").read_text()[-2000:]
            time.sleep(0.05)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        self._connection.request("POST", "/api/v1/auth/token", f"username=admin&password={PASSWORD}", form)
        token = json.loads(self._connection.getresponse().read())["access_token"]
        self._headers["Authorization"] = f"Bearer {token}"

    def _is_ready(self) -> bool:
        try:
            self._connection.request("GET", "/health/ready")
            answer = self._connection.getresponse()
            answer.read()
            return answer.status == 200
        except OSError:
            self._connection.close()
            return False

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        self._connection.request(method, f"/api/v1{path}", json.dumps(body) if body else None, self._headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status == 503:
            raise Overloaded
        assert answer.status < 300, f"{method} {path}: {answer.status} {content!r}"
        return json.loads(content) if content else None

    def rest(self, seconds: float) -> None:
        self._connection.close()  # the server would
        time.sleep(seconds)

    def sent(self) -> tuple[int, float]:
        """Ticks that the engine has handled, and when that was."""
        stats = json.loads((self.folder / "stats.json").read_text())
        return stats["handled"], stats["at"]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self._log.close()


def order_times(service: Service, number: int) -> Iterator[float]:
    """Milliseconds of POST /orders for a while, at uneven times; each order rests and is cancelled."""
    chance = random.Random(number)
    until = time.monotonic() + ROUND_S
    while time.monotonic() < until:
        time.sleep(EVERY_S * chance.uniform(0.5, 1.5))
        number += 1
        symbol = SYMBOLS[number % len(SYMBOLS)]
        bid = service.ask("GET", f"/trading/ticks/{symbol}")["bid_price_1"]
        body = {
            "vt_symbol": symbol, "direction": "LONG", "offset": "OPEN", "type": "LIMIT", "volume": 1,
            "price": bid - 20 - chance.randrange(150),
        }  # fmt: skip
        started = time.perf_counter()
        try:
            order = service.ask("POST", "/trading/orders", body)
        except Overloaded:
            service.refused += 1
            continue
        yield (time.perf_counter() - started) * 1000
        service.ask("DELETE", f"/trading/orders/{order['vt_orderid']}")


def live(folder: Path, rate: int, rounds: int) -> None:
    service = Service(folder, rate)
    times: dict[bool, list[float]] = {False: [], True: []}
    rates: dict[bool, list[float]] = {False: [], True: []}
    p99s: dict[bool, list[float]] = {False: [], True: []}
    cpu: dict[bool, list[float]] = {False: [], True: []}
    lag = 0.0
    try:
        for symbol in SYMBOLS:
            service.ask("POST", "/trading/subscriptions", {"vt_symbol": symbol})
        service.rest(5)
        for number in range(rounds * 2):
            recording = number % 2 == 1
            service.ask("PUT", "/data/recorder", {"symbols": ["*"] if recording else []})
            service.rest(SETTLE_S)
            before, began, used = *service.sent(), _cpu_s(service.process.pid)
            started = time.monotonic()
            taken = list(order_times(service, number * 1000))
            times[recording] += taken
            p99s[recording].append(_percentile(taken, 0.99))
            cpu[recording].append((_cpu_s(service.process.pid) - used) / (time.monotonic() - started) * 100)
            handled, at = service.sent()
            rates[recording].append((handled - before) / (at - began))
            if recording:
                lag = max(lag, service.ask("GET", "/data/recorder")["lag_ms"])
        state = service.ask("GET", "/data/recorder")
    finally:
        service.stop()
    print(f"\nlive: {rate:,} ticks/s of 50 contracts asked, {rounds} rounds of {ROUND_S:.0f} s each, in turn")
    for recording, name in ((False, "recorder off"), (True, "recorder on")):
        print(
            f"  {name:13} {statistics.mean(rates[recording]):8,.0f} ticks/s handled   POST /orders "
            f"p50 {_percentile(times[recording], 0.5):6.2f} ms  p99 {_percentile(times[recording], 0.99):6.2f} ms  "
            f"(rounds' p99 {statistics.median(p99s[recording]):6.2f})  of {len(times[recording])}   "
            f"CPU {statistics.mean(cpu[recording]):4.0f} %"
        )
    print(
        f"  recorded {state['recorded']:,}, dropped {state['dropped']:,}, bars {state['bars']:,}, lag {lag:.0f} ms",
        end="; ",
    )
    print(f"{service.refused} orders answered with 503")
    off, on = (_percentile(times[recording], 0.99) for recording in (False, True))
    asked("ticks/s while recording", f"{rate:,}", f"{statistics.mean(rates[True]):,.0f}")
    asked("order p99 with recorder", "within 10 %", f"{(on / off - 1) * 100:+.1f} %")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _percentile(values: list[float], part: float) -> float:
    return sorted(values)[int(len(values) * part)]


# --- all of it ---


def asked(what: str, wanted: str, measured: str) -> None:
    print(f"  {what:44} asked {wanted:>14}   measured {measured:>14}")


def stores(folder: Path) -> None:
    ticks = generated()
    ours, peer = (
        appended(folder / "append", ticks),
        driven(folder, "vnpy_sqlite", ticks[Series("gen00", "SHFE")][:PEER_TICKS], "gen00"),
    )
    with_look = merged(folder / "merge", ticks)
    driver = driven(folder, "vnpy_core", ticks[Series("gen00", "SHFE")], "gen00")
    print(f"\n{CONTRACTS * TICKS_EACH:,} generated ticks of {CONTRACTS} contracts, five levels", end=" ")
    print(f"(core driver: {TICKS_EACH:,} of one; vnpy_sqlite: {PEER_TICKS:,})")
    rows = [
        ("append (recorder)", ours),
        ("merge (import)", with_look),
        ("VnPy driver: core", driver),
        ("VnPy driver: sqlite", peer),
    ]
    _table(rows)
    asked("ticks/s in, sustained (rolled too)", "50,000", f"{ours['in, rolled too']:,.0f}")
    asked("that beside vnpy_sqlite", "10 x", f"{ours['in, rolled too'] / peer['in']:.0f} x")
    asked("1-minute bars of 1M ticks", "100 ms", f"{ours['bars'] * 1000:.0f} ms")
    asked("the same, two contracts at a time", "", f"{ours['bars, two at a time'] * 1000:.0f} ms")
    asked("the same, the first time", "", f"{ours['bars first'] * 1000:.0f} ms")
    asked("range read, ticks/s beside vnpy_sqlite", "", f"{ours['out'] / peer['out']:.0f} x")
    asked("bytes per tick", "60", f"{ours['bytes']:.1f} / {peer['bytes']:.0f}")
    if not RU1901.is_file():
        print(f"\nno real ticks at {RU1901}")
        return
    real, rows_of_ru = imported(folder / "ru1901")
    real_driver = driven(folder, "vnpy_core", rows_of_ru, "ru1901")
    real_peer = driven(folder, "vnpy_sqlite", rows_of_ru[:PEER_TICKS], "ru1901")
    print(f"\n{rows_of_ru.size:,} real ticks of ru1901 (vnpy_sqlite: the first {PEER_TICKS:,})")
    _table([("import of the zip", real), ("VnPy driver: core", real_driver), ("VnPy driver: sqlite", real_peer)])
    asked("bytes per tick", "60", f"{real['bytes']:.1f} / {real_peer['bytes']:.0f}")


def _table(rows: list[tuple[str, Rates]]) -> None:
    print(f"  {'':22} {'ticks/s in':>12} {'ticks/s out':>12} {'bytes/tick':>11}")
    for name, rates in rows:
        shown = [f"{rates[key]:{width}}" if key in rates else " " * int(width.split(",")[0].split(".")[0])
                 for key, width in (("in", "12,.0f"), ("out", "12,.0f"), ("bytes", "11.1f"))]  # fmt: skip
        print(f"  {name:22} {' '.join(shown)}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--part", choices=["store", "live", "all"], default="all")
    arguments.add_argument("--rate", type=int, default=20_000)
    arguments.add_argument("--rounds", type=int, default=6)
    arguments.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    arguments.add_argument("--driver", help=argparse.SUPPRESS)
    arguments.add_argument("--symbol", help=argparse.SUPPRESS)
    wanted = arguments.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    if wanted.driver:
        drive(wanted.driver, wanted.symbol)
        return
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{os.cpu_count()} processors, load {load}, Python {sys.version.split()[0]}, in {wanted.folder}")
    for part, work in (("store", stores), ("live", lambda folder: live(folder, wanted.rate, wanted.rounds))):
        if wanted.part in (part, "all"):
            with tempfile.TemporaryDirectory(dir=wanted.folder) as name:
                work(Path(name))


if __name__ == "__main__":
    main()
