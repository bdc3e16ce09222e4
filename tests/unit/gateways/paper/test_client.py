"""A client's connection against a listener that the test plays itself."""

import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path

import pytest

from vnpy_core.domain.errors import Overloaded
from vnpy_core.gateways.paper import wire
from vnpy_core.gateways.paper.client import BACKLOG_LIMIT, Connection


@pytest.fixture
def pair():
    """A connection and the socket on its other end."""
    folder = Path(tempfile.mkdtemp(prefix="venue-"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s"))
        listener.listen()
        connection = Connection(folder / "s", 1.0)
        other, _ = listener.accept()
    other.settimeout(10)
    yield connection, other
    connection.close()
    other.close()
    shutil.rmtree(folder)


class Listening:
    """Receives on a thread of its own, as gateways do."""

    def __init__(self, connection: Connection) -> None:
        self.heard: list[wire.Answer] = []
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(connection,))
        self._thread.start()

    def _run(self, connection: Connection) -> None:
        try:
            for answer in connection.receive():
                self.heard.append(answer)
        except (ConnectionError, wire.BadFrame) as error:
            self.error = error

    def over(self) -> bool:
        self._thread.join(5)
        return not self._thread.is_alive()


def test_nobody_listening_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        Connection(tmp_path / "absent", 1.0)


def test_what_the_other_side_does_not_read_waits_and_goes_out_later_whole_and_in_order(pair):
    connection, other = pair
    listening = Listening(connection)
    frames = [wire.frame(wire.Cancel(orderid=f"{n:03}-" + "9" * 1000)) for n in range(600)]
    for frame in frames:
        connection.send(frame)
    expected, received = b"".join(frames), b""
    while len(received) < len(expected):
        received += other.recv(65536)
    assert received == expected
    connection.end()
    assert listening.over()
    assert listening.error is None


def test_too_much_that_waits_is_refused_and_then_nothing_of_it_is_sent(pair):
    connection, other = pair
    listening = Listening(connection)
    frame = wire.frame(wire.Cancel(orderid="9" * 3000))
    sent = 0
    while connection.takes(frame):
        connection.send(frame)
        sent += 1
    with pytest.raises(Overloaded):
        connection.send(frame)
    assert sent * len(frame) < BACKLOG_LIMIT + 2 * 1024 * 1024
    received = 0
    while received < sent * len(frame):
        received += len(other.recv(65536))
    other.settimeout(0.1)
    with pytest.raises(TimeoutError):
        other.recv(1)
    assert connection.takes(frame)
    connection.end()
    assert listening.over()


def test_the_end_is_heard_at_once_by_a_waiting_reader_and_later_sends_are_refused(pair):
    connection, _ = pair
    listening = Listening(connection)
    time.sleep(0.05)
    began = time.monotonic()
    connection.end()
    assert listening.over()
    assert time.monotonic() - began < 0.5
    with pytest.raises(ConnectionError):
        connection.send(wire.frame(wire.Bye()))
    connection.end()
    connection.close()
    connection.end()
    connection.close()


def test_messages_before_the_other_side_goes_are_heard(pair):
    connection, other = pair
    other.sendall(b"".join(wire.frame(wire.Notice(text=str(n))) for n in range(100)))
    other.close()
    listening = Listening(connection)
    assert listening.over()
    assert isinstance(listening.error, ConnectionError)
    assert [notice.text for notice in listening.heard] == [str(n) for n in range(100)]


def test_nonsense_ends_the_reading(pair):
    connection, other = pair
    other.sendall(b"\xff" * 100)
    listening = Listening(connection)
    assert listening.over()
    assert isinstance(listening.error, wire.BadFrame)
