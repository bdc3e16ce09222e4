"""The life of the process: start, restart, stop under load, and what a second one is told."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from e2e.conftest import DEMO, REPOSITORY, free_port
from testkit import invariants

ORDER = {"vt_symbol": "ru2701.SHFE", "direction": "LONG", "offset": "OPEN", "type": "LIMIT", "volume": 1}


def resting_price(service) -> float:
    service.client.post("/trading/subscriptions", json={"vt_symbol": "ru2701.SHFE"})
    for _ in range(500):
        answer = service.client.get("/trading/ticks/ru2701.SHFE")
        if answer.status_code == 200:
            return answer.json()["bid_price_1"] - 200
        time.sleep(0.01)
    raise AssertionError("no tick of ru2701 arrives")


def books(service) -> dict[str, list[dict[str, object]]]:
    lists = {what: service.get_all(f"/trading/{what}") for what in ("orders", "trades", "positions")}
    volatile = ("seq", "updated_at", "pnl", "client_order_id")
    return {w: [{k: v for k, v in row.items() if k not in volatile} for row in rows] for w, rows in lists.items()}


def test_orders_trades_positions_and_subscriptions_survive_kill_and_restart(make_service):
    service = make_service(DEMO)
    price = resting_price(service)
    traded = service.client.post("/trading/orders", json={**ORDER, "type": "MARKET"}).json()
    assert traded["status"] == "ALLTRADED", traded
    rested = service.client.post("/trading/orders", json={**ORDER, "price": price}).json()
    assert rested["status"] == "NOTTRADED"
    before = {w: [r for r in rows if r["vt_symbol"] == "ru2701.SHFE"] for w, rows in books(service).items()}
    service.process.kill()
    service.process.wait()
    service.client.close()
    service.start()
    after = {w: [r for r in rows if r["vt_symbol"] == "ru2701.SHFE"] for w, rows in books(service).items()}
    assert after == before
    assert {"vt_symbol": "ru2701.SHFE", "gateway_name": "PAPER"} in service.get_all("/trading/subscriptions")
    again = service.client.post("/trading/orders", json={**ORDER, "price": price}).json()
    assert again["vt_orderid"] > rested["vt_orderid"]
    assert service.client.delete(f"/trading/orders/{rested['vt_orderid']}").status_code == 202
    assert service.stop() == 0


def test_sigterm_under_load_cancels_publishes_and_drops_nothing(make_service):
    service = make_service(DEMO.replace("rate = 20.0", "rate = 500.0"))
    price = resting_price(service)
    seen: dict[str, str] = {}
    headers = {"Authorization": f"Bearer {service.token}"}
    with connect(f"ws://127.0.0.1:{service.port}/ws", additional_headers=headers) as socket:
        socket.send(json.dumps({"op": "subscribe", "topics": ["order.updated", "tick.*"]}))
        bodies = {"orders": [{**ORDER, "price": price - 5 * step} for step in range(20)]}
        answer = service.client.post("/trading/orders/batch", json=bodies)
        placed = [item["order"]["vt_orderid"] for item in answer.json()["items"]]
        started = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        seqs = []
        for message in until_closed(socket, code=1001):
            if message.get("topic") == "order.updated" and not message.get("snapshot"):
                seen[message["data"]["vt_orderid"]] = message["data"]["status"]
                seqs.append(message["seq"])
    assert service.stop() == 0
    seconds = time.monotonic() - started
    print(f"stopped in {seconds:.2f} s")
    assert seconds < 10
    assert [seen[vt_orderid] for vt_orderid in placed] == ["CANCELLED"] * 20
    assert seqs == sorted(set(seqs))
    path = service.folder / "vnpy_data" / ".vntrader" / "paper_paper.sqlite"
    with closing(sqlite3.connect(path)) as ledger:
        statuses = dict(ledger.execute("select orderid, status from orders").fetchall())
    assert {vt_orderid: statuses[vt_orderid.split(".")[1]] for vt_orderid in seen} == seen
    assert "left in the queue" not in service.log.read_text()
    data = service.folder / "vnpy_data"
    store_url = f"sqlite+aiosqlite:///{data}/store.sqlite"
    found = invariants.check(path, data / "journal.sqlite", store_url, within=0)
    assert len(found.ledger_orders) >= 20


def until_closed(socket, code: int) -> Iterator[dict[str, object]]:
    """Every message until the server closes with `code`."""
    while True:
        try:
            yield json.loads(socket.recv(20))
        except ConnectionClosed as closed:
            assert closed.rcvd.code == code
            return


def run_second(service, **environ: str) -> tuple[int, str, float]:
    started = time.monotonic()
    command = [sys.executable, "-m", "vnpy_core", "serve", "--config", str(service.config)]
    second = subprocess.run(
        command,
        check=False,
        env={**service.environ, **environ},
        cwd=service.folder,
        capture_output=True,
        text=True,
        timeout=20,
    )
    return second.returncode, second.stderr, time.monotonic() - started


def test_a_second_instance_on_the_data_folder_and_a_taken_port_are_refused_in_words(make_service):
    service = make_service(DEMO)
    code, said, seconds = run_second(service, VNPYCORE__SERVER__PORT=str(free_port()))
    print(f"refused in {seconds:.2f} s")
    assert code == 1
    assert "in use by another service" in said
    assert "Traceback" not in said
    other = service.folder / "other_data"
    code, said, _ = run_second(service, VNPYCORE__PATHS__DATA=str(other))
    assert code == 1
    assert str(service.port) in said
    assert "Traceback" not in said
    assert service.client.get("/system/status").status_code == 200


def test_a_broken_strategy_file_app_and_gateway_are_told_and_the_rest_starts(make_service, tmp_path):
    strategies = tmp_path / "strategies"
    strategies.mkdir()
    (strategies / "demo_strategy.py").write_text((REPOSITORY / "strategies" / "demo_strategy.py").read_text())
    (strategies / "bad_syntax.py").write_text("def broken(:\n")
    (strategies / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    config = DEMO + '\n[apps.Odd]\nclass = "no_such_app:App"\n\n[gateways.GONE]\nclass = "no_such_gateway:Gateway"\n'
    service = make_service(config)
    status = service.client.get("/system/status").json()
    assert "no_such_app" in status["apps"]["Odd"]
    gateways = {g["gateway_name"]: g for g in service.client.get("/trading/gateways").json()["items"]}
    assert "no_such_gateway" in gateways["GONE"]["message"]
    assert gateways["PAPER"]["connected"]
    log = service.log.read_text()
    assert "bad_syntax" in log
    assert "leaves" in log
    assert service.client.post("/trading/orders", json={**ORDER, "price": 15000}).status_code == 201


def test_a_broken_risk_rule_refuses_the_start_in_words(make_service, tmp_path):
    rules = tmp_path / "vnpy_data" / "rules"
    rules.mkdir(parents=True)
    (rules / "broken_rule.py").write_text("raise ValueError('broken rule')\n")
    with pytest.raises(AssertionError, match="RiskManager could not be loaded"):
        make_service(DEMO)


RUN_PY = """
import os, sys, time
from pathlib import Path
Path(".vntrader").mkdir(exist_ok=True)
from vnpy.event import EventEngine
from vnpy.trader.engine import MainEngine
from vnpy_riskmanager import RiskManagerApp
from vnpy_ctastrategy import CtaStrategyApp
from vnpy_core.gateways.paper.gateway import PaperGateway
from vnpy_core.plugin import CoreServiceApp

main_engine = MainEngine(EventEngine())
main_engine.add_gateway(PaperGateway)
service = main_engine.add_app(CoreServiceApp)
main_engine.add_app(RiskManagerApp)
main_engine.add_app(CtaStrategyApp)
before = os.getcwd()
main_engine.connect({"contracts": sys.argv[1], "rate": 20.0}, "PAPER")
assert service.ready.wait(20), "not ready"
Path("address.new").write_text(service.address or service.error)
os.rename("address.new", "address")
sys.stdin.readline()
main_engine.close()
assert os.getcwd() == before
assert not [n for n in ("put", "_process", "stop") if n in vars(main_engine.event_engine)]
print("closed", flush=True)
"""


def test_the_plugin_serves_the_same_api_from_a_plain_run_py(tmp_path):
    (tmp_path / "run.py").write_text(RUN_PY)
    password = "correct-horse-battery-staple-9"
    import os

    environ = {
        **os.environ,
        "VNPYCORE__SERVER__PORT": str(free_port()),
        "VNPYCORE__AUTH__ADMIN_PASSWORD": password,
    }
    contracts = str(REPOSITORY / "vnpy_config" / "contracts.toml")
    host = subprocess.Popen(
        [sys.executable, "run.py", contracts],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ, cwd=tmp_path,
    )  # fmt: skip
    try:
        while not (tmp_path / "address").exists():  # not by its output, which VnPy's log writes into
            assert host.poll() is None, host.stderr.read()
            time.sleep(0.05)
        url = (tmp_path / "address").read_text()
        with httpx2.Client(base_url=f"{url}/api/v1", timeout=10) as client:
            tokens = client.post("/auth/token", data={"username": "admin", "password": password}).json()
            client.headers["Authorization"] = f"Bearer {tokens['access_token']}"
            deadline = time.monotonic() + 10
            while "RiskManager" not in client.get("/system/status").json()["apps"]:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            time.sleep(1.5)  # apps that were added after the plugin are adopted within a second
            order = client.post("/trading/orders", json={**ORDER, "price": 13000}).json()
            assert order["status"] == "NOTTRADED", order
            denied = client.post("/trading/orders", json={**ORDER, "price": 13000, "volume": 501})
            assert denied.json()["code"] == "RISK_DENIED"
            assert client.delete(f"/trading/orders/{order['vt_orderid']}").status_code == 202
        out, err = host.communicate("\n", timeout=20)
        assert "closed" in out, err
        assert host.returncode == 0, err
    finally:
        if host.poll() is None:
            host.kill()
            host.communicate()


def test_the_plugins_ui_package_imports_without_qt():
    code = "import vnpy_core.plugin.ui; import sys; assert 'PySide6' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
