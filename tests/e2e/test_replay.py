"""From a recorded market to filled orders, through the real process: five days of SHFE rubber at full speed."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

pytestmark = [pytest.mark.realdata, pytest.mark.timeout(400)]  # two replays, each of which may take 180 s

TICKS = 192_164
COUNTER = Path(__file__).resolve().parents[1] / "testkit" / "tick_counter.py"
REPOSITORY = Path(__file__).resolve().parents[2]

CONFIG = """
[log]
format = "json"

[apps.RiskManager]
class = "vnpy_riskmanager:RiskManagerApp"
required = true

[gateways.PAPER]
class = "vnpy_core.gateways.paper.gateway:PaperGateway"

[gateways.PAPER.setting]
market = "replay"
files = "{files}"
exchange = "SHFE"
speed = 0
balance = 1000000
contracts = "{contracts}"

[strategies.double_ma]
class_name = "DoubleMaStrategy"
vt_symbol = "ru1901.SHFE"
auto_start = true

[strategies.demo]
class_name = "DemoStrategy"
vt_symbol = "ru1901.SHFE"
auto_start = true
"""


def replay(make_service, shared_data: Path, folder: Path) -> dict[str, object]:
    """One replay in a fresh folder: what a client counted and what REST says after it."""
    files = shared_data / "ctp" / "shfe_ru1901_20181008-20181012.tick-ctp.zip"
    config = CONFIG.format(files=files, contracts=REPOSITORY / "vnpy_config" / "contracts.toml")
    service = make_service(config, folder)
    counter = subprocess.Popen(
        [sys.executable, str(COUNTER), f"ws://127.0.0.1:{service.port}/ws", service.token],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert counter.stdout.readline() == "subscribed\n"
    assert service.client.post("/trading/gateways/PAPER/connect", json={"setting": {}}).status_code == 202
    counted = json.loads(counter.communicate(timeout=180)[0])
    result = {
        "counted": counted,
        "orders": service.get_all("/trading/orders"),
        "trades": service.get_all("/trading/trades"),
        "positions": service.get_all("/trading/positions"),
        "account": service.get_all("/trading/accounts")[0],
        "tick": service.client.get("/trading/ticks/ru1901.SHFE").json(),
        "ledger": ledger(folder),
        "status": service.client.get("/system/status").json(),
    }
    started = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - started < 10
    return result


def stable(row: dict[str, object]) -> dict[str, object]:
    """A row without what two runs cannot share."""
    return {name: value for name, value in row.items() if name not in ("updated_at", "seq", "client_order_id")}


def ledger(folder: Path) -> dict[str, list[dict[str, object]]]:
    """The venue's own books, read by plain SQL."""
    [path] = (folder / "vnpy_data" / ".vntrader").glob("paper*.sqlite")
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        tables = {row["name"] for row in database.execute("select name from sqlite_master where type = 'table'")}
        return {t: [dict(row) for row in database.execute(f"select * from {t}")] for t in tables}


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("replay")


def test_every_recorded_tick_reaches_a_client_and_all_books_agree_and_a_second_replay_is_identical(
    make_service, shared_data, shared_folder
):
    first = replay(make_service, shared_data, shared_folder / "first")
    counted = first["counted"]
    print(
        f"{counted['ticks']} ticks in {counted['seconds']:.1f} s: {counted['ticks'] / counted['seconds']:.0f} ticks/s"
    )
    assert counted["ticks"] == TICKS
    assert (counted["gaps"], counted["repeats"], counted["orders_rising"]) == (0, 0, True)
    assert first["status"]["event_thread"]["ticks_conflated"] == 0
    assert first["status"]["event_thread"]["handler_errors"] == 0

    orders, trades = first["orders"], first["trades"]
    assert {order["strategy_name"] for order in orders} == {"double_ma", "demo"}
    assert {trade["strategy_name"] for trade in trades} == {"double_ma", "demo"}

    # Every fill belongs to an order, and each order traded what its fills say.
    filled: dict[str, Decimal] = {}
    for trade in trades:
        filled[trade["vt_orderid"]] = filled.get(trade["vt_orderid"], Decimal(0)) + Decimal(str(trade["volume"]))
    for order in orders:
        assert Decimal(str(order["traded"])) == filled.get(order["vt_orderid"], Decimal(0)), order

    # The venue's own books say the same, trade by trade.
    books = first["ledger"]
    assert sorted(t["tradeid"] for t in trades) == sorted(t["tradeid"] for t in books["trades"])
    assert sorted(o["orderid"] for o in orders) == sorted(o["orderid"] for o in books["orders"])

    # The position is the sum of the trades; the account is what the trades left.
    net = sum(Decimal(str(t["volume"])) * (1 if t["direction"] == "LONG" else -1) for t in trades)
    held = sum(Decimal(str(p["volume"])) * (1 if p["direction"] == "LONG" else -1) for p in first["positions"])
    assert net == held
    spent, fees = Decimal(0), Decimal(0)
    for trade in books["trades"]:
        side = 1 if trade["direction"] == "LONG" else -1
        spent += side * Decimal(trade["price"]) * Decimal(trade["volume"]) * 10
        fees += Decimal(trade["fee"])
    last_price = Decimal(str(first["tick"]["last_price"]))
    account = first["account"]
    assert account["balance"] == pytest.approx(float(1_000_000 - spent - fees + held * last_price * 10))
    assert account["available"] == pytest.approx(account["balance"] - account["frozen"])

    second = replay(make_service, shared_data, shared_folder / "second")
    # CtaEngine cancels a strategy's orders in the order of a set, so only their sequence numbers may differ.
    for what, key in (("orders", "vt_orderid"), ("trades", "vt_tradeid")):
        runs = [sorted(map(stable, run[what]), key=lambda row: row[key]) for run in (first, second)]
        assert runs[0] == runs[1], what
