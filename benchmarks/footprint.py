"""What the service costs against a plain VnPy run.py with the same apps and the same market, in one run.

    .venv/bin/python benchmarks/footprint.py [--rounds 5] [--seconds 20]

Prints the time from start to ready, CPU and memory while idle on the demo market, and the time of an order over REST,
each beside its peer: the plain run.py, and for the order a request that does nothing.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2

REPOSITORY = Path(__file__).resolve().parents[1]
PASSWORD = "for-the-benchmark-only-7"

PLAIN = """
import sys
from pathlib import Path
from vnpy.event import EventEngine
from vnpy.trader.engine import MainEngine
from vnpy_algotrading import AlgoTradingApp
from vnpy_ctastrategy import CtaStrategyApp
from vnpy_datamanager import DataManagerApp
from vnpy_riskmanager import RiskManagerApp
from vnpy_core.gateways.paper.gateway import PaperGateway

main_engine = MainEngine(EventEngine())
main_engine.add_gateway(PaperGateway)
for app in (CtaStrategyApp, AlgoTradingApp, DataManagerApp, RiskManagerApp):
    engine = main_engine.add_app(app)
    if hasattr(engine, "init_engine"):
        engine.init_engine()
cta = main_engine.get_engine("CtaStrategy")
main_engine.connect({"contracts": sys.argv[1]}, "PAPER")
while main_engine.get_contract("rb2701.SHFE") is None:
    pass
cta.add_strategy("DemoStrategy", "demo", "rb2701.SHFE", {})
cta.init_strategy("demo").result()
cta.start_strategy("demo")
print("ready", flush=True)
sys.stdin.readline()
main_engine.close()
"""


class Plain:
    """VnPy alone."""

    def __init__(self, folder: Path) -> None:
        (folder / ".vntrader").mkdir()
        (folder / ".vntrader" / "vt_setting.json").write_text('{"log.console": false, "log.file": false}')
        (folder / "strategies").symlink_to(REPOSITORY / "strategies")
        (folder / "run.py").write_text(PLAIN)
        started = time.monotonic()
        contracts = str(REPOSITORY / "vnpy_config" / "contracts.toml")
        self.process = subprocess.Popen(
            [sys.executable, "run.py", contracts], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        while (line := self.process.stdout.readline()) != "ready\n":
            assert line, "the plain run.py ended"
        self.ready_s = time.monotonic() - started

    def stop(self) -> None:
        self.process.communicate("\n", timeout=20)


class Service:
    """The service as `make run` starts it."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        environ = {
            **os.environ,
            "VNPYCORE__SERVER__PORT": str(port),
            "VNPYCORE__PATHS__DATA": str(folder / "vnpy_data"),
            "VNPYCORE__AUTH__ADMIN_PASSWORD": PASSWORD,
        }
        started = time.monotonic()
        command = [sys.executable, "-m", "vnpy_core", "serve", "-c", str(REPOSITORY / "vnpy_config" / "service.toml")]
        self.process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                if httpx2.get(f"{self.url}/health/ready", timeout=1).status_code == 200:
                    break
            except httpx2.HTTPError:
                assert self.process.poll() is None, "the service ended"
                time.sleep(0.01)
        self.ready_s = time.monotonic() - started

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def idle(pid: int, seconds: float) -> tuple[float, float]:
    """Percent of a core, and megabytes."""
    before = cpu_s(pid)
    time.sleep(seconds)
    return (cpu_s(pid) - before) / seconds * 100, memory_mb(pid)


def order_times(service: Service, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds of orders that rest, and of requests that do nothing, in turn."""
    orders, nothings = [], []
    with httpx2.Client(base_url=service.url) as client:
        answer = client.post("/api/v1/auth/token", data={"username": "admin", "password": PASSWORD})
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        tick = None
        while tick is None:
            answer = client.get("/api/v1/trading/ticks/rb2701.SHFE")
            tick = answer.json() if answer.status_code == 200 else None
        body = {"vt_symbol": "rb2701.SHFE", "direction": "LONG", "offset": "OPEN", "type": "LIMIT", "volume": 1}
        for number in range(count):
            price = tick["bid_price_1"] - 50 - number % 40
            started = time.perf_counter()
            answer = client.post("/api/v1/trading/orders", json={**body, "price": price})
            orders.append((time.perf_counter() - started) * 1000)
            started = time.perf_counter()
            client.get("/health/live")
            nothings.append((time.perf_counter() - started) * 1000)
            if answer.status_code == 201:
                client.delete(f"/api/v1/trading/orders/{answer.json()['vt_orderid']}")
    return orders, nothings


def p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=20)
    wanted = arguments.parse_args()
    ready: dict[type, list[float]] = {Plain: [], Service: []}
    for _ in range(wanted.rounds):
        for kind, times in ready.items():
            with tempfile.TemporaryDirectory() as folder:
                running = kind(Path(folder))
                times.append(running.ready_s)
                running.stop()
    plain, ours = (statistics.median(times) for times in ready.values())
    best = min(ready[Service])
    print(f"ready          service {ours:.2f} s (best {best:.2f})   plain {plain:.2f} s   {ours / plain:.2f}")
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        peer, service = Plain(Path(one)), Service(Path(two))
        time.sleep(2)
        (plain_cpu, plain_mb), (cpu, mb) = (
            idle(peer.process.pid, wanted.seconds),
            idle(service.process.pid, wanted.seconds),
        )
        peer.stop()
        print(f"CPU of a core  service {cpu:.2f} %   plain {plain_cpu:.2f} %")
        print(f"memory         service {mb:.0f} MB   plain {plain_mb:.0f} MB   {mb / plain_mb:.2f}")
        orders, nothings = order_times(service, 400)
        ratio = statistics.median(orders) / statistics.median(nothings)
        print(
            f"POST /orders   p50 {statistics.median(orders):.2f} ms, p99 {p99(orders):.2f} ms   "
            f"GET /health/live p50 {statistics.median(nothings):.2f} ms   {ratio:.1f}"
        )
        service.stop()


if __name__ == "__main__":
    main()
