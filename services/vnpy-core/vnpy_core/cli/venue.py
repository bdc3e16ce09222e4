"""`vnpy-core venue`: the paper venue as a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vnpy_core.domain.errors import ConfigurationError


def venue(
    socket: Annotated[Path, typer.Option(help="Where clients connect: a path, made with mode 0600.")],
    ledger: Annotated[Path, typer.Option(help="The venue's books; made where they are not there yet.")],
    contracts: Annotated[Path, typer.Option(help="contracts.toml.")] = Path("vnpy_config/contracts.toml"),
    market: Annotated[str, typer.Option(help="generated, replay, or manual: moved by tests only.")] = "generated",
    symbols: Annotated[str | None, typer.Option(help=";-separated vt_symbols.")] = None,
    rate: Annotated[float, typer.Option(help="Generated ticks a second and symbol.")] = 2.0,
    seed: Annotated[int, typer.Option(help="Of the generated market, and of the faults.")] = 1,
    files: Annotated[str, typer.Option(help="Recordings of a replay: ;-separated paths or globs.")] = "",
    speed: Annotated[float, typer.Option(help="Times real time; 0 is as fast as clients read.")] = 1.0,
    max_gap: Annotated[float, typer.Option(help="Longest silence of a recording that is waited for, s.")] = 5.0,
    exchange: Annotated[str, typer.Option(help="Of a recording that does not name it.")] = "",
    timezone: Annotated[str, typer.Option(help="Of a recording without offsets.")] = "Asia/Shanghai",
    balance: Annotated[float, typer.Option(help="Initial funds of new books.")] = 1_000_000.0,
    accountid: Annotated[str, typer.Option()] = "paper",
    latency_ms: Annotated[float, typer.Option(help="Between sending an order and its arrival at the book.")] = 0.0,
    server_stops: Annotated[bool, typer.Option("--server-stops", help="Stop orders are the venue's.")] = False,
    faults: Annotated[bool, typer.Option("--faults", help="Let tests lose, delay and break things.")] = False,
) -> None:
    """Run the paper venue in a process of its own until SIGTERM or Ctrl-C."""
    setting: dict[str, Any] = {
        "market": market, "rate": rate, "seed": seed, "files": files, "speed": speed, "max_gap": max_gap,
        "exchange": exchange, "timezone": timezone, "balance": balance, "accountid": accountid,
        "latency_ms": latency_ms, "server_stops": server_stops, "contracts": str(contracts), "ledger": str(ledger),
    }  # fmt: skip
    if symbols is not None:
        setting["symbols"] = symbols
    try:
        _serve(setting, socket, seed if faults else None)
    except ConfigurationError as error:
        typer.echo(f"vnpy-core: {error}", err=True)
        raise typer.Exit(1) from None


def _serve(setting: dict[str, Any], socket: Path, fault_seed: int | None) -> None:
    from vnpy_core.kit.logging import setup_logging

    setup_logging("INFO", "auto")
    from vnpy_core.gateways.paper.server import MARKETS, serve
    from vnpy_core.gateways.paper.settings import parse

    def announce() -> None:
        switches = "" if fault_seed is None else f"; faults are allowed, seed {fault_seed}"
        typer.echo(f"the paper venue listens on {socket}{switches}")

    serve(parse(setting, markets=MARKETS), socket, fault_seed=fault_seed, announce=announce)
