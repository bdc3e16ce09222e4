"""The contract table: what recordings do not say of exchange, size, price tick, lot, fees and margin.

`contracts.toml` has a table a product, `[rb]` with `exchange = "SHFE"` and so on; `rb2701` on SHFE, letters and then
digits only, is looked up by its letters. A table named exactly as the symbol wins.
"""

from __future__ import annotations

import re
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

from vnpy_core.domain.enums import Product
from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.gateways.paper.model import ContractSpec

_REQUIRED = {"exchange", "size", "pricetick"}
_POSITIVE = ("size", "pricetick", "min_volume", "max_volume")
_NOT_NEGATIVE = ("margin_rate", "fee_rate", "fee_per_lot", "close_today_fee_rate", "close_today_fee_per_lot")
_EXCHANGES = frozenset(
    {
        *("CFFEX", "SHFE", "CZCE", "DCE", "INE", "GFEX", "SSE", "SZSE", "BSE", "SHHK", "SZHK", "SGE", "WXE", "CFETS"),
        *(
            "XBOND",
            "SMART",
            "NYSE",
            "NASDAQ",
            "ARCA",
            "EDGEA",
            "ISLAND",
            "BATS",
            "IEX",
            "AMEX",
            "TSE",
            "NYMEX",
            "COMEX",
        ),
        *("GLOBEX", "IDEALPRO", "CME", "ICE", "SEHK", "HKFE", "SGX", "CBOT", "CBOE", "CFE", "DME", "EUREX", "APEX"),
        *("LME", "BMD", "TOCOM", "EUNX", "KRX", "OTC", "IBKRATS", "LOCAL", "GLOBAL"),
    }
)
"""VnPy's names, written out because importing vnpy fixes its folder and locale; a test compares them."""
_KNOWN = {*_REQUIRED, *_POSITIVE, *_NOT_NEGATIVE, "name", "product", "net_position", "slippage"}


class ContractTable:
    """Read once; any thread may look up."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigurationError that names file, table and field of everything wrong."""
        self._path = path
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigurationError(f"there is no contract table {path}") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigurationError(f"the contract table {path} cannot be read: {error}") from error
        problems = [problem for name, table in tables.items() for problem in _problems(name, table)]
        problems += _doubles(tables)
        if problems:
            raise ConfigurationError("\n".join([f"{path} is not usable:", *(f"  {p}" for p in problems)]))
        self._products = {(name.lower(), table["exchange"]): (name, table) for name, table in tables.items()}

    def find(self, symbol: str, exchange: str) -> ContractSpec | None:
        """The contract's facts, None for a product that is not in the table."""
        exact = self._products.get((symbol.lower(), exchange))
        if exact is not None and not _is_code(*exact):
            return _spec(symbol, *exact)
        product = self._products.get((product_code(symbol).lower(), exchange))
        return _spec(symbol, *product) if product is not None and _is_code(*product) else None

    def exchange_of(self, symbol: str) -> str | None:
        """The exchange of the only product with this symbol's code; None where there is none or several."""
        exchanges = {exchange for _, exchange in self._products if self.find(symbol, exchange)}
        return exchanges.pop() if len(exchanges) == 1 else None


def product_code(symbol: str) -> str:
    """The letters of a symbol that is letters and then digits: `rb2701` -> `rb`; "" for others, as options are."""
    parts = re.fullmatch(r"([A-Za-z]+)[0-9]+", symbol)
    return parts.group(1) if parts else ""


def _is_code(name: str, table: dict[str, Any]) -> bool:
    """Whether a table speaks of a futures product, all of whose contracts it describes, and not of one symbol."""
    return name.isalpha() and table.get("product", "FUTURES") == "FUTURES"


def _doubles(tables: dict[str, Any]) -> list[str]:
    seen: dict[tuple[str, object], str] = {}
    problems = []
    for name, table in tables.items():
        if isinstance(table, dict):
            first = seen.setdefault((name.lower(), str(table.get("exchange"))), name)
            if first != name:
                problems.append(f"[{name}] is there twice: [{first}] differs in upper and lower case only")
    return problems


def _spec(symbol: str, product: str, table: dict[str, Any]) -> ContractSpec:
    numbers = {name: _decimal(table[name]) for name in (*_POSITIVE, *_NOT_NEGATIVE) if name in table}
    return ContractSpec(
        symbol=symbol,
        exchange=table["exchange"],
        name=f"{table.get('name', product)}{symbol[len(product) :] if symbol != product else ''}",
        product=Product(table.get("product", "FUTURES")),
        net_position=table.get("net_position", False),
        slippage=table.get("slippage", 0),
        **numbers,
    )


def _problems(name: str, table: Any) -> list[str]:
    if not isinstance(table, dict):
        return [f"{name}: must be a table, as [{name}]"]
    problems = [f"[{name}] {field}: is missing" for field in sorted(_REQUIRED - table.keys())]
    problems += [f"[{name}] {field}: unknown field" for field in sorted(table.keys() - _KNOWN)]
    for field in (*_POSITIVE, *_NOT_NEGATIVE):
        value = table.get(field, 1)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value < 1e15 or (value == 0 and field in _POSITIVE):
            wanted = "a number above 0" if field in _POSITIVE else "a number of 0 or more"
            problems.append(f"[{name}] {field}: must be {wanted}, not {value!r}")
    if table.get("product", "FUTURES") not in list(Product):
        problems.append(f"[{name}] product: must be one of {', '.join(Product)}, not {table['product']!r}")
    if "exchange" in table and table["exchange"] not in list(_EXCHANGES):
        problems.append(f"[{name}] exchange: must be VnPy's name of one, as SHFE, not {table['exchange']!r}")
    if not problems and table.get("margin_rate", 0) > 1:
        problems.append(
            f"[{name}] margin_rate: must be a share of the value, 0.1 for 10 %, not {table['margin_rate']!r}"
        )
    if not problems and table.get("max_volume", table.get("min_volume", 1)) < table.get("min_volume", 1):
        problems.append(f"[{name}] max_volume: must not be below min_volume, not {table['max_volume']!r}")
    if not isinstance(table.get("net_position", False), bool):
        problems.append(f"[{name}] net_position: must be true or false")
    slippage = table.get("slippage", 0)
    if not isinstance(slippage, int) or isinstance(slippage, bool) or slippage < 0:
        problems.append(f"[{name}] slippage: must be a whole number of price ticks, not {slippage!r}")
    return problems


def _decimal(value: float) -> Decimal:
    return Decimal(repr(value))
