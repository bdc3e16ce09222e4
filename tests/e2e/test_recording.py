"""Recording in the real process: kill -9, and an InfluxDB that is stopped, hung and back."""

from __future__ import annotations

import contextlib
import itertools
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from testkit.influx import TOKEN, InfluxDb
from testkit.load import eventually
from testkit.servers import running
from vnpy_core.adapters.timeseries.embedded import EmbeddedStore
from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings
from vnpy_core.domain.bars import Period, bars_from_ticks
from vnpy_core.domain.history import FIRST_NS, LAST_NS, NS, Interval, Series
from vnpy_core.kit.clock import SystemClock

REPOSITORY = Path(__file__).resolve().parents[2]
SYMBOLS = ["rb2701.SHFE", "ru2701.SHFE", "IF2612.CFFEX", "BTCUSDT_SWAP_BINANCE.GLOBAL"]
RING = 2_000
MEMORY_MB = 50
"""What a service may grow by while its InfluxDB is away."""
ORDER = {"vt_symbol": "rb2701.SHFE", "direction": "LONG", "offset": "OPEN", "type": "LIMIT", "volume": 1}
PRICES = itertools.cycle(range(3200, 3300))
"""Far from the market, and never the same: risk control denies repeated orders."""
CONFIG = """
[log]
format = "json"

[gateways.PAPER]
class = "vnpy_core.gateways.paper.gateway:PaperGateway"
auto_connect = true

[gateways.PAPER.setting]
contracts = "{contracts}"
rate = {rate}
"""
INFLUX = """
[timeseries]
kind = "influxdb"
url = "{url}"
bucket = "{bucket}"
timeout_s = {timeout}

[recorder]
ring = {ring}
"""


def config(rate: float, more: str = "") -> str:
    return CONFIG.format(contracts=REPOSITORY / "vnpy_config" / "contracts.toml", rate=rate) + more


def subscribe(service: Any) -> None:
    for vt_symbol in SYMBOLS:
        answer = service.client.post("/trading/subscriptions", json={"vt_symbol": vt_symbol})
        assert answer.status_code < 300, answer.text


def recorder(service: Any) -> dict[str, Any]:
    answer = service.client.get("/data/recorder")
    assert answer.status_code == 200, answer.text
    return answer.json()


def place(service: Any) -> float:
    """Place an order and cancel it; milliseconds until the answer."""
    began = time.perf_counter()
    answer = service.client.post("/trading/orders", json=ORDER | {"price": next(PRICES)})
    took = (time.perf_counter() - began) * 1000
    assert answer.status_code == 201, answer.text
    service.client.delete(f"/trading/orders/{answer.json()['vt_orderid']}")
    return took


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 2**20


@pytest.fixture(scope="module")
def influx() -> Iterator[InfluxDb]:
    with running(InfluxDb) as server:
        assert isinstance(server, InfluxDb)
        yield server


def test_a_killed_service_has_each_tick_that_it_had_recorded_once_and_its_bars_are_those_of_its_ticks(make_service):
    service = make_service(config(rate=100.0))
    for _ in range(2):
        subscribe(service)
        eventually(lambda: recorder(service)["recorded"] > 500, 20, "nothing is recorded")
        known = recorder(service)
        service.process.send_signal(signal.SIGKILL)
        service.process.wait()
        service.client.close()
        service.start()
        stored = {
            item["vt_symbol"]: item["count"] for item in service.client.get("/data/overview?kind=tick").json()["items"]
        }
        for vt_symbol, counts in known["symbols"].items():
            assert stored[vt_symbol] >= counts["recorded"], vt_symbol
    subscribe(service)
    minute = int(time.time() // 60)
    eventually(lambda: time.time() // 60 > minute and recorder(service)["bars"] >= len(SYMBOLS), 90, "no bars")
    assert service.stop() == 0

    store = EmbeddedStore(service.folder / "vnpy_data" / "timeseries", TimeSeriesSettings(), SystemClock())
    store.open()
    try:
        for vt_symbol in SYMBOLS:
            series = Series(*vt_symbol.rsplit(".", 1))
            ticks = np.concatenate(list(store.ticks(series, FIRST_NS, LAST_NS)))
            assert (np.diff(ticks["ts"]) > 0).all()
            # The generated market gives each tick a time of its own: none was stored again after a kill.
            assert len(np.unique(ticks["ts"] // 1000)) == len(ticks)
            bars = np.concatenate(list(store.bars(series, Interval.MINUTE, FIRST_NS, LAST_NS)))
            expected = np.concatenate(list(bars_from_ticks([ticks], Period.parse("1m"), series.exchange)))
            over = expected[expected["ts"] + 60 * NS <= bars["ts"][-1] + 60 * NS]
            assert bars.tolist() == over.tolist()
    finally:
        store.close()


def test_an_influxdb_that_is_stopped_and_back_costs_ticks_that_are_told_and_no_order(make_service, influx: InfluxDb):
    bucket = influx.fresh_database()
    more = INFLUX.format(url=influx.url(), bucket=bucket, ring=RING, timeout=2.0)
    service = make_service(config(rate=200.0, more=more), environ={"VNPYCORE__TIMESERIES__TOKEN": TOKEN})
    subscribe(service)
    eventually(lambda: recorder(service)["recorded"] > 500, 20, "nothing is recorded")
    before = sorted(place(service) for _ in range(20))
    resident = resident_mb(service.process.pid)

    influx.stop()
    eventually(lambda: recorder(service)["dropped"] > 500, 30, "the ring does not fill")
    during = sorted(place(service) for _ in range(20))
    state = recorder(service)
    assert state["waiting"] <= RING
    assert state["error"]
    assert {gap["vt_symbol"] for gap in state["gaps"]} == set(SYMBOLS)
    assert service.client.get(f"/data/ticks?vt_symbol={SYMBOLS[0]}").status_code == 503
    ready = httpx2.get(f"{service.url}/health/ready")
    assert (ready.status_code, ready.json()["components"]["recorder"]) == (200, "degraded")
    grown = resident_mb(service.process.pid) - resident
    print(f"orders p50 {before[10]:.1f} → {during[10]:.1f} ms, slowest {during[-1]:.1f} ms, {grown:.0f} MB more")
    assert grown < MEMORY_MB
    assert service.client.get("/system/status").json()["event_thread"]["handler_errors"] == 0

    influx.start()
    eventually(
        lambda: recorder(service)["error"] == "" and recorder(service)["waiting"] < RING // 4, 30, "not well again"
    )
    assert service.stop() == 0
    rows = influx.query("SELECT COUNT(last_price) FROM tick", bucket)[0]["series"][0]["values"][0][1]
    assert rows >= state["recorded"] + RING // 2  # what waited is there too


def test_a_service_ends_in_time_though_its_influxdb_hangs(make_service, influx: InfluxDb):
    more = INFLUX.format(url=influx.url(), bucket=influx.fresh_database(), ring=RING, timeout=2.0)
    service = make_service(config(rate=50.0, more=more), environ={"VNPYCORE__TIMESERIES__TOKEN": TOKEN})
    subscribe(service)
    eventually(lambda: recorder(service)["recorded"] > 50, 20, "nothing is recorded")
    influx.pause()
    try:
        eventually(lambda: recorder(service)["error"], 20, "it does not notice")
        assert place(service) < 5_000
        assert service.stop(deadline=10) == 0
    finally:
        influx.resume()


def test_a_server_that_never_answers_holds_up_neither_the_start_nor_the_end_however_long_it_may_take(make_service):
    with socket.create_server(("127.0.0.1", 0)) as hole:
        more = INFLUX.format(url=f"http://127.0.0.1:{hole.getsockname()[1]}", bucket="vnpy", ring=RING, timeout=120.0)
        service = make_service(config(rate=50.0, more=more))
        assert service.ready_s < 25
        assert place(service) < 5_000
        for _ in range(20):
            threading.Thread(target=_ask_in_vain, args=[service], daemon=True).start()
        time.sleep(1)  # until they wait
        assert service.stop(deadline=10) == 0


def _ask_in_vain(service: Any) -> None:
    with contextlib.suppress(httpx2.HTTPError):
        httpx2.get(
            f"{service.url}/api/v1/data/bars?vt_symbol={SYMBOLS[0]}&interval=1m",
            headers={"Authorization": f"Bearer {service.token}"},
            timeout=60,
        )


class _Full(BaseHTTPRequestHandler):
    """Answers as an InfluxDB whose disk is full."""

    def do_POST(self) -> None:
        answer = b'{"error": "engine: error writing WAL entry: no space left on device"}'
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(500)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def test_a_tick_store_whose_disk_is_full_keeps_nobody_from_trading(make_service):
    with ThreadingHTTPServer(("127.0.0.1", 0), _Full) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        more = INFLUX.format(url=f"http://127.0.0.1:{server.server_port}", bucket="vnpy", ring=RING, timeout=2.0)
        service = make_service(config(rate=50.0, more=more))
        assert place(service) < 5_000
        eventually(lambda: "disk" in recorder(service)["error"] or "space" in recorder(service)["error"], 20, "untold")
        assert service.stop() == 0
        server.shutdown()


def test_a_service_ends_in_time_though_another_tool_has_locked_its_ticks(make_service):
    service = make_service(config(rate=50.0))
    subscribe(service)
    eventually(lambda: recorder(service)["recorded"] > 50, 20, "nothing is recorded")
    catalog = service.folder / "vnpy_data" / "timeseries" / "catalog.sqlite"
    with contextlib.closing(sqlite3.connect(catalog, isolation_level=None, timeout=20)) as other:
        other.execute("begin immediate")
        time.sleep(1)  # until a write waits
        assert service.stop(deadline=10) == 0
