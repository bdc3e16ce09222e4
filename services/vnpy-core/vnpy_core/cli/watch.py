"""`vnpy-core watch`: live events of a running service, a line each, for people or programs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vnpy_core.cli.connecting import DEFAULT_URL, Token, User, client_of, endings, printable

if TYPE_CHECKING:
    from datetime import datetime

    from vnpy_core.client import Client, StreamMessage
    from vnpy_core.domain.events import Event

Show = Callable[[str, "datetime | None", "Event"], None]
"""Prints one event of a topic, told at a time."""


def watch(
    topics: Annotated[
        list[str], typer.Argument(metavar="TOPIC…", help="As tick.rb2505.SHFE, order.updated or tick.* (in quotes).")
    ],
    url: Annotated[
        list[str] | None,
        typer.Option(help=f"Of the service or an edge; again for more to turn to. Default: {DEFAULT_URL}"),
    ] = None,
    token: Token = "",
    user: User = "",
    every_tick: Annotated[
        bool, typer.Option("--every-tick", help="All ticks, not the newest when they pile up.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line.")] = False,
) -> None:
    """Show events as they happen, until Ctrl-C; a lost connection is made again and goes on where it was."""
    try:
        with endings():
            client = client_of((url or [DEFAULT_URL])[0], token, user)
            asyncio.run(_watch(client, topics, url or [DEFAULT_URL], _printer(as_json), conflate=not every_tick))
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


async def _watch(client: Client, topics: list[str], urls: list[str], show: Show, *, conflate: bool) -> None:
    """Raises CoreError, BrokenPipeError."""
    async with client, client.stream(topics, urls=urls, conflate=conflate) as stream:
        async for message in stream:
            _tell(message, show)


def _tell(message: StreamMessage, show: Show) -> None:
    from vnpy_core.client import Connected, Disconnected, Gap, Snapshot, Update

    match message:
        case Update():
            show(message.topic, message.ts, message.data)
        case Snapshot():
            for item in message.items:
                show(message.topic, None, item)
        case Connected(resumed=True):
            typer.echo(f"vnpy-core: {message.url}: going on", err=True)
        case Connected():
            typer.echo(f"vnpy-core: {message.url}", err=True)
        case Disconnected():
            typer.echo(f"vnpy-core: {message.reason}; again in {message.retry_in_s:.1f} s", err=True)
        case Gap():
            typer.echo(f"vnpy-core: events of {message.topic} are missing here", err=True)
        case _:
            pass


def _printer(as_json: bool) -> Show:
    return _json_line if as_json else _human_lines()


def _json_line(topic: str, ts: datetime | None, event: Event) -> None:
    import msgspec

    line: dict[str, Any] = {"topic": topic, "ts": ts, "data": event} if ts else {"topic": topic, "data": event}
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


def _human_lines() -> Show:
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True, highlight=False)

    def show(topic: str, ts: datetime | None, event: Event) -> None:
        time = getattr(event, "datetime", None) or getattr(event, "updated_at", None) or ts
        clock = time.astimezone().strftime("%H:%M:%S.%f")[:-3] if time else "            "
        words, style = describe(topic, event)
        console.print(Text(f"{clock} ", style="dim"), Text(printable(words), style=style), sep="")
        sys.stdout.flush()

    return show


def describe(topic: str, event: Event) -> tuple[str, str]:  # noqa: PLR0911 - a table
    """One event in one line, and rich's style for it."""
    from vnpy_core.domain import events

    match event:
        case events.Tick():
            bid = f"{event.bid_price_1:g} x {event.bid_volume_1:g}"
            ask = f"{event.ask_price_1:g} x {event.ask_volume_1:g}"
            return f"{event.vt_symbol:<20} {event.last_price:>10.10g}   bid {bid:<16} ask {ask}", ""
        case events.Order():
            reason = f" ({event.reason})" if event.reason else ""
            volume = f"{event.traded:g}/{event.volume:g}"
            words = f"{_side(event)} {volume} at {event.price:g} {event.type}  {event.vt_orderid}"
            return f"{event.vt_symbol:<20} {event.status:<11} {words}{reason}", _ORDER_STYLES.get(event.status, "")
        case events.Trade():
            words = f"{_side(event)} {event.volume:g} at {event.price:g}  {event.vt_orderid}"
            return f"{event.vt_symbol:<20} {'trade':<11} {words}", "bold green"
        case events.Position():
            words = f"{event.direction} {event.volume:g} at {event.price:g}, pnl {event.pnl:.2f}  {event.gateway_name}"
            return f"{event.vt_symbol:<20} {'position':<11} {words}", ""
        case events.Account():
            words = f"balance {event.balance:.2f}, available {event.available:.2f}"
            return f"{event.vt_accountid:<20} {'account':<11} {words}", ""
        case events.Halt():
            return f"trading {'halted' if event.active else 'resumed'} by {event.by}: {event.reason}", "bold red"
        case events.Log():
            return f"{event.strategy_name or event.source:<20} {event.level:<11} {event.msg}", ""
        case events.Gateway():
            return f"{event.gateway_name:<20} {event.state:<11} {event.message}", ""
    import msgspec

    return f"{topic:<20} {msgspec.json.encode(event).decode()}", ""


_ORDER_STYLES = {"ALLTRADED": "green", "CANCELLED": "yellow", "REJECTED": "red"}


def _side(event: Any) -> str:
    offset = "" if event.offset == "NONE" else f" {event.offset}"
    return f"{event.direction}{offset}"
