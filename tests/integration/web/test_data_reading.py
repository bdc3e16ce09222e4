"""What is stored, over the routes: pages, sources, what is there, what is taken away, what is recorded."""

import asyncio
import threading
from itertools import chain

import numpy as np
import pytest

from testkit.data_api import DataApi
from vnpy_core.domain.bars import Period, bars_from_ticks
from vnpy_core.domain.errors import JournalFailed, TimeSeriesUnavailable, ValidationFailed
from vnpy_core.domain.history import NS, Interval, Series, TickBatch, empty_ticks, to_datetime
from vnpy_core.web.problems import STATUS

RB = Series("rb2505", "SHFE")
START = 1_763_946_000 * NS
"""Monday 2025-11-24, 01:00 UTC: the day session begins in Shanghai."""


def ticks(count=3_600, step=NS):
    rows = empty_ticks(count)
    rows["ts"] = START + np.arange(count) * step
    rows["last_price"] = 3_500 + np.arange(count) % 7
    rows["volume"] = np.arange(count)
    return rows


def iso(ns):
    return to_datetime(ns).isoformat()


@pytest.fixture
async def api(tmp_path):
    api = DataApi(tmp_path)
    api.service.open()
    api.store.append_ticks(TickBatch({RB: ticks(), Series("T", "EUREX"): ticks(1)}, {RB: "螺纹钢2505"}))
    api.store.merge_bars(RB, Interval.MINUTE, minutes()[:40])
    yield api
    await api.service.close()


@pytest.fixture
async def client(api):
    async with api.client() as client:
        yield client


def minutes():
    return np.concatenate(list(bars_from_ticks([ticks()], Period.parse("1m"), "SHFE")))


async def get_all(client, path, **params):
    """The items of all pages, page by page, and the first page."""
    found, first, cursor = [], None, {}
    while True:
        page = (await client.get(path, params=params | cursor)).json()
        first = first or page
        found.append([item["datetime"] for item in page["items"]])
        if page["next_cursor"] is None:
            return found, first
        cursor = {"cursor": page["next_cursor"]}


async def test_bars_forward_and_backward_are_the_same_bars(client):
    want = {"vt_symbol": "rb2505.SHFE", "interval": "1m", "limit": 7}
    forward, first = await get_all(client, "/bars", start=iso(START), **want)
    backward, newest = await get_all(client, "/bars", **want)
    times = list(chain(*forward))
    assert times == list(chain(*backward[::-1])) == sorted(times)
    assert len(times) == 40
    assert newest["items"][-1]["datetime"] == "2025-11-24T01:39:00.000000Z"
    assert first["source"] == "bars"
    bar = minutes()[0]
    assert first["items"][0] == {
        "vt_symbol": "rb2505.SHFE",
        "interval": "1m",
        "datetime": "2025-11-24T01:00:00.000000Z",
        "trading_day": "2025-11-24",
        **{name: float(bar[name]) for name in bar.dtype.names[1:]},
    }


@pytest.mark.parametrize(
    ("interval", "source", "count"), [("15s", "ticks", 240), ("5m", "1m", 8), ("1h", "1m", 1), ("1d", "1m", 1)]
)
async def test_other_bars_are_made_of_what_there_is(client, interval, source, count):
    params = {"vt_symbol": "rb2505.SHFE", "interval": interval, "start": iso(START - 12 * 3600 * NS), "limit": 1000}
    page = (await client.get("/bars", params=params)).json()
    assert (page["source"], len(page["items"]), page["next_cursor"]) == (source, count, None)
    assert {item["interval"] for item in page["items"]} == {interval.replace("1d", "d")}


async def test_a_source_can_be_asked_for(client):
    params = {"vt_symbol": "rb2505.SHFE", "interval": "1m", "source": "ticks", "limit": 1000}
    page = (await client.get("/bars", params=params)).json()
    assert (page["source"], len(page["items"])) == ("ticks", 60)


async def test_ticks_are_those_that_came(client):
    want = {"vt_symbol": "rb2505.SHFE", "start": iso(START + 5 * NS), "end": iso(START + 25 * NS), "limit": 6}
    found, first = await get_all(client, "/ticks", **want)
    assert list(chain(*found)) == [iso(START + n * NS).replace("+00:00", ".000000Z") for n in range(5, 25)]
    assert first["items"][0]["last_price"] == 3_505
    assert first["items"][0]["gateway_name"] == "DB"
    newest = (await client.get("/ticks", params={"vt_symbol": "rb2505.SHFE", "limit": 2})).json()["items"]
    assert [item["volume"] for item in newest] == [3_598, 3_599]


async def test_an_exchange_is_found_by_vnpys_ending(client):
    assert len((await client.get("/ticks", params={"vt_symbol": "T.EUX"})).json()["items"]) == 1


@pytest.mark.parametrize(
    "params",
    [
        {"interval": "25h"},
        {"interval": "0m"},
        {"interval": "1M"},
        {},
        {"interval": "1m", "limit": 1001},
        {"interval": "1m", "start": "2025-11-24T01:00:00"},
        {"interval": "1m", "cursor": "x"},
        {"interval": "1m", "cursor": "WzEsdHJ1ZSwieCJd"},
        {"interval": "1m", "source": "csv"},
        {"interval": "5s", "source": "1m"},
        {"interval": "1m", "vt_symbol": "rb2505"},
    ],
)
async def test_what_cannot_be_read_is_refused(client, params):
    answer = await client.get("/bars", params={"vt_symbol": "rb2505.SHFE"} | params)
    assert (answer.status_code, answer.json()["code"]) == (422, "VALIDATION_FAILED")


@pytest.mark.parametrize("start", ["0", "-99999999999", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"])
async def test_times_far_away_are_no_error(client, start):
    for path in ("/bars", "/ticks"):
        for name in ("start", "end"):
            params = {"vt_symbol": "rb2505.SHFE", name: start} | ({"interval": "w"} if path == "/bars" else {})
            assert (await client.get(path, params=params)).status_code == 200


async def test_what_is_not_stored_is_an_empty_page(client):
    page = (await client.get("/bars", params={"vt_symbol": "x.SHFE", "interval": "1m"})).json()
    assert page == {"items": [], "next_cursor": None, "source": None}


async def test_a_store_that_is_away_is_said(api, client, monkeypatch):
    def away(*args, **more):
        raise TimeSeriesUnavailable("the store does not answer")

    for name in ("bars", "last_ticks", "overview", "delete_ticks"):
        monkeypatch.setattr(api.store, name, away)
    params = {"vt_symbol": "rb2505.SHFE"}
    for answer in (
        await client.get("/bars", params=params | {"interval": "1m"}),
        await client.get("/ticks", params=params),
        await client.get("/overview"),
        await client.delete("/ticks", params=params | {"all": True}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (503, "OVERLOADED")
        assert answer.json()["detail"] == "the store does not answer"


async def test_a_slow_store_does_not_pile_up_requests(api, client, monkeypatch):
    go = threading.Event()
    monkeypatch.setattr(api.store, "last_ticks", lambda *args: go.wait(10) and empty_ticks())
    monkeypatch.setattr(api.service._workers, "_limit", 3)
    params = {"vt_symbol": "rb2505.SHFE"}
    waiting = [asyncio.create_task(client.get("/ticks", params=params)) for _ in range(3)]
    await asyncio.sleep(0.05)
    refused = await client.get("/ticks", params=params)
    assert (refused.status_code, refused.json()["code"]) == (503, "OVERLOADED")
    go.set()
    assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200] * 3
    assert (await client.get("/ticks", params=params)).status_code == 200


async def test_the_overview_lists_each_series(client):
    page = (await client.get("/overview")).json()
    assert [(item["vt_symbol"], item["interval"], item["count"]) for item in page["items"]] == [
        ("T.EUX", "tick", 1),
        ("rb2505.SHFE", "1m", 40),
        ("rb2505.SHFE", "tick", 3_600),
    ]
    assert page["items"][2] == {
        "vt_symbol": "rb2505.SHFE",
        "symbol": "rb2505",
        "exchange": "SHFE",
        "kind": "tick",
        "interval": "tick",
        "count": 3_600,
        "start": "2025-11-24T01:00:00Z",
        "end": "2025-11-24T01:59:59Z",
        "name": "螺纹钢2505",
    }
    bars = (await client.get("/overview", params={"vt_symbol": "rb2505.SHFE", "kind": "bar"})).json()["items"]
    assert [item["interval"] for item in bars] == ["1m"]
    first = (await client.get("/overview", params={"limit": 2})).json()
    rest = (await client.get("/overview", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert first["items"] + rest["items"] == page["items"]
    assert rest["next_cursor"] is None


# Deleting


async def count(client, path, **more):
    return sum(len(part) for part in (await get_all(client, path, vt_symbol="rb2505.SHFE", limit=1000, **more))[0])


async def test_a_range_is_deleted_and_put_on_record(api, client):
    params = {"vt_symbol": "rb2505.SHFE", "start": iso(START), "end": iso(START + 60 * NS)}
    assert (await client.delete("/ticks", params=params)).json() == {"deleted": 60}
    assert await count(client, "/ticks") == 3_540
    assert (await client.delete("/bars", params=params | {"interval": "1m"})).json() == {"deleted": 1}
    everything = {"vt_symbol": "rb2505.SHFE", "all": True}
    assert (await client.delete("/bars", params=everything | {"interval": "1m"})).json() == {"deleted": 39}
    assert await count(client, "/ticks") == 3_540
    audits = [(audit.who, audit.what, audit.target, audit.after) for audit in api.engine.audits]
    assert audits[0] == (
        "a admin",
        "ticks.delete",
        "rb2505.SHFE",
        {"interval": None, "start": iso(START), "end": iso(START + 60 * NS)},
    )
    assert audits[2][1:] == ("bars.delete", "rb2505.SHFE", {"interval": "1m", "start": None, "end": None})


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"start": iso(START)},
        {"end": iso(START)},
        {"all": False},
        {"all": True, "start": iso(START)},
        {"start": iso(START), "end": iso(START)},
        {"all": True, "interval": "5m"},
    ],
)
async def test_nobody_deletes_years_by_accident(client, params):
    answer = await client.delete("/bars", params={"vt_symbol": "rb2505.SHFE", "interval": "1m"} | params)
    assert (answer.status_code, answer.json()["code"]) == (422, "VALIDATION_FAILED")
    assert await count(client, "/bars", interval="1m") == 40


async def test_nothing_is_deleted_off_the_record(api, client):
    api.engine.journal_error = JournalFailed("the journal cannot be written")
    answer = await client.delete("/ticks", params={"vt_symbol": "rb2505.SHFE", "all": True})
    assert answer.status_code == STATUS[JournalFailed.code]
    assert await count(client, "/ticks") == 3_600


# The recorder


async def test_what_is_recorded_can_be_changed(api, client):
    assert (await client.get("/recorder")).json()["patterns"] == ["*"]
    answer = await client.put("/recorder", json={"symbols": ["rb*.SHFE", "BTCUSDT.GLOBAL"]})
    assert answer.json()["patterns"] == ["rb*.SHFE", "BTCUSDT.GLOBAL"]
    assert api.recorder.patterns == ("rb*.SHFE", "BTCUSDT.GLOBAL")
    audit = api.engine.audits[0]
    assert (audit.what, audit.before, audit.after) == (
        "recorder.set",
        {"symbols": ("*",)},
        {"symbols": ("rb*.SHFE", "BTCUSDT.GLOBAL")},
    )
    assert (await client.put("/recorder", json={"symbols": []})).json()["patterns"] == []


@pytest.mark.parametrize("body", [{}, {"symbols": "rb"}, {"symbols": [""]}, {"symbols": [1]}, {"patterns": []}])
async def test_a_wrong_record_list_is_refused(api, client, body):
    assert (await client.put("/recorder", json=body)).status_code == 422
    assert api.recorder.patterns == ("*",)


async def test_what_the_recorder_refuses_is_refused(api, client):
    api.recorder.error = ValidationFailed("'[' is no pattern")
    assert (await client.put("/recorder", json={"symbols": ["["]})).json()["detail"] == "'[' is no pattern"
    assert api.engine.audits == []


# The document


def test_every_route_has_an_example_and_its_errors(api):
    document = api.app.openapi()
    found = 0
    for path, operations in document["paths"].items():
        if not path.startswith("/api/v1/data"):
            continue
        for operation in operations.values():
            found += 1
            assert operation["summary"]
            assert operation["description"]
            success = operation["responses"].get("200") or operation["responses"]["202"]
            for kind, content in success["content"].items():
                assert kind != "application/json" or "example" in content, path
            assert {"401", "403", "422"} <= set(operation["responses"])
    assert found == 13
    form = document["paths"]["/api/v1/data/import"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert {"file", "kind", "format", "mapping", "vt_symbol", "strict"} <= set(form["properties"])
