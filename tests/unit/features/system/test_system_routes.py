from datetime import timedelta

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from testkit.fake_engine import HEALTHY, NOON
from vnpy_core import __version__
from vnpy_core.bus import topics
from vnpy_core.domain.commands import SubmitOrder
from vnpy_core.domain.enums import Direction, LogLevel, Offset, OrderType, Status
from vnpy_core.features.system.service import LOG_LINES, ComponentState, LogFilter
from vnpy_core.ports.journal import JournalState
from vnpy_core.ports.store import SinkState

STORE = SinkState(name="store", seq=490, lag=10, written=90, dead_letters=2, error="")
STUCK = msgspec.structs.replace(HEALTHY, alive=False, lag_ms=7000.0, queue_length=12)
COMMAND = SubmitOrder(
    client_order_id="c",
    gateway_name="PAPER",
    symbol="rb2505",
    exchange="SHFE",
    direction=Direction.LONG,
    offset=Offset.OPEN,
    type=OrderType.LIMIT,
    volume=5.0,
    price=3500.0,
)


class Session(msgspec.Struct):
    id: str = "1"
    principal: str = "admin"
    address: str = "127.0.0.1:50000"
    encoding: str = "json"
    topics: int = 2
    queued: int = 5
    behind: int = 1
    lag_ms: float = 0.5
    sent: int = 10
    conflated: int = 1
    dropped: int = 0


async def test_the_process_says_that_it_lives_without_a_credential(client_of):
    response = await client_of(None).get("/health/live")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_a_healthy_service_is_ready_without_a_credential(client_of):
    response = await client_of(None).get("/health/ready")
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "components": {"event_thread": "ok", "gateway.PAPER": "ok"}}


async def test_a_stuck_event_thread_makes_the_service_unready_but_leaves_it_alive(client, engine):
    engine.engine_status = STUCK
    response = await client.get("/health/ready")
    assert (response.status_code, response.json()["status"]) == (503, "down")
    assert response.json()["components"]["event_thread"] == "down"
    assert (await client.get("/health/live")).status_code == 200


async def test_a_gateway_or_app_that_is_down_degrades_only(client, engine):
    engine.add_gateway("CTP", connected=False, message="login failed")
    engine.engine_status = msgspec.structs.replace(HEALTHY, apps={"CtaStrategy": "loaded", "Algo": "no module"})
    response = await client.get("/health/ready")
    assert response.status_code == 200
    assert response.json() == {
        "status": "degraded",
        "components": {
            "event_thread": "ok",
            "gateway.PAPER": "ok",
            "gateway.CTP": "degraded",
            "app.CtaStrategy": "ok",
            "app.Algo": "degraded",
        },
    }


@pytest.mark.parametrize(
    ("state", "critical", "status", "overall"),
    [
        (ComponentState.OK, True, 200, "ok"),
        (ComponentState.DEGRADED, True, 200, "degraded"),
        (ComponentState.DOWN, False, 200, "degraded"),
        (ComponentState.DOWN, True, 503, "down"),
    ],
)
async def test_a_room_adds_its_own_part(client, system, state, critical, status, overall):
    system.components.add("journal", lambda: (state, "disk full"), critical=critical)
    response = await client.get("/health/ready")
    assert (response.status_code, response.json()["status"]) == (status, overall)
    assert response.json()["components"]["journal"] == state
    system.components.remove("journal")
    assert "journal" not in (await client.get("/health/ready")).json()["components"]


async def test_the_open_answer_tells_no_reasons(client_of, engine):
    engine.add_gateway("CTP", connected=False, message="canary")
    assert "canary" not in (await client_of(None).get("/health/ready")).text
    assert "canary" in (await client_of("viewer").get("/api/v1/system/status")).text


async def test_the_status_shows_everything_at_a_glance(client, clock, engine, sessions):
    sessions.append(Session())
    engine.engine_status = msgspec.structs.replace(HEALTHY, queue_length=3, lag_ms=1.5, apps={"CtaStrategy": "loaded"})
    clock.advance(90.25)
    status = (await client.get("/api/v1/system/status")).json()
    assert status["version"] == __version__
    assert (status["started_at"], status["uptime_s"], status["status"]) == ("2026-11-20T02:00:00Z", 90.25, "ok")
    assert status["components"][0] == {"name": "event_thread", "state": "ok", "detail": "", "critical": True}
    assert (status["event_thread"]["queue_length"], status["event_thread"]["lag_ms"]) == (3, 1.5)
    assert status["apps"] == {"CtaStrategy": "loaded"}
    assert status["sessions"] == [msgspec.to_builtins(Session())]
    assert status["sinks"] == []


JOURNAL = JournalState(epoch="e", first_seq=1, last_seq=500, size_bytes=4096, reserve=True, refusal="")


def journaling(engine, *, reserve=True, **fields):
    journal = msgspec.structs.replace(JOURNAL, reserve=reserve)
    engine.engine_status = msgspec.structs.replace(HEALTHY, journal=journal, **fields)


async def test_a_journal_that_can_be_written_is_ok(client, engine):
    journaling(engine)
    assert (await client.get("/health/ready")).json() == {
        "status": "ok",
        "components": {"event_thread": "ok", "journal": "ok", "gateway.PAPER": "ok"},
    }


@pytest.mark.parametrize(
    ("fields", "state", "status", "detail"),
    [
        ({"journal_refusal": "the disk is full"}, "down", 503, "the disk is full"),
        ({"journal_waiting": 7}, "degraded", 200, "7 events are not durable yet"),
        ({"reserve": False}, "degraded", 200, "no disk space is held back for the case that the disk is full"),
    ],
)
async def test_a_journal_that_fails_makes_the_service_unready(client, engine, fields, state, status, detail):
    journaling(engine, **fields)
    response = await client.get("/health/ready")
    assert (response.status_code, response.json()["components"]["journal"]) == (status, state)
    assert detail not in response.text
    (part,) = [
        part for part in (await client.get("/api/v1/system/status")).json()["components"] if part["name"] == "journal"
    ]
    assert (part["detail"], part["critical"]) == (detail, True)


async def test_a_store_that_does_not_get_on_degrades_only(client, engine, sinks):
    sinks.append(STORE)
    assert (await client.get("/health/ready")).json()["components"]["store"] == "ok"
    sinks[:] = [msgspec.structs.replace(STORE, lag=1200, error="no connection")]
    response = await client.get("/health/ready")
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    status = (await client.get("/api/v1/system/status")).json()
    (part,) = [part for part in status["components"] if part["name"] == "store"]
    assert part == {
        "name": "store",
        "state": "degraded",
        "detail": "1200 rows behind: no connection",
        "critical": False,
    }


async def test_the_status_shows_the_journal_and_what_follows_it(client, engine, sinks):
    journaling(engine, journal_waiting=3)
    sinks.append(STORE)
    status = (await client.get("/api/v1/system/status")).json()
    assert status["journal"] == {
        "epoch": "e",
        "first_seq": 1,
        "last_seq": 500,
        "size_bytes": 4096,
        "reserve": True,
        "waiting": 3,
        "refusal": "",
    }
    assert status["sinks"] == [{"name": "store", "seq": 490, "lag": 10, "written": 90, "dead_letters": 2, "error": ""}]


async def test_a_service_without_a_journal_shows_none(client):
    assert (await client.get("/api/v1/system/status")).json()["journal"] is None


async def test_the_journal_and_the_store_have_metrics(client, engine, sinks):
    journaling(engine, journal_waiting=3, journal_refusal="full")
    sinks.append(STORE)
    text = (await client.get("/metrics")).text
    for line in (
        "vnpy_core_journal_last_seq 500.0",
        "vnpy_core_journal_size_bytes 4096.0",
        "vnpy_core_journal_waiting 3.0",
        "vnpy_core_journal_refusing 1.0",
        'vnpy_core_sink_lag{name="store"} 10.0',
        'vnpy_core_sink_written_total{name="store"} 90.0',
        'vnpy_core_dead_letters{name="store"} 2.0',
    ):
        assert f"\n{line}\n" in text, line


async def test_the_status_says_why_the_event_thread_is_down(client, engine):
    engine.engine_status = STUCK
    status = (await client.get("/api/v1/system/status")).json()
    assert status["components"][0]["detail"] == "no answer for 7000 ms, 12 events wait"


async def test_the_metrics_are_read_when_they_are_asked_for(client, engine, sessions):
    await client.get("/metrics")
    engine.engine_status = msgspec.structs.replace(
        HEALTHY,
        lag_ms=250.0,
        queue_length=7,
        events_handled=1000,
        handler_errors=2,
        slow_events=7,
        ticks_conflated=3,
        bridge_backlog=4,
    )
    sessions.extend([Session(), Session()])
    engine.add_gateway("CTP", connected=False)
    engine.add_order(COMMAND)
    engine.add_order(COMMAND, Status.REJECTED)
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }
    assert (
        found.items()
        >= {
            ("vnpy_core_event_thread_alive",): 1.0,
            ("vnpy_core_event_queue_length",): 7.0,
            ("vnpy_core_event_lag_seconds",): 0.25,
            ("vnpy_core_events_handled_total",): 1000.0,
            ("vnpy_core_handler_errors_total",): 2.0,
            ("vnpy_core_slow_events_total",): 7.0,
            ("vnpy_core_ticks_conflated_total",): 3.0,
            ("vnpy_core_bridge_backlog",): 4.0,
            ("vnpy_core_sessions",): 2.0,
            ("vnpy_core_session_frames_waiting",): 10.0,
            ("vnpy_core_orders", "NOTTRADED"): 1.0,
            ("vnpy_core_orders", "REJECTED"): 1.0,
            ("vnpy_core_orders", "CANCELLED"): 0.0,
            ("vnpy_core_gateway_connected", "PAPER"): 1.0,
            ("vnpy_core_gateway_connected", "CTP"): 0.0,
        }.items()
    )
    assert found["process_resident_memory_bytes",] > 0


async def logged(client, **query):
    response = await client.get("/api/v1/system/logs", params=query)
    assert response.status_code == 200, response.text
    return [line["msg"] for line in response.json()["items"]]


async def test_log_lines_come_newest_first_and_filtered(client, engine):
    engine.log("one", LogLevel.DEBUG)
    engine.log("two", LogLevel.WARNING, "CtaStrategy", topic=topics.STRATEGY_LOG)
    engine.log("连接成功 Three", LogLevel.ERROR, datetime=NOON + timedelta(hours=1))
    assert await logged(client) == ["连接成功 Three", "two", "one"]
    assert await logged(client, level="WARNING") == ["连接成功 Three", "two"]
    assert await logged(client, source="CtaStrategy") == ["two"]
    assert await logged(client, contains="THREE") == ["连接成功 Three"]
    assert await logged(client, contains="连接") == ["连接成功 Three"]
    assert await logged(client, start="2026-11-21T12:00:01Z") == ["连接成功 Three"]
    assert await logged(client, limit=1) == ["连接成功 Three"]


async def test_log_lines_are_paged_though_new_ones_come(client, engine):
    for n in range(5):
        engine.log(f"line {n}")
    page = (await client.get("/api/v1/system/logs", params={"limit": 3})).json()
    assert [line["msg"] for line in page["items"]] == ["line 4", "line 3", "line 2"]
    engine.log("new")
    rest = (await client.get("/api/v1/system/logs", params={"limit": 3, "cursor": page["next_cursor"]})).json()
    assert [line["msg"] for line in rest["items"]] == ["line 1", "line 0"]
    assert rest["next_cursor"] is None


def test_only_the_newest_lines_are_kept(system, engine):
    for n in range(LOG_LINES + 5):
        engine.log(f"line {n}")
    kept = system.logs(LogFilter(), None, 2 * LOG_LINES)
    assert len(kept) == LOG_LINES
    assert (kept[0].msg, kept[-1].msg) == (f"line {LOG_LINES + 4}", "line 5")


async def test_secrets_that_gateways_log_are_not_shown(client, engine):
    engine.log("login with password=canary-1 and Authorization: Bearer abcdef123456")
    (line,) = await logged(client)
    assert "canary-1" not in line
    assert "abcdef123456" not in line


@pytest.mark.parametrize(
    ("field", "value"),
    [("level", "LOUD"), ("limit", 0), ("start", "x"), ("cursor", "x"), ("cursor", "WzFd"), ("contain", "x")],
)
async def test_a_wrong_log_filter_is_named(client, field, value):
    response = await client.get("/api/v1/system/logs", params={field: value})
    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, field)


@pytest.mark.parametrize("path", ["/metrics", "/api/v1/system/status", "/api/v1/system/logs"])
async def test_all_but_health_needs_a_viewer(client_of, path):
    assert (await client_of(None).get(path)).status_code == 401
    assert (await client_of("nobody").get(path)).status_code == 401
    for role in ("viewer", "trader", "admin"):
        assert (await client_of(role).get(path)).status_code == 200


def test_every_operation_is_documented(app):
    operations = {
        operation["operationId"]: operation for item in app.openapi()["paths"].values() for operation in item.values()
    }
    assert set(operations) == {"get_liveness", "get_readiness", "get_metrics", "get_system_status", "list_logs"}
    for operation in operations.values():
        assert operation["summary"]
        assert operation["description"]
        assert operation["tags"] == ["system"]
        assert "200" in operation["responses"]
    assert "503" in operations["get_readiness"]["responses"]
    assert list(operations["get_metrics"]["responses"]["200"]["content"]) == ["text/plain"]
