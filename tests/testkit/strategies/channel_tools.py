"""通道类策略共用的小工具，策略文件里用 `from strategies.channel_tools import ...` 导入。"""

import numpy as np
import talib
from vnpy_ctastrategy import ArrayManager, BarData, BarGenerator


def ama_channel(close: np.ndarray, period: int, dev: float) -> tuple[float, float, float]:
    """考夫曼自适应均线，加减 dev 倍标准差。返回中轨、上轨、下轨。"""
    ama = talib.KAMA(close, period)
    std = talib.STDDEV(close, period)
    mid, width = ama[-1], std[-1] * dev
    return mid, mid + width, mid - width


class TrendFilter:
    """大周期趋势过滤：快慢 EMA 的多空方向，1 / -1 / 0。"""

    def __init__(self, window: int, fast: int, slow: int, size: int = 30) -> None:
        self.fast = fast
        self.slow = slow
        self.bg = BarGenerator(self.on_bar, window, self.on_window_bar)
        self.am = ArrayManager(size)
        self.trend = 0

    def update_bar(self, bar: BarData) -> None:
        self.bg.update_bar(bar)

    def on_bar(self, bar: BarData) -> None:
        pass

    def on_window_bar(self, bar: BarData) -> None:
        self.am.update_bar(bar)
        if not self.am.inited:
            return
        fast, slow = self.am.ema(self.fast), self.am.ema(self.slow)
        self.trend = int(np.sign(fast - slow))
