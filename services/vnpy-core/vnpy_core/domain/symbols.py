"""VnPy's names of contracts."""

_SUFFIXES = {"EUREX": "EUX"}
"""The exchanges whose name is not what VnPy appends to a symbol; one there is."""


def vt_symbol(symbol: str, exchange: str) -> str:
    """`symbol.suffix` for an exchange's name (or its suffix)."""
    return f"{symbol}.{_SUFFIXES.get(exchange, exchange)}"
