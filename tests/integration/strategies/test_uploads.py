"""A strategy file's way over REST into a running service: written, loaded when asked, left alone while it runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import httpx2
import pytest

from testkit.load import eventually
from testkit.service_process import PASSWORD, SYMBOL, ServiceProcess

NAME = "uploaded_strategy.py"
CODE = """
from vnpy_ctastrategy import CtaTemplate


class UploadedStrategy(CtaTemplate):
    \"\"\"{doc}\"\"\"

    ticks = 0
    variables = ["ticks"]

    def on_init(self) -> None:
        pass

    def on_tick(self, tick) -> None:
        self.ticks += 1
"""
TEXT = {"Content-Type": "text/x-python"}


class Service(ServiceProcess):
    """With a strategies folder of its own."""

    def _install(self) -> None:
        super()._install()
        (self.folder / "strategies").unlink()
        (self.folder / "strategies").mkdir()


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service(extra="[strategy_upload]\nenabled = true")
    service.start()
    yield service
    service.remove()


@pytest.fixture
def client(service: Service) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=f"{service.url()}/api/v1", timeout=30, trust_env=False) as client:
        login = client.post("/auth/token", data={"username": "admin", "password": PASSWORD})
        client.headers["Authorization"] = f"Bearer {login.json()['access_token']}"
        yield client


def put(client: httpx2.Client, doc: str, name: str = NAME) -> httpx2.Response:
    return client.put(f"/strategies/files/{name}", content=CODE.format(doc=doc), headers=TEXT)


def test_a_file_is_loaded_when_asked_and_left_alone_while_a_strategy_runs_it(client, service):
    written = put(client, "one")
    assert written.status_code == 200, written.text
    (listed,) = client.get("/strategies/files").json()["items"]
    assert (listed["file_name"], listed["hash"], listed["loaded"]) == (NAME, written.json()["hash"], False)
    assert client.get("/strategies/classes/UploadedStrategy").status_code == 404

    assert "UploadedStrategy" in client.post("/strategies/classes/reload").json()["changed"]
    (listed,) = client.get("/strategies/files").json()["items"]
    assert (listed["loaded"], listed["classes"]) == (True, ["UploadedStrategy"])

    body = {"class_name": "UploadedStrategy", "strategy_name": "mine", "vt_symbol": SYMBOL, "setting": {}}
    assert client.post("/strategies", json=body).status_code == 201
    replaced = put(client, "two")
    assert replaced.json()["former_hash"] == hashlib.sha256(CODE.format(doc="one").encode()).hexdigest()
    assert client.get("/strategies/classes/UploadedStrategy").json()["doc"] == "one"

    eventually(lambda: client.post("/strategies/mine/init?wait_s=10").status_code == 200)
    refused = put(client, "three")
    assert (refused.status_code, refused.json()["code"]) == (409, "CONFLICT")
    assert (service.folder / "strategies" / NAME).read_text() == CODE.format(doc="two")
    assert client.delete("/strategies/mine").status_code == 204
    assert put(client, "three").status_code == 200
