"""A service that is killed in the middle of a rollover: no lot is lost, and the rest is rolled afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from testkit.load import eventually
from testkit.service_process import PASSWORD, ServiceProcess

pytestmark = pytest.mark.timeout(300)

OLD, NEW = "rb2701.SHFE", "rb2705.SHFE"
LOTS = 20
EXTRA = f"""
symbols = "{OLD};{NEW}"

[strategies.demo]
class_name = "WantedPosStrategy"
vt_symbol = "{OLD}"
auto_start = true

[strategies.demo.setting]
wanted = {LOTS}
"""
FILE = Path(__file__).resolve().parents[2] / "testkit" / "strategies" / "gap_strategies.py"


class Service(ServiceProcess):
    """With one strategy that holds 20 lots."""

    def _install(self) -> None:
        super()._install()
        (self.folder / "strategies").unlink()
        (self.folder / "strategies").mkdir()
        shutil.copy(FILE, self.folder / "strategies")

    @contextmanager
    def client(self) -> Iterator[httpx2.Client]:
        """Somebody who has logged in."""
        with httpx2.Client(base_url=f"{self.url()}/api/v1", timeout=30, trust_env=False) as client:
            login = client.post("/auth/token", data={"username": "admin", "password": PASSWORD})
            client.headers["Authorization"] = f"Bearer {login.json()['access_token']}"
            yield client


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service(extra=EXTRA)
    service.start()
    yield service
    service.remove()


def strategy(client: httpx2.Client) -> dict:
    return client.get("/strategies/demo").json()


def held(client: httpx2.Client) -> dict[str, float]:
    """What the venue says."""
    lots = {OLD: 0.0, NEW: 0.0}
    for position in client.get("/trading/positions").json()["items"]:
        lots[position["vt_symbol"]] += position["volume"] * (-1 if position["direction"] == "SHORT" else 1)
    return lots


def wait_for_ticks(client: httpx2.Client) -> None:
    assert client.post("/trading/subscriptions", json={"vt_symbol": NEW}).status_code == 201
    eventually(lambda: {t["vt_symbol"] for t in client.get("/trading/ticks").json()["items"]} == {OLD, NEW})


def test_what_a_killed_rollover_left_is_brought_to_rest_and_rolled(service):
    body = {"from_vt_symbol": OLD, "to_vt_symbol": NEW, "max_volume": 2, "timeout_s": 120, "dry_run": False}
    with service.client() as client:
        eventually(lambda: strategy(client)["pos"] == LOTS, what="the strategy does not reach its position")
        assert client.post("/strategies/demo/stop").status_code == 200
        wait_for_ticks(client)
        begun = client.post("/strategies/rollover", json=body).json()
        path = f"/strategies/rollovers/{begun['id']}"
        eventually(lambda: client.get(path).json()["strategies"][0]["opened"] >= 4)
    service.kill()
    service.start()
    with service.client() as client:
        eventually(lambda: client.get(path).json()["state"] == "INCOMPLETE", what="it is not brought to rest")
        (part,) = client.get(path).json()["strategies"]
        assert 4 <= part["opened"] <= part["closed"] < LOTS
        assert part["closed"] - part["opened"] <= 2
        assert held(client) == {OLD: LOTS - part["closed"], NEW: part["opened"]}
        now = strategy(client)
        assert now["pos"] == now["attributed_pos"] == LOTS - part["closed"] + part["opened"]
        assert (now["vt_symbol"], now["auto_start"], now["trading"]) == (OLD, False, False)

        wait_for_ticks(client)
        again = client.post("/strategies/rollover", json=body)
        assert again.status_code == 202, again.text
        path = f"/strategies/rollovers/{again.json()['id']}"
        eventually(lambda: client.get(path).json()["state"] != "RUNNING", 150)
        assert client.get(path).json()["state"] == "DONE", client.get(path).json()
        assert held(client) == {OLD: 0.0, NEW: LOTS}
        now = strategy(client)
        assert (now["vt_symbol"], now["pos"], now["attributed_pos"], now["auto_start"]) == (NEW, LOTS, LOTS, True)
