"""VnPy's names of contracts."""

_SUFFIXES = {"EUREX": "EUX"}
"""The exchanges whose name is not what VnPy appends to a symbol; one there is."""
_NAMES = {suffix: name for name, suffix in _SUFFIXES.items()}


def vt_symbol(symbol: str, exchange: str) -> str:
    """`symbol.suffix` for an exchange's name (or its suffix)."""
    return f"{symbol}.{_SUFFIXES.get(exchange, exchange)}"


def exchange_name(suffix: str) -> str:
    """The exchange's name, of what VnPy appends to a symbol (or of the name)."""
    return _NAMES.get(suffix, suffix)
