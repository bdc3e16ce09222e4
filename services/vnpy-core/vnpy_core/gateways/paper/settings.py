"""What a paper venue is made from, the same in the service and in a process of its own."""

from __future__ import annotations

from typing import Any

import msgspec

from vnpy_core.domain.errors import ConfigurationError

_LARGEST = {"rate": 10_000, "speed": 1e9, "max_gap": 86_400, "balance": 1e15, "latency_ms": 60_000}


class PaperSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`connect`'s setting; flat, as VnPy's window edits it."""

    market: str = "generated"
    """`generated`, `replay` of files, or `store`, a replay of recorded ticks; in a process of its own also `manual`,
    which only its tests move, but no `store`."""
    symbols: str = "rb2701.SHFE;ru2701.SHFE;IF2612.CFFEX;BTCUSDT_SWAP_BINANCE.GLOBAL"
    """`;`-separated vt_symbols of the generated market; for a replay: those that its first ticks do not show; for the
    store: those to replay, also patterns (`rb*.SHFE`); unchanged, all that it has of the range."""
    rate: float = 2.0
    """Generated ticks a second and symbol."""
    seed: int = 1
    files: str = ""
    """`;`-separated paths or globs of recordings."""
    start: str = ""
    """First moment to replay from the store: a time (`2026-11-20T21:00`, without offset in `timezone`), or a date, the
    calendar day of the exchange (Asia/Shanghai; GLOBAL: UTC), so a night session is on the day on which it is seen on
    the clock; empty: from its first tick on."""
    end: str = ""
    """Likewise; a time is not included, a date is, to its end; empty: to its last tick."""
    speed: float = 1.0
    """Times real time; 0 is as fast as every consumer keeps up, with identical runs."""
    max_gap: float = 5.0
    """Longest silence of a recording that is waited for, seconds of wall time."""
    exchange: str = ""
    """For recordings that do not name it; else the contract table decides."""
    timezone: str = "Asia/Shanghai"
    """Of recordings, `start` and `end` without offsets."""
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


def parse(setting: dict[str, Any], *, markets: tuple[str, ...] = ("generated", "replay", "store")) -> PaperSettings:
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


def has_own_symbols(settings: PaperSettings) -> bool:
    """Whether `symbols` was set, and is not only the generated market's default."""
    return settings.symbols != PaperSettings().symbols


def words(text: str) -> list[str]:
    """The parts of a `;`-separated text."""
    return [word.strip() for word in text.split(";") if word.strip()]
