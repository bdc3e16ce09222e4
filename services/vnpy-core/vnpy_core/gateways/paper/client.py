"""A client's side of the wire to a venue process. It knows nothing of VnPy."""

from __future__ import annotations

import os
import select
import socket as sockets
import threading
from collections.abc import Iterator
from pathlib import Path

from vnpy_core.domain.errors import Overloaded
from vnpy_core.gateways.paper import wire

BACKLOG_LIMIT = 1024 * 1024
"""Bytes of requests that wait while the venue does not read."""
_CHUNK = 256 * 1024


class Connection:
    """One connection. Any thread sends, without waiting; one thread receives, and sends what could not go at once."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        """Raises OSError where nobody listens within `timeout_s` seconds."""
        self._socket = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        try:
            self._socket.settimeout(timeout_s)
            self._socket.connect(str(path))
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._backlog = bytearray()
        self._ended = False
        self._closed = False

    def takes(self, frame: bytes) -> bool:
        """Whether `send` would; for certain only while no other thread sends."""
        return len(self._backlog) + len(frame) <= BACKLOG_LIMIT

    def send(self, frame: bytes) -> None:
        """Send a frame, or keep it for the receiving thread where the venue does not read.

        Raises ConnectionError where the connection has ended, Overloaded where too much waits: then nothing is sent.
        """
        with self._lock:
            if self._ended:
                raise ConnectionResetError("the connection to the venue has ended")
            if not self.takes(frame):
                raise Overloaded("the venue does not read")
            waiting = bool(self._backlog)
            sent = 0 if waiting else self._send(frame)
            if sent < len(frame):
                self._backlog += frame[sent:]
                os.eventfd_write(self._wake, 1)

    def receive(self) -> Iterator[wire.Answer]:
        """The venue's messages as they come; ends after `end`. Raises ConnectionError, BadFrame."""
        splitter = wire.Splitter(wire.ANSWER_LIMIT)
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        while not self._ended:
            writing = select.POLLOUT if self._backlog else 0
            poller.register(self._socket, select.POLLIN | writing)
            ready = dict(poller.poll())
            if self._wake in ready:
                os.eventfd_read(self._wake)
            if ready.get(self._socket.fileno(), 0) & select.POLLOUT:
                self._flush()
            if ready.get(self._socket.fileno(), 0) & ~select.POLLOUT:
                for body in splitter.feed(self._receive()):
                    yield wire.answer(body)

    def end(self) -> None:
        """Say no more and let `receive` return. Any thread, once or again."""
        with self._lock:
            if not self._closed:
                self._ended = True
                os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Give the socket back; the thread that received, once it is done."""
        with self._lock:
            if not self._closed:
                self._ended = self._closed = True
                self._socket.close()
                os.close(self._wake)

    def _send(self, data: bytes | bytearray) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    def _flush(self) -> None:
        with self._lock:
            del self._backlog[: self._send(self._backlog)]

    def _receive(self) -> bytes:
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return b""
        if not data:
            raise ConnectionResetError("the venue closed the connection")
        return data
