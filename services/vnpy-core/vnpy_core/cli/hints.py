"""What a person reads when the service has started: where it is, how to log in, and what to try first."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from vnpy_core import __version__
from vnpy_core.settings import Settings


def password_file(settings: Settings) -> Path:
    """Where the first start puts the random admin password, readable by its owner only."""
    return settings.paths.data / "secrets" / "admin_password"


def announcer(settings: Settings, *, hints: bool) -> Callable[[str], None]:
    """What to call with the address once requests are answered; make it before the start, to know the first one.

    The password is shown once, and only to a terminal: a log would keep it.
    """
    path = password_file(settings)
    is_first = not path.exists()

    def announce(address: str) -> None:
        lines = [f"VnPy Core Service {__version__} answers at {address}", *_how_to_log_in(settings, path, is_first)]
        if hints:
            lines += _to_try(settings, address, path)
        print(*lines, sep="\n", flush=True)

    return announce


def _how_to_log_in(settings: Settings, path: Path, is_first: bool) -> list[str]:
    if settings.auth.admin_password is not None:
        return ["log in as admin with the password of VNPYCORE__AUTH__ADMIN_PASSWORD"]
    if is_first and path.exists() and sys.stdout.isatty():
        return [f"log in as admin with the password {path.read_text()} (kept in {_short(path)})"]
    return [f"log in as admin with the password in {_short(path)}"]


def _to_try(settings: Settings, address: str, path: Path) -> list[str]:
    """Three lines for a shell: log in, look, and trade."""
    vt_symbol = next((s.vt_symbol for s in settings.strategies.values()), "rb2505.SHFE")
    order = {"vt_symbol": vt_symbol, "direction": "LONG", "offset": "OPEN", "type": "MARKET", "volume": 1}
    password = "password=YOURS" if settings.auth.admin_password is not None else f"password@{_short(path)}"
    api = f"{address}/api/v1"
    return [
        "",
        "Try, in another terminal:",
        f"  TOKEN=$(curl -s {api}/auth/token -d username=admin --data-urlencode '{password}'"
        """ | sed 's/.*"access_token":"\\([^"]*\\).*/\\1/')""",
        f'  curl -s {api}/trading/accounts -H "Authorization: Bearer $TOKEN"',
        f'  curl -s {api}/trading/orders -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json"'
        f" -d '{json.dumps(order)}'",
        "",
        "Ctrl-C stops it.",
    ]


def _short(path: Path) -> str:
    """Relative to where the person is, if that is shorter. VnPy's home has become the process's own folder by now."""
    return str(path.relative_to(_STARTED_IN)) if path.is_relative_to(_STARTED_IN) else str(path)


_STARTED_IN = Path.cwd()
