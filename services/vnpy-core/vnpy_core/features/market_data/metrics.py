"""The recorder's figures for Prometheus, read off it when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vnpy_core.ports.recorder import Recorder


class RecorderCollector(Collector):
    """Any thread."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def describe(self) -> Iterator[Metric]:
        """Nothing in advance."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The figures of the moment."""
        state = self._recorder.state()
        yield CounterMetricFamily("vnpy_core_ticks_recorded", "Ticks made durable.", value=state.recorded)
        yield CounterMetricFamily(
            "vnpy_core_ticks_dropped", "Ticks that were to be recorded and are lost.", value=state.dropped
        )
        yield CounterMetricFamily(
            "vnpy_core_ticks_ignored", "Ticks of replays and second gateways.", value=state.ignored
        )
        yield CounterMetricFamily("vnpy_core_ticks_stale", "Ticks whose time is far off the clock.", value=state.stale)
        yield CounterMetricFamily("vnpy_core_bars_recorded", "1-minute bars written.", value=state.bars)
        yield GaugeMetricFamily("vnpy_core_recorder_waiting", "Ticks that wait for the store.", value=state.waiting)
        yield GaugeMetricFamily(
            "vnpy_core_recorder_lag_seconds", "How long they have waited.", value=state.lag_ms / 1000
        )
