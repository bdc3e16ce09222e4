from decimal import Decimal
from pathlib import Path

import pytest

from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.gateways.paper.contracts import ContractTable

SHIPPED = Path(__file__).resolve().parents[4] / "vnpy_config" / "contracts.toml"


def table(tmp_path, text):
    path = tmp_path / "contracts.toml"
    path.write_text(text, encoding="utf-8")
    return ContractTable(path)


@pytest.mark.parametrize(
    ("symbol", "exchange", "size", "pricetick"),
    [
        ("ru1901", "SHFE", 10, "5"),
        ("cu1909", "SHFE", 5, "10"),
        ("RM705", "CZCE", 10, "1"),
        ("rm705", "CZCE", 10, "1"),
        ("BTCUSDT_SWAP_BINANCE", "GLOBAL", 1, "0.1"),
        ("i2701", "DCE", 100, "0.5"),
    ],
)
def test_the_shipped_table_knows_the_usual_products(symbol, exchange, size, pricetick):
    spec = ContractTable(SHIPPED).find(symbol, exchange)
    assert (spec.symbol, spec.exchange, spec.size, spec.pricetick) == (symbol, exchange, size, Decimal(pricetick))


def test_a_product_on_another_exchange_or_an_unknown_one_is_not_found():
    shipped = ContractTable(SHIPPED)
    assert shipped.find("ru1901", "DCE") is None
    assert shipped.find("zz1901", "SHFE") is None
    assert shipped.exchange_of("ru1901") == "SHFE"
    assert shipped.exchange_of("zz1901") is None


def test_a_table_named_as_the_symbol_wins_over_its_product(tmp_path):
    found = table(
        tmp_path, '[rb]\nexchange="SHFE"\nsize=10\npricetick=1\n[rb2701]\nexchange="SHFE"\nsize=10\npricetick=2\n'
    )
    assert found.find("rb2701", "SHFE").pricetick == 2
    assert found.find("rb2705", "SHFE").pricetick == 1


def test_everything_wrong_is_named_at_once(tmp_path):
    with pytest.raises(ConfigurationError) as wrong:
        table(tmp_path, '[rb]\nsize=nan\npricetick=-1\nmargn=1\n[ru]\nexchange="SHFE"\nsize=0\npricetick="1"\n'
                        'product="STONKS"\nslippage=1.5\n')  # fmt: skip
    said = str(wrong.value)
    for part in (
        "contracts.toml", "[rb] exchange: is missing", "[rb] size", "[rb] pricetick", "[rb] margn: unknown",
        "[ru] size", "[ru] pricetick", "[ru] product", "[ru] slippage",
    ):  # fmt: skip
        assert part in said, part


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="no contract table"):
        ContractTable(tmp_path / "none.toml")
    with pytest.raises(ConfigurationError, match=r"contracts\.toml"):
        table(tmp_path, "[rb")
