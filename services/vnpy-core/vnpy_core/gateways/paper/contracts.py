"""The contract table: what recordings do not say of exchange, size, price tick, lot, fees and margin.

`contracts.toml` has a table a product, `[rb]` with `exchange = "SHFE"` and so on; `rb2701` on SHFE is looked up as the
letters before its digits. A table named exactly as the symbol wins.
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
        if problems:
            raise ConfigurationError("\n".join([f"{path} is not usable:", *(f"  {p}" for p in problems)]))
        self._products = {(name.lower(), table["exchange"]): (name, table) for name, table in tables.items()}

    def find(self, symbol: str, exchange: str) -> ContractSpec | None:
        """The contract's facts, None for a product that is not in the table."""
        for name in (symbol, product_code(symbol)):
            found = self._products.get((name.lower(), exchange))
            if found is not None:
                return _spec(symbol, found[0], found[1])
        return None

    def exchange_of(self, symbol: str) -> str | None:
        """The exchange of the only product with this symbol's code; None where there is none or several."""
        code = product_code(symbol).lower()
        exchanges = {exchange for name, exchange in self._products if name in (code, symbol.lower())}
        return exchanges.pop() if len(exchanges) == 1 else None


def product_code(symbol: str) -> str:
    """The letters that a symbol begins with: `rb2701` -> `rb`."""
    letters = re.match(r"[A-Za-z]+", symbol)
    return letters.group() if letters else symbol


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
    if not isinstance(table.get("exchange", ""), str):
        problems.append(f"[{name}] exchange: must be a text, not {table['exchange']!r}")
    if not isinstance(table.get("net_position", False), bool):
        problems.append(f"[{name}] net_position: must be true or false")
    slippage = table.get("slippage", 0)
    if not isinstance(slippage, int) or isinstance(slippage, bool) or slippage < 0:
        problems.append(f"[{name}] slippage: must be a whole number of price ticks, not {slippage!r}")
    return problems


def _decimal(value: float) -> Decimal:
    return Decimal(repr(value))
