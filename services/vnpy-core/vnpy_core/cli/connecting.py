"""What the commands that ask a running service have in common: who asks, how it ends, and texts fit for a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from vnpy_core.domain.errors import ConfigurationError, CoreError

if TYPE_CHECKING:
    from vnpy_core.client import Client

DEFAULT_URL = "http://127.0.0.1:8006"

Token = Annotated[str, typer.Option(envvar="VNPYCORE_TOKEN", help="An access token or API key.", show_default=False)]
User = Annotated[
    str, typer.Option(help="Log in so (at the first --url); the password from $VNPYCORE_PASSWORD or asked for.")
]
_CONTROLS = dict.fromkeys([*range(32), *range(127, 160)], "�")


def client_of(url: str, token: str, user: str, *, timeout_s: float = 30.0) -> Client:
    """The service at `url`, for who has the token or logs in. Raises ConfigurationError."""
    from vnpy_core.client import Client

    if user:
        password = os.environ.get("VNPYCORE_PASSWORD") or typer.prompt("password", hide_input=True, err=True)
        return Client(url, username=user, password=password, timeout_s=timeout_s)
    if not token:
        raise ConfigurationError("this needs a token (--token or $VNPYCORE_TOKEN), or --user")
    return Client(url, token=token, timeout_s=timeout_s)


@contextlib.contextmanager
def endings() -> Iterator[None]:
    """What the service refuses is told in its words, and the command ends with 1."""
    try:
        yield
    except CoreError as error:
        wrong = "; ".join(f"{each.field}: {each.message}" for each in error.errors if each.message not in error.detail)
        typer.echo(f"vnpy-core: {error.detail}{f' ({wrong})' if wrong else ''}", err=True)
        raise typer.Exit(1) from None
    except BrokenPipeError:
        # The reader of our output went away, as in `vnpy-core watch 'tick.*' | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None


def printable(text: str) -> str:
    """`text` without what a terminal would obey: venues and strategies write it."""
    return text.translate(_CONTROLS)
