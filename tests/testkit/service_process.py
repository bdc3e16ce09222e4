"""The whole service as a process on a port of its own, with the paper venue's generated market."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import httpx2

from testkit.servers import Server

REPOSITORY = Path(__file__).resolve().parents[2]
PASSWORD = "correct-horse-battery-staple-9"  # the tests' own; the service runs on 127.0.0.1 for their time only
SYMBOL = "rb2701.SHFE"

CONFIG = """
[log]
format = "json"

[streaming]
heartbeat_s = 0.5
{streaming}

[gateways.PAPER]
class = "vnpy_core.gateways.paper.gateway:PaperGateway"
auto_connect = true

[gateways.PAPER.setting]
contracts = "{contracts}"
rate = {rate}
{extra}
"""


class ServiceProcess(Server):
    """After `stop` or `kill` it may be started again on the same port and folder. `url()` is its address."""

    binary = "service"
    package = "ours"

    def __init__(self, *, rate: float = 20.0, streaming: str = "", extra: str = "") -> None:
        super().__init__()
        self._config = CONFIG.format(
            contracts=REPOSITORY / "vnpy_config" / "contracts.toml", rate=rate, streaming=streaming, extra=extra
        )

    @classmethod
    def find(cls, name: str) -> str | None:
        return sys.executable

    def url(self, driver: str = "", database: str = "") -> str:
        return f"http://127.0.0.1:{self.port}"

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def _install(self) -> None:
        (self.folder / "data").mkdir()
        (self.folder / "vnpy_config").mkdir()
        (self.folder / "strategies").symlink_to(REPOSITORY / "strategies", target_is_directory=True)
        (self.folder / "vnpy_config" / "service.toml").write_text(self._config)

    def _command(self) -> list[str]:
        return [
            sys.executable, "-c", "import os, sys; os.chdir(sys.argv[1]); os.environ.update(a.split('=', 1) for a in "
            "sys.argv[2:]); sys.argv[1:] = ['serve']; from vnpy_core.__main__ import main; main()",
            str(self.folder), f"VNPYCORE__SERVER__PORT={self.port}", f"VNPYCORE__AUTH__ADMIN_PASSWORD={PASSWORD}",
            f"VNPYCORE_CONFIG={self.folder / 'vnpy_config' / 'service.toml'}",
        ]  # fmt: skip

    def _answers(self) -> bool:
        try:
            return httpx2.get(f"{self.url()}/health/ready", timeout=1, trust_env=False).status_code == 200
        except httpx2.HTTPError:
            return False

    def _create(self, database: str) -> None:
        raise NotImplementedError


def environment() -> dict[str, str]:
    """For commands that speak to it."""
    return {**os.environ, "VNPYCORE_PASSWORD": PASSWORD}
