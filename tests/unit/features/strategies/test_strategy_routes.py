"""Classes, strategies and what becomes of them, over HTTP."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest
from structlog.testing import capture_logs

from testkit.fake_strategies import DOUBLE_MA
from vnpy_core.domain.commands import SubmitOrder
from vnpy_core.domain.enums import Direction, Offset, OrderType, Status, StrategyState
from vnpy_core.domain.errors import OutcomeUnknown, Overloaded, StorageFull, ValidationFailed
from vnpy_core.domain.strategies import LoadError, Parameter

NEW = {"class_name": "DoubleMa", "strategy_name": "demo", "vt_symbol": "rb2505.SHFE"}
COMMAND = SubmitOrder(
    client_order_id="c",
    gateway_name="PAPER",
    symbol="rb2505",
    exchange="SHFE",
    direction=Direction.LONG,
    offset=Offset.OPEN,
    type=OrderType.LIMIT,
    volume=1.0,
    price=3500.0,
)


def code_of(response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


def fields_of(response) -> list[str]:
    return [error["field"] for error in response.json()["errors"]]


def audited(trading) -> list[tuple]:
    return [(audit.who, audit.what, audit.target, audit.before, audit.after) for audit in trading.audits]


async def names(client, path="", **query) -> list[str]:
    response = await client.get(path, params=query)
    assert response.status_code == 200
    return [item["strategy_name"] for item in response.json()["items"]]


# Classes


async def test_classes_are_listed_with_their_parameters_and_the_files_that_failed(client, engine):
    engine.known_classes["Atr"] = msgspec.structs.replace(DOUBLE_MA, class_name="Atr", shipped=True)
    engine.failed = [LoadError(file="draft.py", error="SyntaxError")]
    page = (await client.get("/classes")).json()
    assert [each["class_name"] for each in page["items"]] == ["Atr", "DoubleMa"]
    assert page["items"][1]["parameters"][0] == {"name": "fast", "type": "int", "default": 10}
    assert page["failed"] == [{"file": "draft.py", "error": "SyntaxError"}]
    first = (await client.get("/classes", params={"limit": 1})).json()
    rest = (await client.get("/classes", params={"limit": 1, "cursor": first["next_cursor"]})).json()
    assert [each["class_name"] for each in rest["items"]] == ["DoubleMa"]
    assert (rest["next_cursor"], rest["failed"]) == (None, page["failed"])


async def test_one_class_is_shown_and_an_unknown_one_is_not_found(client):
    shown = (await client.get("/classes/DoubleMa")).json()
    assert shown == msgspec.to_builtins(DOUBLE_MA)
    assert code_of(await client.get("/classes/Nobody")) == (404, "NOT_FOUND")
    assert code_of(await client.get("/classes/..%2F..%2Fetc%2Fpasswd"))[0] in (404, 422)


async def test_a_reload_says_what_changed_and_what_keeps_its_code(client, engine, trading):
    engine.put("demo")
    engine.on_reload = {
        "DoubleMa": msgspec.structs.replace(DOUBLE_MA, hash="h2"),
        "New": msgspec.structs.replace(DOUBLE_MA, class_name="New"),
    }
    engine.failed = [LoadError(file="draft.py", error="SyntaxError")]
    reloaded = (await client.post("/classes/reload")).json()
    assert reloaded == {
        "loaded": ["DoubleMa", "New"],
        "changed": ["DoubleMa", "New"],
        "removed": [],
        "failed": [{"file": "draft.py", "error": "SyntaxError"}],
        "kept": ["demo"],
    }
    assert audited(trading) == [
        (
            "a trader",
            "strategy.reload",
            "",
            {"DoubleMa": "h1"},
            {"DoubleMa": "h2", "New": "h1", "failed": ["draft.py"]},
        )
    ]


# Making


async def test_a_new_strategy_has_what_was_set_and_defaults_for_the_rest(client, trading):
    response = await client.post("", json=NEW | {"setting": {"fast": 5, "ratio": 1}, "auto_start": True})
    made = response.json()
    assert response.status_code == 201
    assert made["parameters"] == {"fast": 5, "slow": 20, "ratio": 1.0, "label": "a"}
    assert (made["state"], made["auto_start"], made["vt_symbol"]) == ("CREATED", True, "rb2505.SHFE")
    assert (await client.get("/demo")).json() == made
    [(who, what, target, before, after)] = audited(trading)
    assert (who, what, target, before) == ("a trader", "strategy.add", "demo", None)
    assert (after["class_name"], after["class_hash"], after["auto_start"]) == ("DoubleMa", "h1", True)
    assert after["parameters"] == made["parameters"]


@pytest.mark.parametrize("path", ["", "/"])
async def test_the_room_answers_with_and_without_a_slash_at_its_end(client, path):
    assert (await client.post(path, json=NEW)).status_code == 201
    assert await names(client, path) == ["demo"]


@pytest.mark.parametrize(
    ("setting", "wrong"),
    [
        ({"fasst": 5}, ["setting.fasst"]),
        ({"fast": "5"}, ["setting.fast"]),
        ({"fast": 5.5, "slow": True}, ["setting.fast", "setting.slow"]),
        ({"label": None}, ["setting.label"]),
    ],
)
async def test_a_setting_that_does_not_fit_its_class_is_refused_field_by_field(client, engine, setting, wrong):
    response = await client.post("", json=NEW | {"setting": setting})
    assert code_of(response) == (422, "VALIDATION_FAILED")
    assert fields_of(response) == wrong
    assert engine.asked == []


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_numbers_that_are_not_finite_are_refused(client, engine, number):
    body = json.dumps(NEW | {"setting": {"ratio": 0}}).replace('"ratio": 0', f'"ratio": {number}')
    response = await client.post("", content=body, headers={"Content-Type": "application/json"})
    assert code_of(response) == (422, "VALIDATION_FAILED")
    engine.put("demo")
    for method in ("PUT", "PATCH"):
        response = await client.request(
            method, "/demo/parameters", content=f'{{"ratio": {number}}}', headers={"Content-Type": "application/json"}
        )
        assert code_of(response) == (422, "VALIDATION_FAILED")
    assert engine.asked == []


@pytest.mark.parametrize("name", ["demo", "螺纹钢_双均线", "a.b-c", "1"])
async def test_names_of_any_language_are_taken(client, name):
    assert (await client.post("", json=NEW | {"strategy_name": name})).status_code == 201
    assert (await client.get(f"/{name}")).json()["strategy_name"] == name


async def test_a_class_may_have_a_name_of_any_language(client, engine):
    engine.known_classes["双均线策略"] = msgspec.structs.replace(DOUBLE_MA, class_name="双均线策略")
    assert (await client.post("", json=NEW | {"class_name": "双均线策略"})).status_code == 201
    assert (await client.get("/classes/双均线策略")).json()["class_name"] == "双均线策略"
    assert code_of(await client.post("", json=NEW | {"class_name": "1号"})) == (422, "VALIDATION_FAILED")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../demo",
        "a..b",
        ".a",
        "-a",
        "a/b",
        "a b",
        "a\n",
        "a" * 65,
        "a\x00",
        "all",
        "classes",
        "init-all",
        "stop-orders",
    ],
)
async def test_names_that_would_mean_something_else_are_refused(client, engine, name):
    response = await client.post("", json=NEW | {"strategy_name": name})
    assert code_of(response) == (422, "VALIDATION_FAILED")
    assert fields_of(response) == ["strategy_name"]
    assert engine.asked == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("class_name", "../x"),
        ("class_name", ""),
        ("vt_symbol", "rb2505"),
        ("setting", [1]),
        ("auto_start", "perhaps"),
        ("vtsymbol", "rb2505.SHFE"),
    ],
)
async def test_other_wrong_fields_are_named(client, field, value):
    response = await client.post("", json=NEW | {field: value})
    assert code_of(response) == (422, "VALIDATION_FAILED")
    assert fields_of(response) == [field]


async def test_what_the_engine_refuses_is_told_in_its_words(client, engine, trading):
    assert code_of(await client.post("", json=NEW | {"class_name": "Nobody"})) == (404, "NOT_FOUND")
    engine.errors["add", "demo"] = ValidationFailed("its __init__ raised: ZeroDivisionError")
    response = await client.post("", json=NEW)
    assert code_of(response) == (422, "VALIDATION_FAILED")
    assert "ZeroDivisionError" in response.json()["detail"]
    engine.put("taken")
    assert code_of(await client.post("", json=NEW | {"strategy_name": "taken"})) == (409, "CONFLICT")
    assert trading.audits == []


# Reading


async def test_strategies_are_listed_by_name_in_pages_and_filtered(client, engine):
    engine.put("c", StrategyState.RUNNING)
    engine.put("a", vt_symbol="ag2512.SHFE")
    engine.put("b", class_name="Other")
    assert await names(client) == ["a", "b", "c"]
    assert await names(client, state="RUNNING") == ["c"]
    assert await names(client, class_name="Other") == ["b"]
    assert await names(client, vt_symbol="ag2512.SHFE") == ["a"]
    first = (await client.get("", params={"limit": 2})).json()
    assert await names(client, limit=2, cursor=first["next_cursor"]) == ["c"]
    assert code_of(await client.get("", params={"state": "running"})) == (422, "VALIDATION_FAILED")
    assert code_of(await client.get("", params={"cursor": "%"})) == (422, "VALIDATION_FAILED")


async def test_a_strategy_shows_everything_that_the_contract_names(client, engine):
    engine.put("demo", StrategyState.RUNNING, pos=2.0, attributed_pos=1.0)
    shown = (await client.get("/demo")).json()
    contract = {
        "strategy_name", "class_name", "vt_symbol", "author", "parameters", "variables", "inited", "trading", "pos",
        "state", "error", "auto_start",
    }  # fmt: skip
    assert contract <= set(shown)
    assert (shown["state"], shown["inited"], shown["trading"]) == ("RUNNING", True, True)
    assert (shown["pos"], shown["attributed_pos"]) == (2.0, 1.0)
    assert (await client.get("/demo/variables")).json() == {"fast_ma": 0.0, "slow_ma": 0.0}
    assert (await client.get("/demo/parameters")).json() == shown["parameters"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""), ("GET", "/parameters"), ("GET", "/variables"), ("GET", "/orders"), ("GET", "/trades"),
        ("GET", "/logs"), ("GET", "/pnl"), ("GET", "/equity"), ("POST", "/init"), ("POST", "/start"),
        ("POST", "/stop"), ("PUT", "/parameters"), ("PATCH", "/parameters"), ("PATCH", ""), ("DELETE", ""),
    ],
)  # fmt: skip
async def test_an_unknown_strategy_is_not_found_whatever_is_asked_of_it(client, trading, method, path):
    body = None if method in ("GET", "POST", "DELETE") else {} if path else {"auto_start": True}
    assert code_of(await client.request(method, f"/nobody{path}", json=body)) == (404, "NOT_FOUND")
    assert trading.audits == []


async def test_names_that_vnpys_file_brought_may_hold_slashes_and_spaces(client, engine):
    engine.put("rb/多 头?", StrategyState.INITED)
    path = "/rb%2F%E5%A4%9A%20%E5%A4%B4%3F"
    assert (await client.get(path)).json()["strategy_name"] == "rb/多 头?"
    assert (await client.post(f"{path}/start")).json()["state"] == "RUNNING"
    assert (await client.get(f"{path}/parameters")).status_code == 200


async def test_stop_orders_that_wait_are_listed_oldest_first(client, engine):
    engine.put_stop(9)
    engine.put_stop(10, "other")
    engine.put_stop(2)
    first = (await client.get("/stop-orders", params={"limit": 2})).json()
    assert [item["stop_orderid"] for item in first["items"]] == ["STOP.2", "STOP.9"]
    rest = (await client.get("/stop-orders", params={"cursor": first["next_cursor"]})).json()
    assert [item["stop_orderid"] for item in rest["items"]] == ["STOP.10"]
    other = (await client.get("/stop-orders", params={"strategy_name": "other"})).json()
    assert [item["stop_orderid"] for item in other["items"]] == ["STOP.10"]


async def test_its_orders_and_trades_are_those_of_trading_that_bear_its_name(client, engine, trading):
    engine.put("demo")
    mine = [trading.add_order(COMMAND, Status.ALLTRADED, strategy_name="demo") for _ in range(3)]
    active = trading.add_order(COMMAND, strategy_name="demo")
    foreign = trading.add_order(COMMAND, strategy_name="other")
    fills = [trading.add_trade(order) for order in [*mine, foreign]]
    first = (await client.get("/demo/orders", params={"limit": 3})).json()
    assert [item["vt_orderid"] for item in first["items"]] == [order.vt_orderid for order in mine]
    rest = (await client.get("/demo/orders", params={"cursor": first["next_cursor"]})).json()
    assert [item["vt_orderid"] for item in rest["items"]] == [active.vt_orderid]
    only = (await client.get("/demo/orders", params={"active": True})).json()
    assert [item["vt_orderid"] for item in only["items"]] == [active.vt_orderid]
    trades = (await client.get("/demo/trades")).json()
    assert [item["vt_tradeid"] for item in trades["items"]] == [fill.vt_tradeid for fill in fills[:3]]
    later = (await client.get("/demo/trades", params={"after_seq": fills[0].seq})).json()
    assert [item["vt_tradeid"] for item in later["items"]] == [fill.vt_tradeid for fill in fills[1:3]]
    assert (await client.get("/demo/trades", params={"strategy_name": "other"})).status_code == 422


async def test_a_list_that_lacks_its_past_says_so(client, engine, trading, store):
    engine.put("demo")
    trading.view.complete_from = 5
    store.away = True
    response = await client.get("/demo/orders")
    assert (response.status_code, response.headers.get("X-Incomplete")) == (200, "history")


async def test_profit_is_that_of_the_days_that_were_asked_for(client, engine, ledger):
    engine.put("demo")
    ledger.answer = {"net": 5.0}
    days = {"start": "2026-11-01", "end": "2026-11-20"}
    for path, query in (
        ("/demo/pnl", days),
        ("/demo/pnl", {}),
        ("/demo/equity", {}),
        ("/demo/equity", days | {"resolution": "trade"}),
    ):
        assert (await client.get(path, params=query)).json() == {"net": 5.0}
    everything = {"name": "demo", "start": "", "end": ""}
    assert ledger.asked == [
        {"name": "demo"} | days,
        everything,
        everything | {"resolution": "day"},
        {"name": "demo", "resolution": "trade"} | days,
    ]
    for wrong in ({"start": "yesterday"}, {"resolution": "week"}, {"day": "2026-11-01"}):
        assert code_of(await client.get("/demo/equity", params=wrong)) == (422, "VALIDATION_FAILED")


# Parameters


async def test_put_sets_all_parameters_and_patch_merges(client, engine, trading):
    engine.put("demo", parameters={"fast": 5, "slow": 50, "ratio": 0.1, "label": "b"})
    changed = await client.patch("/demo/parameters", json={"fast": 7})
    assert (changed.status_code, changed.json()) == (200, {"fast": 7, "slow": 50, "ratio": 0.1, "label": "b"})
    replaced = await client.put("/demo/parameters", json={"slow": 60})
    assert (replaced.status_code, replaced.json()) == (200, {"fast": 10, "slow": 60, "ratio": 0.5, "label": "a"})
    assert (await client.get("/demo/parameters")).json() == replaced.json()
    [_, (who, what, target, before, after)] = audited(trading)
    assert (who, what, target) == ("a trader", "strategy.edit", "demo")
    assert (before, after) == (changed.json(), replaced.json())


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_wrong_parameters_change_nothing(client, engine, trading, method):
    before = engine.put("demo").parameters
    for wrong in ({"fast": "x"}, {"nothing": 1}, {"fast": 1, "slow": 2.5}):
        response = await client.request(method, "/demo/parameters", json=wrong)
        assert code_of(response) == (422, "VALIDATION_FAILED")
        assert fields_of(response) == [f"setting.{list(wrong)[-1]}"]
    assert code_of(await client.request(method, "/demo/parameters", json=[1])) == (422, "VALIDATION_FAILED")
    assert (engine.strategy("demo").parameters, engine.asked, trading.audits) == (before, [], [])


async def test_patches_at_the_same_time_both_hold(client, engine):
    engine.put("demo")
    engine.edit_hold = asyncio.Event()
    both = [asyncio.create_task(client.patch("/demo/parameters", json=patch)) for patch in ({"fast": 1}, {"slow": 2})]
    while not engine.asked:
        await asyncio.sleep(0)
    engine.edit_hold.set()
    for answer in await asyncio.gather(*both):
        assert answer.status_code == 200
    assert engine.strategy("demo").parameters == {"fast": 1, "slow": 2, "ratio": 0.5, "label": "a"}


async def test_a_strategy_of_old_code_is_checked_against_the_parameters_that_it_has(client, engine):
    engine.put("demo", class_is_old=True, parameters={"width": 3, "on": True})
    assert (await client.patch("/demo/parameters", json={"width": 4})).json() == {"width": 4, "on": True}
    assert code_of(await client.patch("/demo/parameters", json={"fast": 4})) == (422, "VALIDATION_FAILED")
    assert code_of(await client.patch("/demo/parameters", json={"on": 1})) == (422, "VALIDATION_FAILED")
    engine.put("orphan", class_name="Gone", parameters={"width": 3})
    assert (await client.put("/orphan/parameters", json={})).json() == {"width": 3}


async def test_what_json_cannot_hold_is_left_to_the_class_when_another_parameter_changes(client, engine):
    odd = [Parameter(name="fast", type="int", default=1), Parameter(name="days", type="object", default="{1, 2}")]
    engine.known_classes["DoubleMa"] = msgspec.structs.replace(DOUBLE_MA, parameters=odd)
    engine.put("demo", parameters={"fast": 1, "days": "{1, 2}"})
    assert (await client.patch("/demo/parameters", json={"fast": 2})).status_code == 200
    assert engine.strategy("demo").parameters == {"fast": 2}


async def test_parameters_wait_until_on_init_has_ended(client, engine):
    engine.put("demo", StrategyState.INITIALISING)
    response = await client.patch("/demo/parameters", json={"fast": 1})
    assert code_of(response) == (409, "CONFLICT")
    assert response.json()["state"] == "INITIALISING"


async def test_auto_start_is_set_alone(client, engine, trading):
    engine.put("demo")
    assert (await client.patch("/demo", json={"auto_start": True})).json()["auto_start"] is True
    assert audited(trading) == [
        ("a trader", "strategy.auto_start", "demo", {"auto_start": False}, {"auto_start": True})
    ]
    assert code_of(await client.patch("/demo", json={})) == (422, "VALIDATION_FAILED")
    assert code_of(await client.patch("/demo", json={"vt_symbol": "x.SHFE"})) == (422, "VALIDATION_FAILED")


# Its life


async def test_a_strategy_from_its_making_to_its_end(client, engine, trading, ledger):
    await client.post("", json=NEW)
    inited = await client.post("/demo/init", params={"wait_s": 5})
    assert (inited.status_code, inited.json()["state"]) == (200, "INITED")
    started = await client.post("/demo/start")
    assert (started.status_code, started.json()["state"]) == (200, "RUNNING")
    refused = await client.delete("/demo")
    assert (code_of(refused), refused.json()["state"]) == ((409, "CONFLICT"), "RUNNING")
    stopped = await client.post("/demo/stop")
    assert (stopped.status_code, stopped.json()["state"]) == (200, "STOPPED")
    gone = await client.delete("/demo")
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await names(client), ledger.forgotten) == ([], ["demo", "demo"])  # as it was made, and as it went
    assert [(what, before, after) for _, what, _, before, after in audited(trading)][1:4] == [
        ("strategy.init", {"state": "CREATED"}, {"state": "INITED"}),
        ("strategy.start", {"state": "INITED"}, {"state": "RUNNING"}),
        ("strategy.stop", {"state": "RUNNING"}, {"state": "STOPPED"}),
    ]
    what_went = trading.audits[4]
    assert (what_went.what, what_went.after) == ("strategy.remove", None)
    assert what_went.before["parameters"] == {"fast": 10, "slow": 20, "ratio": 0.5, "label": "a"}


async def test_init_answers_202_while_on_init_runs(client, engine):
    engine.put("demo")
    engine.init_hold = asyncio.Event()
    begun = await client.post("/demo/init")
    assert (begun.status_code, begun.json()["state"]) == (202, "INITIALISING")
    again = await client.post("/demo/init", params={"wait_s": 0.01})
    assert (again.status_code, again.json()["state"]) == (202, "INITIALISING")
    engine.init_hold.set()
    done = await client.post("/demo/init", params={"wait_s": 5})
    assert (done.status_code, done.json()["state"]) == (200, "INITED")
    again = await client.post("/demo/init")
    assert (code_of(again), again.json()["state"]) == ((409, "CONFLICT"), "INITED")


@pytest.mark.parametrize("wait_s", ["-1", "61", "nan", "long"])
async def test_the_time_to_wait_has_bounds(client, engine, wait_s):
    engine.put("demo")
    assert code_of(await client.post("/demo/init", params={"wait_s": wait_s})) == (422, "VALIDATION_FAILED")
    assert engine.asked == []


@pytest.mark.parametrize(
    ("method", "state"),
    [("init", StrategyState.CREATED), ("start", StrategyState.INITED), ("stop", StrategyState.RUNNING)],
)
async def test_a_callback_that_raises_is_a_conflict_with_the_reason_and_the_state_and_on_record(
    client, engine, trading, method, state
):
    engine.put("demo", state)
    engine.failures[method, "demo"] = "ZeroDivisionError: division by zero"
    response = await client.post(f"/demo/{method}")
    assert code_of(response) == (409, "CONFLICT")
    assert response.json()["state"] == "FAILED"
    assert "ZeroDivisionError" in response.json()["detail"]
    shown = (await client.get("/demo")).json()
    assert (shown["state"], shown["error"]) == ("FAILED", "ZeroDivisionError: division by zero")
    assert audited(trading) == [("a trader", f"strategy.{method}", "demo", {"state": state}, {"state": "FAILED"})]


async def test_what_is_refused_and_changes_nothing_is_not_on_record(client, engine, trading):
    engine.put("demo")
    refused = await client.post("/demo/start")
    assert (code_of(refused), refused.json()["state"]) == ((409, "CONFLICT"), "CREATED")
    assert (await client.post("/demo/stop")).json()["state"] == "CREATED"
    assert trading.audits == []


async def test_a_new_strategy_does_not_hold_what_a_former_one_of_its_name_held(client, api, ledger):
    """One that was removed in VnPy's file, or whose last fill came after it was removed."""
    made = await client.post("", json={"class_name": "DoubleMa", "strategy_name": "demo", "vt_symbol": "rb2505.SHFE"})
    assert made.status_code == 201
    assert (ledger.forgotten, api.rolled) == (["demo"], ["demo"])
    assert (await client.delete("/demo")).status_code == 204
    assert (ledger.forgotten, api.rolled) == (["demo"] * 2, ["demo"] * 2)


@pytest.mark.parametrize(
    ("method", "path", "body", "what"),
    [
        ("POST", "/demo/start", None, "start"),
        ("POST", "/demo/stop", None, "stop"),
        ("POST", "/start-all", None, "start_all"),
        ("POST", "", {"class_name": "DoubleMa", "strategy_name": "new", "vt_symbol": "rb2505.SHFE"}, "add"),
        ("PUT", "/demo/parameters", {"fast": 7}, "edit"),
        ("PATCH", "/demo", {"auto_start": True}, "set_auto_start"),
        ("DELETE", "/demo", None, "remove"),
    ],
)
async def test_what_was_begun_and_may_still_come_about_is_on_record(client, engine, trading, method, path, body, what):
    engine.put("demo", StrategyState.INITED)
    name = "new" if what == "add" else "demo"
    engine.errors[what.removesuffix("_all"), name] = OutcomeUnknown("on_start did not return within 5 s")
    assert (await client.request(method, path, json=body)).status_code in (200, 202)
    (audit,) = trading.audits
    assert (audit.who, audit.what) == ("a trader", f"strategy.{what.removeprefix('set_')}")
    assert audit.target == ("" if what == "start_all" else name)
    assert "did not return" in audit.reason or what == "start_all"


async def test_a_change_holds_though_it_cannot_be_put_on_record(client, engine, trading):
    engine.put("demo", StrategyState.INITED)
    trading.journal_error = StorageFull("full")
    assert (await client.post("/demo/start")).json()["state"] == "RUNNING"


# All of them


async def all_of(client, path) -> dict[str, tuple[str, str | None]]:
    response = await client.post(path)
    assert response.status_code == 200
    return {
        item["strategy_name"]: (item["state"], item["problem"]["detail"] if "problem" in item else None)
        for item in response.json()["items"]
    }


async def test_init_all_begins_those_that_are_not_initialised_and_waits_for_none(client, engine):
    engine.init_hold = asyncio.Event()
    for state in StrategyState:
        engine.put(state.lower(), state)
    assert await all_of(client, "/init-all") == {
        "created": ("INITIALISING", None),
        "failed": ("INITIALISING", None),
        "initialising": ("INITIALISING", None),
        "inited": ("INITED", None),
        "running": ("RUNNING", None),
        "stopped": ("STOPPED", None),
    }
    assert [name for _, name in engine.asked] == ["created", "failed"]
    engine.init_hold.set()


async def test_start_all_says_of_each_why_it_does_not_trade(client, engine, trading):
    for state in StrategyState:
        engine.put(state.lower(), state)
    engine.put("bad", StrategyState.INITED)
    engine.failures["start", "bad"] = "ZeroDivisionError"
    found = await all_of(client, "/start-all")
    assert {name for name, (state, problem) in found.items() if state == "RUNNING" and problem is None} == {
        "inited",
        "running",
        "stopped",
    }
    assert found["bad"] == ("FAILED", "strategy bad: ZeroDivisionError")
    assert found["created"] == ("CREATED", "strategy created is CREATED")
    [(who, what, _, before, after)] = audited(trading)
    assert (who, what) == ("a trader", "strategy.start_all")
    assert before == {"bad": "INITED", "inited": "INITED", "stopped": "STOPPED"}
    assert after == {"bad": "FAILED", "inited": "RUNNING", "stopped": "RUNNING"}


async def test_stop_all_stops_the_others_where_one_does_not_stop_well(client, engine):
    engine.put("a", StrategyState.RUNNING)
    engine.put("b", StrategyState.RUNNING)
    engine.put("c")
    engine.errors["stop", "a"] = Overloaded("the event thread is busy")
    response = await client.post("/stop-all")
    [a, b, c] = response.json()["items"]
    assert (a["state"], a["problem"]["code"], a["problem"]["status"]) == ("RUNNING", "OVERLOADED", 503)
    assert a["problem"]["request_id"] == ""  # the gate gives one, which is not here
    assert (b, c) == (
        {"strategy_name": "b", "state": "STOPPED"},
        {"strategy_name": "c", "state": "CREATED"},
    )


async def test_a_bug_at_one_strategy_does_not_hide_what_became_of_the_others(client, engine):
    engine.put("a", StrategyState.RUNNING)
    engine.put("b", StrategyState.RUNNING)
    engine.errors["stop", "a"] = KeyError("secret place")
    with capture_logs() as lines:
        response = await client.post("/stop-all")
    [a, b] = response.json()["items"]
    assert (a["state"], a["problem"]["code"], b["state"]) == ("RUNNING", "INTERNAL", "STOPPED")
    assert "secret" not in response.text
    assert [line["strategy_name"] for line in lines] == ["a"]


async def test_all_of_none_is_nothing(client, trading):
    for path in ("/init-all", "/start-all", "/stop-all"):
        assert await all_of(client, path) == {}
    assert trading.audits == []


# Who may, and without the app


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/classes", None),
        ("POST", "/classes/reload", None),
        ("GET", "", None),
        ("POST", "", NEW),
        ("POST", "/start-all", None),
        ("GET", "/stop-orders", None),
        ("GET", "/demo", None),
        ("POST", "/demo/init", None),
        ("PATCH", "/demo", {"auto_start": True}),
        ("DELETE", "/demo", None),
    ],
)
async def test_without_the_app_every_call_says_so(client, engine, method, path, body):
    engine.missing = "no module named vnpy_ctastrategy"
    response = await client.request(method, path, json=body)
    assert code_of(response) == (409, "CONFLICT")
    assert "vnpy_ctastrategy" in response.json()["detail"]


async def test_reading_needs_a_viewer_and_changing_a_trader(app, client_of):
    for path, item in app.openapi()["paths"].items():
        for method in item:
            url = path.removeprefix("/api/v1/strategies").replace("{name}", "x").replace("{class_name}", "x")
            assert (await client_of(None).request(method, url)).status_code == 401
            needs = "viewer" if method == "get" else "trader"
            for role in ("viewer", "trader", "admin"):
                refused = (await client_of(role).request(method, url)).status_code == 403
                assert refused == (role == "viewer" and needs == "trader"), (method, path, role)


def test_every_operation_is_documented(app):
    operations = [operation for item in app.openapi()["paths"].values() for operation in item.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        assert operation["summary"]
        assert operation["description"]
        assert operation["tags"] == ["strategies"]
        assert {"401", "403", "409", "422"} <= set(operation["responses"])
