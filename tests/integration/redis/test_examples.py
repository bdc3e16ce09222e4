"""The consumers that docs/message-bus.md shows, as they stand there, on a real core's events."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from testkit.publishing import Core, until
from testkit.redis_adapters import RedisPlace
from vnpy_core.adapters.journal.sqlite import SqliteJournal

EXAMPLES = Path(__file__).parents[3] / "services/vnpy-core/docs/examples"


class Consumer:
    """An example as a process of its own; what it prints goes to a file."""

    def __init__(self, script: str, output: Path, *arguments: str) -> None:
        self._output = output
        with open(output, "ab") as file:
            command = [sys.executable, "-u", str(EXAMPLES / script), *arguments]
            self._process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)

    def lines(self) -> list[list[str]]:
        text = self._output.read_text()
        assert "Traceback" not in text, text
        return [line.split(" ", 2) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def seqs(self) -> list[int]:
        return [int(line[0]) for line in self.lines()]

    def told(self) -> list[int]:
        """The seqs, without what it says about Redis."""
        return [int(line[0]) for line in self.lines() if line[0].isdigit()]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(30)


@pytest.fixture
async def core(place: RedisPlace, journal: SqliteJournal) -> AsyncIterator[Core]:
    core = Core(journal, place.broker(), node=place.node)
    core.start()
    yield core
    await core.close(5)


@pytest.fixture
def consumers() -> Iterator[list[Consumer]]:
    started: list[Consumer] = []
    yield started
    for consumer in started:
        consumer.kill()


async def test_the_reader_goes_on_where_it_was(core, place, tmp_path, consumers):
    arguments = ("redis_reader.py", tmp_path / "out", place.url, place.node, str(tmp_path / "place.json"))
    consumers.append(Consumer(*arguments))
    core.happen(300)
    await until(lambda: len(consumers[0].lines()) == 300)
    await until(lambda: (tmp_path / "place.json").exists() and "300" in (tmp_path / "place.json").read_text())
    consumers[0].kill()
    core.happen(200)
    core.trade(100)
    await core.published()
    consumers.append(Consumer(*arguments))
    await until(lambda: len(consumers[1].lines()) == 600)
    assert consumers[1].seqs() == list(range(1, 601))
    assert consumers[1].lines()[-1][1] == "trade.executed"


async def test_the_reader_gets_no_event_twice_when_redis_is_emptied(core, place, tmp_path, consumers):
    consumers.append(Consumer("redis_reader.py", tmp_path / "out", place.url, place.node, str(tmp_path / "p")))
    core.happen(100)
    await until(lambda: len(consumers[0].lines()) == 100)
    await place.client.delete(f"vnpy_core:{place.node}:events:e1")
    core.happen(50)
    await until(lambda: len(consumers[0].lines()) >= 150)
    assert consumers[0].seqs() == list(range(1, 151))


async def test_the_reader_keeps_its_place_while_redis_has_no_epoch(core, place, tmp_path, consumers):
    """Emptied, or started again: the core needs a moment to fill it."""
    consumers.append(Consumer("redis_reader.py", tmp_path / "out", place.url, place.node, str(tmp_path / "p")))
    core.happen(100)
    await until(lambda: len(consumers[0].lines()) == 100)
    epoch = f"vnpy_core:{place.node}:epoch"
    value = await place.client.get(epoch)
    for _ in range(400):  # the core writes it again, and the reader looks once a second
        await place.client.delete(epoch)
        await asyncio.sleep(0.005)
    await place.client.set(epoch, value)
    core.happen(50)
    await until(lambda: len(consumers[0].lines()) >= 150)
    assert consumers[0].seqs() == list(range(1, 151))


async def test_consumers_outlive_a_redis_that_is_killed_or_emptied(core, place, server, tmp_path, consumers):
    group = ("redis_group.py", tmp_path / "w", place.url, place.node, "accounting", "w")
    consumers.append(Consumer("redis_reader.py", tmp_path / "out", place.url, place.node, str(tmp_path / "p")))
    consumers.append(Consumer(*group))
    core.happen(100)
    await until(lambda: all(len(consumer.told()) == 100 for consumer in consumers))
    await place.client.delete(f"vnpy_core:{place.node}:events:e1")  # wakes the worker that waits
    core.happen(50)
    await until(lambda: all(set(consumer.told()) == set(range(1, 151)) for consumer in consumers))
    server.kill()
    await asyncio.sleep(2)
    server.start()
    core.happen(50)
    await until(lambda: all(set(consumer.told()) == set(range(1, 201)) for consumer in consumers))
    assert consumers[0].told() == list(range(1, 201))


async def test_the_workers_of_a_group_share_the_events_and_one_takes_over_what_another_left(
    core, place, tmp_path, consumers
):
    stream, group = f"vnpy_core:{place.node}:events:e1", "accounting"
    core.happen(1_000)
    await core.published()
    # A worker that took some and died before it acknowledged them:
    await place.client.xgroup_create(stream, group, id="0")
    taken = await place.client.xreadgroup(group, "dead", {stream: ">"}, count=40)
    assert len(taken[0][1]) == 40

    for name in ("w1", "w2"):
        consumers.append(Consumer("redis_group.py", tmp_path / name, place.url, place.node, group, name))
    core.happen(500)

    def handled() -> Counter[int]:
        return Counter(seq for consumer in consumers for seq in consumer.seqs())

    await until(lambda: len(handled()) == 1_500)
    assert set(handled()) == set(range(1, 1_501))
    assert max(handled().values()) == 1
    async with asyncio.timeout(20):
        while (await place.client.xpending(stream, group))["pending"]:
            await asyncio.sleep(0.05)


async def test_a_group_that_is_there_before_the_core_gets_all(place, journal, tmp_path, consumers):
    """It makes an empty stream, which must not look as if it were the core's."""
    await place.client.set(f"vnpy_core:{place.node}:epoch", "e1")
    consumers.append(Consumer("redis_group.py", tmp_path / "w", place.url, place.node, "g", "w"))
    async with asyncio.timeout(20):
        while not await place.client.exists(f"vnpy_core:{place.node}:events:e1"):
            await asyncio.sleep(0.02)
    core = Core(journal, place.broker(), node=place.node)
    core.happen(20)
    core.start()
    await until(lambda: len(consumers[0].lines()) == 20)
    await core.close()
