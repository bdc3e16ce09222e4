"""`vnpy-core watch` as a process, at a scripted server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from testkit.scripted_server import ScriptedServer, serving
from testkit.scripted_stream import History, Node, trade
from testkit.streaming import account, log, order, tick
from vnpy_core.cli.watch import describe
from vnpy_core.domain.enums import Status

DEADLINE_S = 60


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with serving(Node(History())) as [server]:
        yield server


async def start(server: ScriptedServer, *arguments: str, **environ: str) -> asyncio.subprocess.Process:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VNPYCORE")}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "vnpy_core", "watch", *arguments, "--url", server.url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=clean | {"VNPYCORE_TOKEN": "good", "COLUMNS": "40"} | environ,
    )  # fmt: skip


async def line(stream: asyncio.StreamReader | None, *, containing: str = "") -> str:
    assert stream is not None
    async with asyncio.timeout(DEADLINE_S):
        while content := await stream.readline():
            if containing in content.decode():
                return content.decode()
    raise AssertionError("the output ended")


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str]:
    async with asyncio.timeout(DEADLINE_S):
        _, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, errors.decode()


async def test_lines_for_people_until_ctrl_c(server):
    server.node.history.order(1)
    server.node.catch_up()
    process = await start(server, "order.updated", "tick.rb2505.SHFE")
    shown = await line(process.stdout, containing="rb2505.SHFE")
    assert "NOTTRADED   LONG OPEN 0/1 at 3500 LIMIT  PAPER.1" in shown
    server.node.history.tick(5)
    server.node.catch_up()
    assert "bid 0 x 0" in await line(process.stdout)
    await server.close(1006)
    assert "; again in " in await line(process.stderr, containing="again")
    assert "going on" in await line(process.stderr, containing="going on")
    process.send_signal(signal.SIGINT)
    code, errors = await ended(process)
    assert (code, "Traceback" in errors) == (0, False)


async def test_a_json_object_a_line_for_programs(server):
    server.node.history.order(1)
    server.node.catch_up()
    process = await start(server, "order.updated", "--json")
    first = json.loads(await line(process.stdout))
    assert (first["topic"], first["data"]["vt_orderid"], "ts" in first) == ("order.updated", "PAPER.1", False)
    server.node.history.order(2)
    server.node.catch_up()
    second = json.loads(await line(process.stdout))
    assert second["ts"] == "2026-11-20T02:00:00Z"
    process.send_signal(signal.SIGINT)
    assert (await ended(process))[0] == 0


async def test_a_reader_that_goes_away_ends_it_without_a_trace(server):
    process = await start(server, "tick.*", "--json")
    await line(process.stderr, containing="/ws")
    assert process.stdout is not None
    process.stdout._transport.close()  # as `head` does
    for number in range(200):
        server.node.history.tick(number)
        server.node.catch_up()
        await asyncio.sleep(0.01)
        if process.returncode is not None:
            break
    code, errors = await ended(process)
    assert (code, "Traceback" in errors) == (1, False)


async def test_what_it_needs_is_said_in_words(server):
    code, errors = await ended(await start(server, "order.updated", VNPYCORE_TOKEN=""))
    assert (code, errors.startswith("vnpy-core: this needs a token")) == (1, True)
    code, errors = await ended(await start(server, "orders"))
    assert (code, errors) == (1, "vnpy-core: no topic is called 'orders'\n")
    server.statuses = [401]
    code, errors = await ended(await start(server, "order.updated"))
    assert (code, "the service refuses the token" in errors) == (1, True)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (tick(), "rb2505.SHFE                   0   bid 0 x 0            ask 0 x 0"),
        (order(1, Status.REJECTED), "rb2505.SHFE          REJECTED    LONG OPEN 0/1 at 3500 LIMIT  PAPER.1"),
        (trade(1), "rb2505.SHFE          trade       LONG OPEN 1 at 3500  PAPER.1"),
        (account(5.0), "PAPER.1              account     balance 5.00, available 5.00"),
        (log("hello"), "test                 INFO        hello"),
    ],
)
def test_each_event_is_one_line(event: Any, words: str):
    assert describe("topic", event)[0] == words
