"""The last lines of each strategy."""

from __future__ import annotations

from functools import partial

import pytest

from vnpy_core.domain.enums import LogLevel
from vnpy_core.features.strategies import logs as room


@pytest.fixture
def write(api):
    return api.write


@pytest.fixture
def demo(engine, write):
    engine.put("demo")
    return partial(write, "demo")


async def lines(client, **query) -> list[str]:
    response = await client.get("/demo/logs", params=query)
    assert response.status_code == 200
    return [item["msg"] for item in response.json()["items"]]


async def test_the_newest_line_is_the_last_and_pages_lead_into_the_past(client, demo):
    for number in range(1, 8):
        demo(f"line {number}")
    page = (await client.get("/demo/logs", params={"limit": 3})).json()
    assert [(item["number"], item["msg"]) for item in page["items"]] == [(n, f"line {n}") for n in (5, 6, 7)]
    demo("line 8")  # while somebody pages
    assert await lines(client, limit=3, cursor=page["next_cursor"]) == ["line 2", "line 3", "line 4"]
    whole = (await client.get("/demo/logs")).json()
    assert (len(whole["items"]), whole["next_cursor"]) == (8, None)
    assert whole["items"][0] == {
        "number": 1, "level": "INFO", "msg": "line 1", "datetime": "2026-11-21T12:00:00Z",
    }  # fmt: skip


async def test_lines_are_chosen_by_how_serious_they_are(client, demo):
    for level in LogLevel:
        demo(level, level)
    assert await lines(client, level="WARNING") == ["WARNING", "ERROR", "CRITICAL"]
    assert await lines(client, level="WARNING", limit=1) == ["CRITICAL"]
    assert (await client.get("/demo/logs", params={"level": "LOUD"})).status_code == 422


async def test_each_strategy_has_its_own_lines_and_the_last_1000_of_them(client, demo, write):
    write("other", "not mine")
    write(None, "nobody's")
    for number in range(1, room.LINES + 3):
        demo(f"{number}")
    found = await lines(client, limit=1000)
    assert (len(found), found[0], found[-1]) == (room.LINES, "3", str(room.LINES + 2))
    cursor = (await client.get("/demo/logs", params={"limit": 1})).json()["next_cursor"]
    assert await lines(client, limit=1, cursor=cursor) == [str(room.LINES + 1)]


async def test_secrets_in_a_line_are_not_shown(client, demo):
    demo("password=hunter2")
    assert "hunter2" not in (await lines(client))[0]


async def test_an_unknown_strategy_has_no_lines_though_somebody_wrote_some(client, write):
    write("ghost", "boo")
    assert (await client.get("/ghost/logs")).status_code == 404


async def test_a_strategy_of_the_same_name_begins_with_none(client, engine, demo):
    demo("before")
    await client.delete("/demo")
    engine.put("demo")
    assert await lines(client) == []


def test_lines_of_the_longest_silent_strategies_go_when_there_are_too_many(api, write, monkeypatch):
    monkeypatch.setattr(room, "STRATEGIES", 2)
    for name in ("a", "b", "a", "c"):
        write(name, "x")
    kept = [name for name in "abc" if api.logs.newest(name, level=LogLevel.DEBUG, before=None, limit=9)]
    assert kept == ["a", "c"]
