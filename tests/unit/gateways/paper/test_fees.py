"""What fills cost by the contract table; and that a strategy's profit is what its paper account has won."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testkit.clock import FakeClock
from testkit.fake_store import FakeStore
from testkit.journal_rows import at, trade
from vnpy_core.bus import topics
from vnpy_core.bus.message import Message
from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.enums import Direction, Offset
from vnpy_core.features.strategies.profit import ProfitLedger
from vnpy_core.features.strategies.settings import ProfitSettings
from vnpy_core.gateways.paper.accounting import Accounting, opposite
from vnpy_core.gateways.paper.contracts import ContractTable
from vnpy_core.gateways.paper.fees import FeeTable

TABLE = """
[rb]
exchange = "SHFE"
size = 10
pricetick = 1
fee_rate = 0.0001
fee_per_lot = 0.5
close_today_fee_rate = 0.0003

[i]
exchange = "DCE"
size = 100
pricetick = 0.5
fee_rate = 0.0002
close_today_fee_per_lot = 3

[BTCUSDT]
exchange = "GLOBAL"
product = "SWAP"
size = 1
pricetick = 0.1
min_volume = 0.001
net_position = true
fee_rate = 0.0005
"""


WEEK = 7 * 86_400


@pytest.fixture(scope="module")
def contracts(tmp_path_factory: pytest.TempPathFactory) -> ContractTable:
    path = tmp_path_factory.mktemp("config") / "contracts.toml"
    path.write_text(TABLE, encoding="utf-8")
    return ContractTable(path)


@pytest.fixture(scope="module")
def fees(contracts: ContractTable) -> FeeTable:
    return FeeTable(contracts)


def test_a_fill_costs_a_part_of_its_turnover_and_so_much_a_lot(fees: FeeTable) -> None:
    fill = trade(1, price=3500.0, volume=2.0)
    assert fees.fee(fill, False) == 8.0  # 70,000 x 0.0001 + 2 x 0.5
    assert fees.fee(fill, True) == 22.0  # 70,000 x 0.0003 + 2 x 0.5


def test_what_is_not_in_the_table_costs_nothing(fees: FeeTable) -> None:
    assert fees.fee(trade(1, symbol="zz2505", vt_symbol="zz2505.SHFE"), False) == 0.0
    assert fees.size("zz2505.SHFE") is None


def test_sizes_are_found_by_vt_symbol(fees: FeeTable) -> None:
    assert (fees.size("rb2505.SHFE"), fees.size("i2505.DCE"), fees.size("i2505.SHFE")) == (10.0, 100.0, None)


class Fill(NamedTuple):
    symbol: str
    exchange: str
    side: Direction
    opens: bool
    lots: int
    price: int
    another_day: bool
    """The account has begun a new trading day before."""


FILLS = st.lists(
    st.builds(
        lambda contract, *rest: Fill(*contract, *rest),
        st.sampled_from([("rb2505", "SHFE"), ("i2505", "DCE"), ("BTCUSDT", "GLOBAL")]),
        st.sampled_from([Direction.LONG, Direction.SHORT]),
        st.booleans(),
        st.integers(1, 9),
        st.integers(3000, 4000),
        st.booleans(),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(FILLS)
async def test_a_strategy_that_trades_an_account_alone_earns_what_the_account_wins(
    contracts: ContractTable, fees: FeeTable, fills: list[Fill]
) -> None:
    clock, account = FakeClock(at(0)), Accounting(Decimal(0))
    ledger = ProfitLedger(
        ReadView(),
        FakeStore(),  # type: ignore[arg-type]
        clock,
        ProfitSettings(),
        record=lambda day: None,
        fee_of=fees.fee,
        size_of=fees.size,
    )
    prices: dict[tuple[str, str], Decimal] = {}
    for seq, fill in enumerate(fills, 1):
        if fill.another_day:
            clock.advance(WEEK)
            for holding in account.holdings.values():
                holding.roll()
        spec = contracts.find(fill.symbol, fill.exchange)
        assert spec is not None
        volume = Decimal(fill.lots) / (1000 if spec.net_position else 1)
        held = account.holding(spec, opposite(fill.side))
        offset = Offset.NONE if spec.net_position else Offset.OPEN
        if not spec.net_position and not fill.opens and held.volume:
            offset = Offset.CLOSETODAY if spec.close_today_separately and held.today else Offset.CLOSE
            volume = min(volume, held.today if offset is Offset.CLOSETODAY else held.volume)
        price = Decimal(fill.price)
        account.fill(spec, fill.side, offset, price, volume)
        prices[fill.symbol, fill.exchange] = price
        event = trade(
            seq, str(seq), symbol=fill.symbol, exchange=fill.exchange, vt_symbol=spec.vt_symbol, price=float(price),
            volume=float(volume), direction=fill.side, offset=offset, datetime=clock.now(), strategy_name="trend",
        )  # fmt: skip
        ledger.keep_trade(Message(topics.TRADE_EXECUTED, event.vt_tradeid, "e1", seq, clock.now(), event))
    pnl = await ledger.pnl("trend")
    won = account.cash + account.unrealised(prices)
    assert pnl.net == pytest.approx(float(won), abs=1e-6)
    assert pnl.trades == len(fills)
    assert pnl.complete
