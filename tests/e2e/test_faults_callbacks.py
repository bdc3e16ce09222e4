"""Strategies that raise or do not return, in the real process: what still answers, and what becomes of them."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from e2e.conftest import REPOSITORY, RunningService

pytestmark = pytest.mark.alone

STRATEGIES = REPOSITORY / "tests" / "testkit" / "strategies"
CONFIG = f"""
[log]
format = "json"

[engine]
watchdog_s = 1.0

[gateways.PAPER]
class = "vnpy_core.gateways.paper.gateway:PaperGateway"
auto_connect = true

[gateways.PAPER.setting]
contracts = "{REPOSITORY / "vnpy_config" / "contracts.toml"}"
rate = 20.0
"""
STRATEGY = """
[strategies.{name}]
class_name = "{name}Strategy"
vt_symbol = "rb2701.SHFE"
auto_start = true
"""
ORDER = {
    "vt_symbol": "ru2701.SHFE", "direction": "LONG", "offset": "OPEN", "type": "LIMIT", "volume": 1, "price": 13000,
}  # fmt: skip


@pytest.fixture
def run(make_service, tmp_path) -> Callable[..., RunningService]:
    """`run("Looping", "Quiet")`: a service with these strategies, each named as its class."""
    (tmp_path / "strategies").symlink_to(STRATEGIES, target_is_directory=True)

    def run(*names: str, watchdog_s: float = 1.0) -> RunningService:
        config = CONFIG.replace("watchdog_s = 1.0", f"watchdog_s = {watchdog_s}")
        return make_service(config + "".join(STRATEGY.format(name=name) for name in names))

    return run


def until(condition: Callable[[], Any], seconds: float, what: str) -> float:
    """How long it took until `condition()`; fails when that is more than `seconds`."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - started


def said(service: RunningService, text: str, **fields: str) -> list[dict[str, Any]]:
    """The log lines whose event has `text`, and these fields."""
    lines = [line for line in service.log_lines() if text in str(line["event"])]
    return [line for line in lines if fields.items() <= line.items()]


def statuses(service: RunningService, strategy_name: str) -> list[str]:
    return [o["status"] for o in service.get_all("/trading/orders") if o["strategy_name"] == strategy_name]


def at_the_venue(service: RunningService) -> list[str]:
    """The orders' statuses in the venue's own books: no event reaches ours while the event thread hangs."""
    path: Path = service.folder / "vnpy_data" / ".vntrader" / "paper_paper.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as ledger:
        return [status for (status,) in ledger.execute("select status from orders")]


def quarantined(service: RunningService) -> dict[str, dict[str, str]]:
    path = service.folder / "vnpy_data" / "quarantine.json"
    return json.loads(path.read_text()) if path.exists() else {}


def event_thread(service: RunningService) -> dict[str, Any]:
    return service.client.get("/system/status").json()["event_thread"]


def hang(service: RunningService) -> None:
    """Let the strategies hang on their next tick, now that each has an order in the market."""
    guilty = [line for line in service.config.read_text().splitlines() if line.startswith("[strategies.")][:-1]
    until(lambda: len(service.get_all("/trading/orders")) == len(guilty), 15, "each has its order")
    (service.folder / "vnpy_data" / "hang").touch()


def is_refused(service: RunningService) -> bool:
    answer = service.client.post("/trading/orders", json=ORDER)
    return answer.json().get("code") == "TRADING_HALTED"


class Questions:
    """Asks REST over and over, from a thread of its own, and keeps the slowest answer."""

    def __init__(self, service: RunningService) -> None:
        self._service = service
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.slowest_s = 0.0
        self.count = 0

    def _ask(self) -> None:
        headers = dict(self._service.client.headers)
        with httpx2.Client(base_url=f"{self._service.url}/api/v1", timeout=10, headers=headers) as client:
            while not self._ended.wait(0.02):
                started = time.monotonic()
                try:
                    assert client.get("/trading/orders").status_code == 200
                except httpx2.TransportError:
                    return  # the process ended
                self.slowest_s = max(self.slowest_s, time.monotonic() - started)
                self.count += 1

    def __enter__(self) -> Questions:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def test_loops_in_python_are_ended_one_by_one_and_the_innocent_strategy_goes_on(run):
    guilty = ["Looping", "LoopingInErrors", "BuyingForEver", "Slow"]
    service = run(*guilty, "Quiet")
    hang(service)
    with Questions(service) as questions:
        until(lambda: said(service, "a callback does not return"), 15, "the first hang is seen")
        halted_s = until(lambda: is_refused(service), 5, "trading is halted")
        for name in guilty:
            until(lambda: name in quarantined(service), 10, f"{name} is put into quarantine")  # noqa: B023
            until(lambda: {*statuses(service, name)} == {"CANCELLED"}, 10, f"{name}'s orders are gone")  # noqa: B023
    seen, ended = (said(service, text) for text in ("a callback does not return", "strategy failed and is stopped"))
    assert [line["strategy_name"] for line in seen] == guilty
    assert [line["strategy_name"] for line in ended] == guilty
    assert questions.count > 20
    assert questions.slowest_s < 1, f"REST took {questions.slowest_s:.2f} s"
    handled = event_thread(service)["events_handled"]
    until(lambda: event_thread(service)["events_handled"] > handled + 20, 5, "ticks are handled again")
    assert event_thread(service)["alive"]
    assert event_thread(service)["handler_errors"] == 0
    assert set(quarantined(service)) == set(guilty)
    assert "hanging_strategies.py" in quarantined(service)["Looping"]["stack"]
    print(f"REST at most {questions.slowest_s * 1000:.0f} ms, refused after {halted_s * 1000:.0f} ms more")
    assert service.stop() == 0
    data = json.loads((service.folder / "vnpy_data" / ".vntrader" / "cta_strategy_data.json").read_text())
    assert data["Quiet"]["ticks"] > 20


def test_what_cannot_be_interrupted_ends_the_process_and_is_in_quarantine_after_the_restart(run):
    service = run("Sleeping", "Quiet")
    hang(service)
    with Questions(service) as questions:
        until(lambda: said(service, "a callback does not return"), 15, "the hang is seen")
        began = time.monotonic()
        until(lambda: at_the_venue(service) == ["CANCELLED"], 5, "its order is cancelled at the venue")
        assert is_refused(service)
        assert service.process.wait(15) == 70
    print(f"REST at most {questions.slowest_s * 1000:.0f} ms, the end {time.monotonic() - began:.1f} s after the alarm")
    assert questions.slowest_s < 1
    assert set(quarantined(service)) == {"Sleeping"}
    service.client.close()
    (service.folder / "vnpy_data" / "hang").unlink()
    service.start()
    until(lambda: said(service, "a strategy could not be started", strategy_name="Sleeping"), 10, "it is refused")
    assert "vnpy-core quarantine release Sleeping" in said(service, "could not be started")[-1]["detail"]
    handled = event_thread(service)["events_handled"]
    until(lambda: event_thread(service)["events_handled"] > handled + 20, 5, "the others trade")
    assert len(said(service, "a callback does not return")) == 1
    assert is_refused(service), "the halt outlives the restart"


def test_a_person_can_halt_and_cancel_while_the_event_thread_hangs(run):
    service = run("Sleeping", "Quiet", watchdog_s=60.0)
    hang(service)
    until(lambda: event_thread(service)["lag_ms"] > 500, 15, "it hangs")
    started = time.monotonic()
    answer = service.client.post("/risk/halt", json={"reason": "it hangs"})
    seconds = time.monotonic() - started
    assert answer.status_code == 200, answer.text
    assert at_the_venue(service) == ["CANCELLED"]
    assert is_refused(service)
    print(f"halted and cancelled by a person in {seconds:.2f} s")
    assert seconds < 5


def test_code_that_lets_no_python_run_ends_the_process_and_is_in_quarantine_after_the_restart(run):
    service = run("KeepingTheInterpreter", "Quiet")
    hang(service)
    assert service.process.wait(20) == 1
    service.client.close()
    service.start()
    until(lambda: quarantined(service), 5, "it is in quarantine")
    assert set(quarantined(service)) == {"KeepingTheInterpreter"}
    assert said(service, "an earlier process stood still and was ended")
    assert event_thread(service)["alive"]


def test_strategies_that_raise_are_stopped_and_their_orders_cancelled_and_others_go_on(run):
    names = ["RaisingOnInit", "RaisingOnStart", "RaisingOnTick", "RaisingAfterBuying", "Exiting"]
    service = run(*names, "Quiet")
    for name in names:
        until(lambda: said(service, "strategy failed and is stopped", strategy_name=name), 15, name)  # noqa: B023
    for name in ("RaisingOnTick", "RaisingAfterBuying"):
        took_s = until(lambda: statuses(service, name) == ["CANCELLED"], 2, f"{name}'s order is cancelled")  # noqa: B023
        print(f"{name}: cancelled {took_s:.2f} s after")
    assert event_thread(service)["alive"]
    assert service.client.post("/trading/orders", json=ORDER).status_code == 201
    assert quarantined(service) == {}


def test_an_on_init_that_does_not_return_keeps_neither_the_event_thread_nor_the_stop(run):
    service = run("LoopingOnInit")
    until(lambda: said(service, "is being initialised"), 15, "it begins")
    handled = event_thread(service)["events_handled"]
    until(lambda: event_thread(service)["events_handled"] > handled, 5, "events are handled")
    assert event_thread(service)["alive"]
    assert service.stop() == 0
