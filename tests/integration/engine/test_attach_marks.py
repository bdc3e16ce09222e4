"""A guest comes to a host that has traded: what its strategies have counted already must not be counted again."""

from datetime import UTC, datetime

from integration.engine.test_host import until
from testkit.gateways import PlainGateway
from vnpy_core.engine.apps.cta_memory import MARK


async def test_fills_that_were_there_before_us_lie_before_the_mark(run_host, vnpy_home):
    from vnpy.event import EventEngine
    from vnpy.trader.constant import Direction, Exchange, Status
    from vnpy.trader.engine import MainEngine
    from vnpy.trader.object import OrderData, TradeData
    from vnpy_ctastrategy import CtaStrategyApp

    common = {"gateway_name": "P", "symbol": "rb2701", "exchange": Exchange.SHFE, "orderid": "7",
              "direction": Direction.LONG, "price": 3000, "datetime": datetime.now(UTC)}  # fmt: skip
    main_engine = MainEngine(EventEngine())
    try:
        cta = main_engine.add_app(CtaStrategyApp)
        cta.init_engine()
        cta.add_strategy("QuietStrategy", "s", "rb2701.SHFE", {})
        venue = main_engine.add_gateway(PlainGateway, "P")
        venue.connect({})
        venue.on_order(OrderData(**common, volume=5000, status=Status.PARTTRADED, reference="CtaStrategy_s"))
        for number in range(5000):
            venue.on_trade(TradeData(**common, volume=1, tradeid=str(number)))
        await until(lambda: len(main_engine.get_all_trades()) == 5000)
        async with run_host(main_engine=main_engine) as host:
            await host._settle()
            trades = host._stage.inspect(lambda books: [kept.event for kept in books.trades.values()])
            assert {(len(trades), trades[-1].strategy_name)} == {(5000, "s")}
            assert cta.strategy_data["s"][MARK] >= trades[-1].seq
    finally:
        main_engine.close()
