"""A paper venue for tests: contracts, snapshots and orders in short words."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from vnpy_core.domain.enums import Direction, Offset, OrderType, Product
from vnpy_core.gateways.paper.ledger import Ledger
from vnpy_core.gateways.paper.model import ContractSpec, NewOrder, Snapshot
from vnpy_core.gateways.paper.venue import PaperVenue

START = datetime(2026, 11, 20, 1, 0, tzinfo=UTC)
DAY = date(2026, 11, 20)

RB = ContractSpec(
    symbol="rb2701", exchange="SHFE", name="rb", product=Product.FUTURES, size=Decimal(10), pricetick=Decimal(1),
    margin_rate=Decimal("0.1"), fee_per_lot=Decimal(2), close_today_fee_per_lot=Decimal(5), max_volume=Decimal(100),
)  # fmt: skip
MA = ContractSpec(
    symbol="MA701", exchange="CZCE", name="MA", product=Product.FUTURES, size=Decimal(10), pricetick=Decimal(1),
    fee_rate=Decimal("0.0001"),
)  # fmt: skip
BTC = ContractSpec(
    symbol="BTCUSDT", exchange="GLOBAL", name="btc", product=Product.SWAP, size=Decimal(1), pricetick=Decimal("0.1"),
    min_volume=Decimal("0.001"), net_position=True, margin_rate=Decimal("0.05"), fee_rate=Decimal("0.0005"),
)  # fmt: skip
SPECS = {(s.symbol, s.exchange): s for s in (RB, MA, BTC)}


def venue(path: Path, *, balance: int = 1_000_000, latency_ms: int = 0, specs=SPECS) -> PaperVenue:
    return PaperVenue(
        lambda symbol, exchange: specs.get((symbol, exchange)),
        Ledger(path),
        accountid="paper",
        initial_balance=Decimal(balance),
        now=lambda: START,
        latency=timedelta(milliseconds=latency_ms),
    )


def snapshot(bids, asks, *, spec=RB, at: float = 0, day: date = DAY, last: float | None = None, **more) -> Snapshot:
    """`bids` and `asks` as [(price, volume), …], best first; `at` in seconds after the start."""
    middle = (bids or asks)[0][0]
    return Snapshot(
        symbol=spec.symbol, exchange=spec.exchange, time=START + timedelta(seconds=at), trading_day=day,
        bids=tuple(bids), asks=tuple(asks), last_price=middle if last is None else last, **more,
    )  # fmt: skip


def order(direction: str, volume: float, price: float = 0.0, *, spec=RB, offset="OPEN", type="LIMIT") -> NewOrder:
    return NewOrder(
        symbol=spec.symbol, exchange=spec.exchange, direction=Direction(direction), offset=Offset(offset),
        type=OrderType(type), volume=volume, price=price,
    )  # fmt: skip
