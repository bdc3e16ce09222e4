"""Figures for Prometheus, read off the service when they are asked for: nothing is counted twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vnpy_core.features.system.service import SystemService
from vnpy_core.ports.engine import EngineStatus
from vnpy_core.ports.store import SinkState


class Metrics:
    """Loop thread only. Rooms with figures of their own register collectors in the same `registry`."""

    def __init__(self, system: SystemService, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.registry.register(_SystemCollector(system))
        ProcessCollector(registry=self.registry)

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)


class _SystemCollector(Collector):
    def __init__(self, system: SystemService) -> None:
        self._system = system

    def describe(self) -> Iterator[Metric]:
        """Nothing in advance, so that registering asks no engine."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        status = self._system.engine_status()
        yield from _engine_metrics(status)
        yield from _journal_metrics(status)
        yield from _sink_metrics(self._system.sinks())
        sessions = self._system.sessions()
        waiting = sum(session.queued for session in sessions)
        yield GaugeMetricFamily("vnpy_core_sessions", "WebSocket clients.", value=len(sessions))
        yield GaugeMetricFamily("vnpy_core_session_frames_waiting", "Frames waiting for clients.", value=waiting)
        yield _labelled("vnpy_core_orders", "Orders in the read view.", "status", self._system.orders_by_status())
        yield _labelled(
            "vnpy_core_gateway_connected", "1 where connected.", "gateway_name", self._system.gateways_connected()
        )


def _engine_metrics(status: EngineStatus) -> Iterator[Metric]:
    yield GaugeMetricFamily("vnpy_core_event_thread_alive", "1 where it answers in time.", value=status.alive)
    yield GaugeMetricFamily("vnpy_core_event_queue_length", "Events waiting for VnPy.", value=status.queue_length)
    yield GaugeMetricFamily("vnpy_core_event_lag_seconds", "Last ping through the queue.", value=status.lag_ms / 1000)
    yield GaugeMetricFamily("vnpy_core_bridge_backlog", "Events waiting for the loop.", value=status.bridge_backlog)
    yield CounterMetricFamily("vnpy_core_events_handled", "Events VnPy handled.", value=status.events_handled)
    yield CounterMetricFamily("vnpy_core_handler_errors", "Event handlers that raised.", value=status.handler_errors)
    yield CounterMetricFamily("vnpy_core_slow_events", "Events handled in more than 50 ms.", value=status.slow_events)
    yield CounterMetricFamily("vnpy_core_ticks_conflated", "Ticks a newer one replaced.", value=status.ticks_conflated)


def _journal_metrics(status: EngineStatus) -> Iterator[Metric]:
    waiting = status.journal_waiting
    yield GaugeMetricFamily("vnpy_core_journal_waiting", "Events acted upon and not durable yet.", value=waiting)
    yield GaugeMetricFamily(
        "vnpy_core_journal_refusing", "1 where no order is taken.", value=bool(status.journal_refusal)
    )
    if (journal := status.journal) is not None:
        yield GaugeMetricFamily("vnpy_core_journal_last_seq", "The newest row.", value=journal.last_seq)
        yield GaugeMetricFamily("vnpy_core_journal_size_bytes", "Size of the file.", value=journal.size_bytes)


def _sink_metrics(sinks: list[SinkState]) -> Iterator[Metric]:
    lags = {sink.name: sink.lag for sink in sinks}
    written = {sink.name: sink.written for sink in sinks}
    parked = {sink.name: sink.dead_letters for sink in sinks}
    yield _labelled("vnpy_core_sink_lag", "Rows of the journal that the sink lacks.", "name", lags)
    yield _labelled("vnpy_core_sink_written", "Rows written.", "name", written, CounterMetricFamily)
    yield _labelled("vnpy_core_dead_letters", "Rows put aside because they cannot be stored.", "name", parked)


def _labelled(
    name: str,
    help_text: str,
    label: str,
    values: Mapping[str, int],
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily] = GaugeMetricFamily,
) -> Metric:
    family = kind(name, help_text, labels=[label])
    for value, figure in values.items():
        family.add_metric([value], figure)
    return family
