"""What becomes of a strategy's mails, on VnPy's own mail engine."""

import socket
from types import SimpleNamespace

import pytest
from vnpy.trader.engine import EmailEngine
from vnpy.trader.setting import SETTINGS

from testkit.load import eventually
from vnpy_core.engine.apps import mails


class MainEngine:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.engines = {"email": EmailEngine(self, None)}

    def write_log(self, text: str, source: str = "") -> None:
        self.lines.append(text)


@pytest.fixture
def main():
    main = MainEngine()
    yield main
    main.engines["email"].active = False


@pytest.fixture
def silent_server(monkeypatch):
    """A mail server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setitem(SETTINGS, "email.server", "127.0.0.1")
        monkeypatch.setitem(SETTINGS, "email.port", server.getsockname()[1])
        monkeypatch.setitem(SETTINGS, "email.sender", "a@example.org")
        monkeypatch.setitem(SETTINGS, "email.receiver", "b@example.org")
        yield server


def test_without_a_setting_nothing_is_sent_anywhere_and_the_log_has_it(main):
    mails.send(main, "demo", "stopped out")
    assert main.lines == ["not mailed: demo: stopped out"]
    assert not main.engines["email"].active


def test_a_mail_is_sent_by_a_thread_that_does_not_keep_the_process(main, silent_server):
    mails.send(main, "demo\nBcc: all", "stopped \ud800 out")
    silent_server.settimeout(10)
    connection, _ = silent_server.accept()
    assert main.engines["email"].thread.daemon
    assert main.lines == []
    main.engines["email"].active = False
    connection.close()
    main.engines["email"].thread.join(10)
    assert not main.engines["email"].thread.is_alive()
    eventually(lambda: main.lines, what="VnPy logs that it could not send")
    mails.send(main, "demo", "after the end")
    assert main.lines[-1] == "not mailed: demo: after the end"


def test_mails_that_a_server_does_not_take_are_bounded(main, silent_server, monkeypatch):
    monkeypatch.setattr(mails, "MOST_WAITING", 3)
    for number in range(10):
        mails.send(main, "demo", str(number))
    assert main.engines["email"].queue.qsize() <= 3
    assert main.lines[-1] == "not mailed: demo: 9"


def test_wechat_gets_it_where_that_is_bound(main):
    sent: list[str] = []
    queue = SimpleNamespace(qsize=lambda: 0)
    main.engines["wechat"] = SimpleNamespace(active=True, queue=queue, send_wechat=sent.append)
    mails.send(main, "demo", "stopped out")
    assert (sent, main.lines) == (["demo\nstopped out"], [])
