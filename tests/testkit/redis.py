"""A real Redis as a child process."""

from __future__ import annotations

import shutil
import socket

from testkit.servers import Server


class RedisServer(Server):
    """Keeps nothing on disk: started again it is empty."""

    binary = "redis-server"
    package = "redis-server"

    @classmethod
    def find(cls, name: str) -> str | None:
        return shutil.which(name)

    def url(self, driver: str = "", database: str = "0") -> str:
        return f"redis://127.0.0.1:{self.port}/{database}"

    def _install(self) -> None:
        (self.folder / "data").mkdir()

    def _command(self) -> list[str]:
        return [
            self.find(self.binary) or self.binary, "--bind", "127.0.0.1", "--port", str(self.port),
            "--dir", str(self.folder / "data"), "--save", "", "--appendonly", "no", "--daemonize", "no",
            "--databases", "200",
        ]  # fmt: skip

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                probe.sendall(b"PING\r\n")
                return probe.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def _create(self, database: str) -> None:
        pass

    def fresh_database(self) -> str:
        """The number of a database that no other test uses; numbers come again after 199."""
        RedisServer._used = RedisServer._used % 199 + 1
        return str(RedisServer._used)

    _used = 0
