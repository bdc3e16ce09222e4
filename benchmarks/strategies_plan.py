"""Which strategies run in benchmarks/strategies_bench.py: eight classes over fifty contracts. Needs nothing of VnPy."""

from __future__ import annotations

CLASSES = [
    *("AtrRsiStrategy", "BollChannelStrategy", "DoubleMaStrategy", "DualThrustStrategy"),
    *("KingKeltnerStrategy", "MultiSignalStrategy", "MultiTimeframeStrategy", "TurtleSignalStrategy"),
]
SYMBOLS = [f"tick{number:02}" for number in range(50)]
COUNT = 200


def plan() -> list[tuple[str, str, str]]:
    """`(strategy_name, class_name, vt_symbol)`: 25 of each class, four on each contract."""
    return [
        (f"s{number:03}", CLASSES[number % len(CLASSES)], f"{SYMBOLS[number % len(SYMBOLS)]}.SHFE")
        for number in range(COUNT)
    ]
