"""Fees and sizes by the contract table, also for fills at other venues that charge the same."""

from __future__ import annotations

from decimal import Decimal

from vnpy_core.domain.events import Trade
from vnpy_core.domain.symbols import exchange_name
from vnpy_core.gateways.paper.accounting import ZERO, fee_of
from vnpy_core.gateways.paper.contracts import ContractTable


class FeeTable:
    """Any thread may ask."""

    def __init__(self, table: ContractTable) -> None:
        self._table = table

    def fee(self, trade: Trade, closes_today: bool) -> float:
        """What a fill costs, in quote currency; 0 for a contract that is not in the table."""
        spec = self._table.find(trade.symbol, trade.exchange)
        if spec is None:
            return 0.0
        price, volume = Decimal(repr(trade.price)), Decimal(repr(trade.volume))
        return float(fee_of(spec, price, *((ZERO, volume) if closes_today else (volume, ZERO))))

    def size(self, vt_symbol: str) -> float | None:
        """A contract's multiplier, None for one that is not in the table."""
        symbol, _, suffix = vt_symbol.rpartition(".")
        spec = self._table.find(symbol, exchange_name(suffix))
        return None if spec is None else float(spec.size)
