"""`vnpy-core data download` with a service that answers: the job is followed to its end."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE

import pytest

from testkit.data_api import DataApi
from vnpy_core.domain.errors import GatewayRefused
from vnpy_core.domain.history import Interval, Series

RB = Series("rb2701", "SHFE")
DAYS = ("--start", "2026-11-20", "--end", "2026-11-21")


@pytest.fixture
async def api(tmp_path):
    api = DataApi(tmp_path)
    api.service.open()
    yield api
    await api.service.close()


async def start(client, tmp_path, *arguments, token="trader"):
    """The command in a process of its own."""
    url = f"{client.base_url.scheme}://{client.base_url.host}:{client.base_url.port}"
    environ = {k: v for k, v in os.environ.items() if not k.startswith("VNPYCORE")} | {"VNPYCORE_TOKEN": token}
    command = [sys.executable, "-m", "vnpy_core", "data", "download", *arguments, "--url", url]
    return await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, cwd=tmp_path, env=environ)


async def download(*arguments, **more):
    process = await start(*arguments, **more)
    async with asyncio.timeout(30):
        stdout, stderr = await process.communicate()
    return process.returncode, stdout.decode(), stderr.decode()


async def test_what_the_service_fetched_is_told(api, tmp_path):
    async with api.served() as client:
        code, stdout, stderr = await download(
            client, tmp_path, "rb2701.SHFE", *DAYS, "--interval", "1h", "--gateway", "PAPER"
        )
    assert code == 0, stderr
    assert stdout == "rb2701.SHFE: 48 rows, 48 of them new\n"
    ((what, start, end),) = api.source.asked
    assert what == "rb2701.SHFE 1h PAPER"
    assert [moment.isoformat() for moment in (start, end)] == ["2026-11-19T16:00:00+00:00", "2026-11-21T16:00:00+00:00"]
    assert sum(map(len, api.store.bars(RB, Interval.HOUR, 0, 2**62))) == 48


async def test_ticks_and_json(api, tmp_path):
    async with api.served() as client:
        _, stdout, _ = await download(client, tmp_path, "rb2701.SHFE", *DAYS, "--kind", "tick", "--json")
    job = json.loads(stdout)
    assert (job["state"], job["kind"], job["result"]["rows"]) == ("DONE", "download", 2880)


async def test_a_download_that_fails_says_why(api, tmp_path):
    api.source.error = GatewayRefused("PAPER gave no history")
    async with api.served() as client:
        code, _, stderr = await download(client, tmp_path, "rb2701.SHFE", *DAYS)
    assert code == 1
    assert "the download is FAILED: PAPER gave no history" in stderr


REFUSED = [
    (["rb2701.SHFE", *DAYS], "nobody", "401"),
    (["rb2701.SHFE", *DAYS], "viewer", "403"),
    (["rb2701.SHFE", *DAYS, "--interval", "7m"], "trader", "interval"),
]


async def test_what_the_service_refuses_is_told(api, tmp_path):
    async with api.served() as client:
        asked = [download(client, tmp_path, *arguments, token=token) for arguments, token, _ in REFUSED]
        for (code, _, stderr), (*_, word) in zip(await asyncio.gather(*asked), REFUSED, strict=True):
            assert code == 1
            assert word in stderr


async def test_an_interrupted_download_is_cancelled_there_too(api, tmp_path, monkeypatch):
    api.source.hold = asyncio.Event()
    followed, look = asyncio.Event(), api.service.job

    async def job(job_id):
        followed.set()
        return await look(job_id)

    monkeypatch.setattr(api.service, "job", job)
    async with api.served() as client:
        process = await start(client, tmp_path, "rb2701.SHFE", *DAYS)
        async with asyncio.timeout(30):
            await followed.wait()
            process.send_signal(signal.SIGINT)
            await process.communicate()
        assert process.returncode != 0
        (job,) = (await client.get("/jobs")).json()["items"]
        assert (await api.ended(client, job["id"]))["state"] == "CANCELLED"
