"""An edge's figures for Prometheus, read off it when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vnpy_core.features.edge.health import EdgeHealth
from vnpy_core.features.edge.service import FeedState


class EdgeMetrics:
    """Loop thread only."""

    def __init__(self, health: EdgeHealth, registry: CollectorRegistry) -> None:
        self._registry = registry
        registry.register(_EdgeCollector(health))
        ProcessCollector(registry=registry)

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _EdgeCollector(Collector):
    def __init__(self, health: EdgeHealth) -> None:
        self._health = health

    def describe(self) -> Iterator[Metric]:
        """Nothing in advance."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        feed = self._health.feed.status()
        state = GaugeMetricFamily("vnpy_core_edge_state", "1 for the state of the moment.", labels=["state"])
        for each in FeedState:
            state.add_metric([each], each is feed.state)
        yield state
        yield GaugeMetricFamily("vnpy_core_edge_seq", "The last class A event published here.", value=feed.seq)
        yield GaugeMetricFamily(
            "vnpy_core_edge_lag", "Events that the core has published and this edge lacks.", feed.lag
        )
        yield GaugeMetricFamily("vnpy_core_edge_silent_seconds", "Since the core's last sign of life.", feed.silent_s)
        yield GaugeMetricFamily("vnpy_core_edge_listening", "1 where the channels are heard.", feed.listening)
        for name, help_text, value in (
            ("events", "Entries of the stream taken in.", feed.events),
            ("signals", "Messages of the channels taken in.", feed.signals),
            ("mended", "Differences from the cache that were published.", feed.mended),
            ("loads", "Times the whole state was read.", feed.loads),
            ("interruptions", "Times a connection was lost.", feed.interruptions),
            ("duplicates", "Events that came again.", feed.duplicates),
            ("foreign", "Messages left out: another epoch's, or in the wrong place.", feed.foreign),
            ("undecodable", "Messages that cannot be understood.", feed.undecodable),
            ("faults", "Errors of our own.", feed.faults),
        ):
            yield CounterMetricFamily(f"vnpy_core_edge_{name}", help_text, value)
        sessions = self._health.sessions()
        yield GaugeMetricFamily("vnpy_core_sessions", "WebSocket clients.", value=len(sessions))
        waiting = sum(session.queued for session in sessions)
        yield GaugeMetricFamily("vnpy_core_session_frames_waiting", "Frames waiting for clients.", value=waiting)
