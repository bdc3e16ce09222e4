"""History from gateways and VnPy's datafeed, with all the ways in which they fail."""

import asyncio
import sys
import threading
import types
from datetime import UTC, datetime, timedelta

import pytest

from vnpy_core.domain.errors import ConfigurationError, GatewayRefused, NotFound, Overloaded, ValidationFailed
from vnpy_core.domain.history import Interval, to_ns

BEGIN = datetime(2026, 11, 2, 1, 0, tzinfo=UTC)
END = BEGIN + timedelta(minutes=5)


@pytest.fixture
def main_engine(vnpy_home):
    from vnpy.trader.engine import MainEngine

    from vnpy_core.engine.event_engine import InterruptibleEventEngine

    main_engine = MainEngine(InterruptibleEventEngine())
    yield main_engine
    main_engine.close()


@pytest.fixture
def queries(main_engine):
    from vnpy_core.engine.apps.data import HistoryQueries

    return HistoryQueries(main_engine, deadline_s=5)


def add_gateway(main_engine, answer, *, history=True):
    """A gateway whose history is `answer(request)`, with the contract rb2701.SHFE."""
    from vnpy.trader.constant import Exchange, Product
    from vnpy.trader.gateway import BaseGateway
    from vnpy.trader.object import ContractData

    class Answering(BaseGateway):
        default_name = "ANSWERING"

        def connect(self, *given):
            pass

        close = subscribe = send_order = cancel_order = query_account = query_position = connect

        def query_history(self, req):
            return answer(req)

    main_engine.add_gateway(Answering)
    contract = ContractData("ANSWERING", "rb2701", Exchange.SHFE, "rb", Product.FUTURES, 10, 1, history_data=history)
    main_engine.get_engine("oms").contracts[contract.vt_symbol] = contract


def bar_at(request, n):
    from vnpy.trader.object import BarData

    moment = request.start + timedelta(minutes=n)
    return BarData("ANSWERING", request.symbol, request.exchange, moment, request.interval, close_price=100.0 + n)


async def test_a_contracts_gateway_is_asked_where_it_offers_history(main_engine, queries):
    asked = []
    add_gateway(main_engine, lambda request: asked.append(request) or [bar_at(request, n) for n in (2, 0, 1)])
    bars = await queries.query_bars("rb2701.SHFE", Interval.MINUTE, BEGIN, END)
    assert bars["close_price"].tolist() == [100, 101, 102]
    assert bars["ts"].tolist() == [to_ns(BEGIN) + n * 60_000_000_000 for n in range(3)]
    (request,) = asked
    assert (request.vt_symbol, request.interval.value, request.start, request.end) == ("rb2701.SHFE", "1m", BEGIN, END)


async def test_the_paper_gateways_generated_market_has_history(main_engine, queries, tmp_path):
    from vnpy_core.gateways.paper.gateway import PaperGateway

    (tmp_path / "contracts.toml").write_text('[rb]\nexchange = "SHFE"\nsize = 10\npricetick = 1\n')
    gateway = main_engine.add_gateway(PaperGateway, "PAPER")
    setting = {
        "contracts": str(tmp_path / "contracts.toml"),
        "ledger": str(tmp_path / "books"),
        "symbols": "rb2701.SHFE",
    }
    gateway.connect(setting)
    end = datetime.now(UTC)
    bars = await queries.query_bars("rb2701.SHFE", Interval.DAILY, end - timedelta(days=30), end, "PAPER")
    assert len(bars) > 10
    assert (bars["high_price"] >= bars["low_price"]).all()


async def test_nothing_is_an_empty_answer(main_engine, queries):
    add_gateway(main_engine, lambda request: [])
    assert len(await queries.query_bars("rb2701.SHFE", Interval.HOUR, BEGIN, END)) == 0


def fail(request):
    raise KeyError(request.interval)


@pytest.mark.parametrize(("answer", "word"), [(lambda request: None, "gave no history"), (fail, "KeyError")])
async def test_a_gateway_that_fails_is_told_by_name(main_engine, queries, answer, word):
    add_gateway(main_engine, answer)
    with pytest.raises(GatewayRefused, match=f"ANSWERING.*{word}"):
        await queries.query_bars("rb2701.SHFE", Interval.MINUTE, BEGIN, END)


async def test_what_does_not_exist_is_told(main_engine, queries):
    with pytest.raises(NotFound, match="NOWHERE"):
        await queries.query_bars("rb2701.SHFE", Interval.MINUTE, BEGIN, END, "NOWHERE")
    with pytest.raises(ValidationFailed, match="MOON"):
        await queries.query_bars("rb2701.MOON", Interval.MINUTE, BEGIN, END)


async def test_a_gateway_that_hangs_is_left_after_the_deadline_and_only_so_many_times(main_engine):
    from vnpy_core.engine.apps import data

    release = threading.Event()
    add_gateway(main_engine, lambda request: release.wait(30) and [])
    queries = data.HistoryQueries(main_engine, deadline_s=0.05)
    try:
        for _ in range(data.UNANSWERED):
            with pytest.raises(Overloaded, match="ANSWERING gave no history within"):
                await queries.query_bars("rb2701.SHFE", Interval.MINUTE, BEGIN, END)
        with pytest.raises(Overloaded, match="no answer yet"):
            await queries.query_bars("rb2701.SHFE", Interval.MINUTE, BEGIN, END)
    finally:
        release.set()
    async with asyncio.timeout(10):
        while queries._under_way:
            await asyncio.sleep(0.01)
    assert len(await queries.query_bars("rb2701.SHFE", Interval.MINUTE, BEGIN, END)) == 0


# --- the datafeed ---


@pytest.fixture
def datafeed(vnpy_home, monkeypatch):
    """`datafeed(bars=…, ticks=…)` installs a datafeed as VnPy finds one: as the module vnpy_<name>."""
    from vnpy.trader import datafeed as module
    from vnpy.trader.setting import SETTINGS

    def install(**answers):
        class Datafeed(module.BaseDatafeed):
            pass

        for what, answer in answers.items():
            setattr(Datafeed, f"query_{what}_history", lambda self, req, output, answer=answer: answer(req, output))
        package = types.ModuleType("vnpy_madeup")
        package.Datafeed = Datafeed
        monkeypatch.setitem(sys.modules, "vnpy_madeup", package)

    monkeypatch.setattr(module, "datafeed", None)
    monkeypatch.setitem(SETTINGS, "datafeed.name", "madeup")
    return install


async def test_without_a_gateway_that_offers_it_the_datafeed_is_asked(main_engine, queries, datafeed):
    add_gateway(main_engine, fail, history=False)
    datafeed(bar=lambda request, output: [bar_at(request, 0)])
    bars = await queries.query_bars("rb2701.SHFE", Interval.MINUTE, BEGIN, END)
    assert bars["close_price"].tolist() == [100]


async def test_ticks_come_from_the_datafeed(queries, datafeed):
    from vnpy.trader.object import TickData

    datafeed(
        tick=lambda request, output: [TickData("F", request.symbol, request.exchange, request.start, last_price=7)]
    )
    ticks = await queries.query_ticks("rb2701.SHFE", BEGIN, END)
    assert (ticks["ts"].tolist(), ticks["last_price"].tolist()) == ([to_ns(BEGIN)], [7])


async def test_a_datafeed_that_tells_why_it_has_nothing_is_heard(queries, datafeed):
    datafeed(bar=lambda request, output: output("no permission for this market") or [])
    with pytest.raises(GatewayRefused, match="no permission for this market"):
        await queries.query_bars("rb2701.SHFE", Interval.MINUTE, BEGIN, END)


@pytest.mark.parametrize("empty", [[], None])
async def test_a_datafeed_may_have_nothing(queries, datafeed, empty):
    datafeed(bar=lambda request, output: empty)
    assert len(await queries.query_bars("rb2701.SHFE", Interval.MINUTE, BEGIN, END)) == 0


async def test_a_datafeed_without_ticks_says_so(queries, datafeed):
    datafeed()
    with pytest.raises(GatewayRefused, match="Tick"):
        await queries.query_ticks("rb2701.SHFE", BEGIN, END)


async def test_no_datafeed_is_a_matter_of_configuration(queries, datafeed, monkeypatch):
    from vnpy.trader.setting import SETTINGS

    with pytest.raises(ConfigurationError, match="vnpy_madeup is not installed"):
        await queries.query_bars("rb2701.SHFE", Interval.MINUTE, BEGIN, END)
    monkeypatch.setitem(SETTINGS, "datafeed.name", "")
    with pytest.raises(ConfigurationError, match=r"datafeed\.name"):
        await queries.query_ticks("rb2701.SHFE", BEGIN, END)
