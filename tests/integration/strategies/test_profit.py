"""A strategy that trades an account alone, over a kill: its profit is what the venue's books say it has won."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from testkit.load import eventually
from testkit.service_process import PASSWORD, REPOSITORY, SYMBOL, ServiceProcess

BALANCE = 1_000_000.0
ROUNDS = 40
FLIPPER = '''
from vnpy_ctastrategy import CtaTemplate


class Flipper(CtaTemplate):
    """Buys, turns, and covers in the end, at any price."""

    rounds = 0
    wanted: int = 40
    parameters = ["wanted"]
    variables = ["rounds"]

    def on_init(self):
        pass

    def on_tick(self, tick):
        if self.asked or (self.rounds >= self.wanted and not self.pos):
            return
        side = -1 if self.pos > 0 else 1
        reach = 20 * self.get_pricetick() * side
        if self.pos > 0:
            self.asked = self.sell(tick.bid_price_1 + reach, 1)
            if self.rounds % 4 == 3:
                self.asked += self.short(tick.bid_price_1 + reach, 1)
        elif self.pos < 0:
            self.asked = self.cover(tick.ask_price_1 + reach, 1)
        else:
            self.asked = self.buy(tick.ask_price_1 + reach, 1)

    asked = ()

    def on_order(self, order):
        if not order.is_active():
            self.asked = [each for each in self.asked if each != order.vt_orderid]

    def on_trade(self, trade):
        self.rounds += 1
        self.put_event()
'''
STRATEGY = f"""
[strategies.flipper]
class_name = "Flipper"
vt_symbol = "{SYMBOL}"
auto_start = true

[strategies.flipper.setting]
wanted = {ROUNDS}
"""


class Service(ServiceProcess):
    """With the flipper, and a contract table for the venue and for the profit."""

    def __init__(self) -> None:
        super().__init__(rate=50.0)
        self._config += STRATEGY

    def _install(self) -> None:
        super()._install()
        (self.folder / "strategies").unlink()
        (self.folder / "strategies").mkdir()
        (self.folder / "strategies" / "flipper.py").write_text(FLIPPER)
        shutil.copy(REPOSITORY / "vnpy_config" / "contracts.toml", self.folder / "vnpy_config")
        limits = {"重复报单检查": {"duplicate_order_limit": 10**9}, "活动委托检查": {"active_order_limit": 10**9}}
        home = self.folder / "vnpy_data" / ".vntrader"
        home.mkdir(parents=True)
        (home / "risk_manager_setting.json").write_text(json.dumps(limits))

    @contextmanager
    def client(self) -> Iterator[httpx2.Client]:
        with httpx2.Client(base_url=f"{self.url()}/api/v1", timeout=30, trust_env=False) as client:
            login = client.post("/auth/token", data={"username": "admin", "password": PASSWORD})
            client.headers["Authorization"] = f"Bearer {login.json()['access_token']}"
            yield client


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    try:
        service.start()
        yield service
    finally:
        service.remove()


def get(client: httpx2.Client, path: str, **query: str) -> Any:
    answer = client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def rounds(client: httpx2.Client) -> int:
    return int(get(client, "/strategies/flipper")["variables"]["rounds"])


def test_the_profit_is_what_the_account_has_won(service: Service) -> None:
    with service.client() as client:
        eventually(lambda: rounds(client) >= ROUNDS // 3, what="it does not trade")
    service.kill()
    service.start()
    with service.client() as client:
        eventually(lambda: rounds(client) >= ROUNDS and not get(client, "/strategies/flipper")["pos"])
        eventually(lambda: not get(client, "/trading/orders", active="true")["items"])
        fills = get(client, "/strategies/flipper/trades", limit="1000")["items"]
        pnl = get(client, "/strategies/flipper/pnl")
        [account] = get(client, "/trading/accounts")["items"]
        by_fill = get(client, "/strategies/flipper/equity", resolution="trade", start=pnl["days"][0]["day"])
        by_day = get(client, "/strategies/flipper/equity")
    assert pnl["fees"] > 0
    assert pnl["net"] == pytest.approx(account["balance"] - BALANCE, abs=0.01)
    assert (pnl["trades"], pnl["pos"], pnl["legs"], pnl["complete"]) == (len(fills), 0.0, [], True)
    assert sum(day["net"] for day in pnl["days"]) == pytest.approx(pnl["net"])
    assert len(by_fill["points"]) == len(fills)
    assert by_fill["points"][-1]["equity"] == pytest.approx(pnl["net"])
    assert by_day["points"][-1]["equity"] == pytest.approx(pnl["net"])
    service.stop()
    service.start()
    with service.client() as client:
        again = get(client, "/strategies/flipper/pnl")
    assert {**again, "days": pnl["days"]} == pnl
