"""What a paper venue is made from, the same in the service and in a process of its own."""

from __future__ import annotations

from typing import Any

import msgspec

from vnpy_core.domain.errors import ConfigurationError

_LARGEST = {"rate": 10_000, "speed": 1e9, "max_gap": 86_400, "balance": 1e15, "latency_ms": 60_000}


class PaperSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`connect`'s setting; flat, as VnPy's window edits it."""

    market: str = "generated"
    """`generated` or `replay`; in a process of its own also `manual`, which only its tests move."""
    symbols: str = "rb2701.SHFE;ru2701.SHFE;IF2612.CFFEX;BTCUSDT_SWAP_BINANCE.GLOBAL"
    """`;`-separated vt_symbols of the generated market; for a replay: those that its first ticks do not show."""
    rate: float = 2.0
    """Generated ticks a second and symbol."""
    seed: int = 1
    files: str = ""
    """`;`-separated paths or globs of recordings."""
    speed: float = 1.0
    """Times real time; 0 is as fast as every consumer keeps up, with identical runs."""
    max_gap: float = 5.0
    """Longest silence of a recording that is waited for, seconds of wall time."""
    exchange: str = ""
    """For recordings that do not name it; else the contract table decides."""
    timezone: str = "Asia/Shanghai"
    """Of recordings without offsets."""
    balance: float = 1_000_000.0
    """Initial funds of a new ledger."""
    accountid: str = "paper"
    latency_ms: float = 0.0
    """Feed time between sending and arriving at the book."""
    contracts: str = ""
    """Path of contracts.toml."""
    ledger: str = ""
    """Path of the venue's books; empty: in VnPy's folder, by the gateway's name."""
    server_stops: bool = False
    """Whether CtaEngine leaves stop orders to the venue instead of keeping them itself."""


def parse(setting: dict[str, Any], *, markets: tuple[str, ...] = ("generated", "replay")) -> PaperSettings:
    """Raises ConfigurationError that names the wrong field."""
    try:
        settings = msgspec.convert(setting, PaperSettings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"the paper gateway's setting is wrong: {error}") from error
    wrong = [name for name, largest in _LARGEST.items() if not 0 <= getattr(settings, name) <= largest]
    if settings.rate == 0:
        wrong.append("rate")
    if wrong:
        raise ConfigurationError(f"the paper gateway's setting is wrong: {', '.join(wrong)} is out of range")
    if settings.market not in markets:
        raise ConfigurationError(f"the paper gateway's market is {' or '.join(markets)}, not {settings.market!r}")
    if settings.market == "replay" and not words(settings.files):
        raise ConfigurationError("the paper gateway's market is replay: set files to the recordings")
    if not settings.contracts:
        raise ConfigurationError("the paper gateway needs contracts, the path of contracts.toml")
    return settings


def words(text: str) -> list[str]:
    """The parts of a `;`-separated text."""
    return [word.strip() for word in text.split(";") if word.strip()]
