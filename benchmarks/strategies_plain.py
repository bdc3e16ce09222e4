"""A plain VnPy with the strategies of benchmarks/strategies_bench.py, as its child. Needs VnPy only.

    python strategies_plain.py SOCKET

The same apps as the service loads. Answers a line of JSON when all strategies trade, and ends with its input.
"""

from __future__ import annotations

import json
import sys

from strategies_market import Market
from strategies_plan import COUNT, SYMBOLS, plan
from vnpy.event import EventEngine
from vnpy.trader.engine import MainEngine
from vnpy_algotrading import AlgoTradingApp
from vnpy_ctastrategy import CtaStrategyApp
from vnpy_datamanager import DataManagerApp
from vnpy_riskmanager import RiskManagerApp


def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # VnPy prints
    main_engine = MainEngine(EventEngine())
    main_engine.add_gateway(Market)
    for app in (RiskManagerApp, CtaStrategyApp, AlgoTradingApp, DataManagerApp):
        engine = main_engine.add_app(app)
        if hasattr(engine, "init_engine"):
            engine.init_engine()
    cta = main_engine.get_engine("CtaStrategy")
    main_engine.connect({"socket": sys.argv[1]}, "MARKET")
    while len(main_engine.get_all_contracts()) < len(SYMBOLS):
        pass
    for name, class_name, vt_symbol in plan():
        cta.add_strategy(class_name, name, vt_symbol, {})
    for name in cta.strategies:
        cta.init_strategy(name).result()
        cta.start_strategy(name)
    trading = sum(strategy.trading for strategy in cta.strategies.values())
    assert trading == COUNT, trading
    print(json.dumps({"ready": True}), file=answers, flush=True)
    sys.stdin.read()
    main_engine.close()


if __name__ == "__main__":
    main()
