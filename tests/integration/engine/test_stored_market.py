"""The paper gateway in the host: it replays what the host's store has, as its connect says."""

import numpy as np
import pytest

from integration.engine.test_host import until
from testkit.memory_timeseries import MemoryTimeSeries
from unit.gateways.paper.feeds.test_stored import BTC, RB, ticks
from vnpy_core.domain.events import Tick
from vnpy_core.engine.settings import GatewaySettings

CONTRACTS = """
[rb]
exchange = "SHFE"
size = 10
pricetick = 1

[BTCUSDT]
exchange = "GLOBAL"
product = "SWAP"
size = 1
pricetick = 0.1
"""


@pytest.fixture
def paper(tmp_path):
    (tmp_path / "contracts.toml").write_text(CONTRACTS)
    setting = {"contracts": str(tmp_path / "contracts.toml"), "ledger": str(tmp_path / "books.sqlite")}
    target = "vnpy_core.gateways.paper.gateway:PaperGateway"
    return {"PAPER": GatewaySettings(class_=target, setting=setting, auto_connect=False)}


@pytest.fixture
def store():
    store = MemoryTimeSeries()
    store.merge_ticks(RB, ticks(500))
    store.merge_ticks(BTC, ticks(500, price=60_000))
    return store


async def test_a_connect_with_a_range_replays_it_in_the_order_of_time(run_host, paper, store):
    async with run_host(gateways=paper, history=store) as host:
        gateway = host.main_engine.get_gateway("PAPER")
        setting = {"market": "store", "symbols": "rb*.SHFE;BTC*.GLOBAL", "start": "2026-11-20T09:00:10", "speed": 0}
        for vt_symbol in ("rb2701.SHFE", "BTCUSDT.GLOBAL"):  # renewed with the connect, before the market opens
            host._gateways.subscriptions.add(vt_symbol, "PAPER")
        await host.connect("PAPER", setting)
        await until(lambda: sum(isinstance(m.data, Tick) for m in host.messages) >= 960)
        played = [m.data for m in host.messages if isinstance(m.data, Tick)]
        assert gateway.replays
        assert len(played) == 960
        assert [tick.vt_symbol for tick in played[:4]] == ["BTCUSDT.GLOBAL", "rb2701.SHFE"] * 2
        moments = np.array([tick.datetime.timestamp() for tick in played])
        assert (np.diff(moments) >= 0).all()


@pytest.mark.parametrize(
    ("history", "setting", "word"),
    [
        (False, {}, "no tick store here"),
        (True, {"symbols": "IF2612.CFFEX"}, "no ticks of IF2612"),
        (True, {"end": "2020-01-01"}, "2020"),
    ],
)
async def test_a_connect_that_cannot_replay_says_why(run_host, paper, store, history, setting, word):
    async with run_host(gateways=paper, history=store if history else None) as host:
        await host.connect("PAPER", {"market": "store", "symbols": "", **setting})
        await until(lambda: word in host.gateways()[0].message)
