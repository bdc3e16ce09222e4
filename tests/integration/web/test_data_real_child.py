"""Files in and out through the real child, `vnpy-core data job`, and the store in the data folder."""

import sys

import numpy as np
import pytest

from testkit.data_api import DataApi
from vnpy_core.adapters.timeseries.embedded import EmbeddedStore
from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings
from vnpy_core.domain.history import LAST_NS, NS, TICK_NUMBERS, Interval, Series, empty_bars, empty_ticks
from vnpy_core.kit.clock import SystemClock

RB = Series("rb2505", "SHFE")
START = 1_763_946_000 * NS
HEAD = "symbol,exchange,datetime,open,high,low,close,volume,turnover,open_interest\n"
BARS = HEAD + "".join(
    f"rb2505,SHFE,2025-11-24 09:{minute:02}:00+08:00,3500,3502,3499,3501,{minute},0,0\n" for minute in range(30)
)


@pytest.fixture
async def api(tmp_path):
    store = EmbeddedStore(tmp_path / "timeseries", TimeSeriesSettings(), SystemClock())
    store.open()
    api = DataApi(tmp_path, store=store, command=[sys.executable, "-m", "vnpy_core", "data", "job"])
    api.service.open()
    yield api
    await api.service.close()
    store.close()


@pytest.fixture
async def client(api):
    async with api.served() as client:
        yield client


async def imported(api, client, name, content, **fields):
    answer = await client.post("/import", files={"file": (name, content)}, data=fields)
    assert answer.status_code == 202, answer.text
    return await api.ended(client, answer.json()["id"])


async def test_bars_of_a_file_are_there_and_bad_rows_are_named(api, client):
    job = await imported(api, client, "rb.csv", BARS + "rb2505,SHFE,when?,1,1,1,1,1,0,0\n", kind="bar", interval="1m")
    assert job["state"] == "DONE", job
    result = job["result"]
    assert (result["rows"], result["added"], result["bad_count"]) == (30, 30, 1)
    assert result["bad"][0]["place"] == "rb.csv:32"
    page = (await client.get("/bars", params={"vt_symbol": "rb2505.SHFE", "interval": "1m"})).json()
    assert len(page["items"]) == 30
    assert page["items"][0]["datetime"] == "2025-11-24T01:00:00.000000Z"
    again = await imported(api, client, "rb.csv", BARS, kind="bar")
    assert (again["result"]["added"], again["result"]["known"]) == (0, 30)


async def test_a_file_that_cannot_be_taken_fails_its_job_in_words(api, client):
    job = await imported(api, client, "rb.csv", BARS + "rb2505,SHFE,when?,1,1,1,1,1,0,0\n", kind="bar", strict="true")
    assert (job["state"], job["result"]["code"]) == ("FAILED", "VALIDATION_FAILED")
    truncated = await imported(api, client, "rb.csv.gz", b"\x1f\x8b\x08\x00\x00", kind="bar")
    assert truncated["state"] == "FAILED"
    assert (await client.get("/overview")).json()["items"] == []


async def test_what_was_exported_comes_back_the_same(api, client):
    ticks = empty_ticks(1_000)
    ticks["ts"] = START + np.arange(1_000) // 2 * NS
    for number, name in enumerate(TICK_NUMBERS):
        ticks[name] = number + np.arange(1_000) / 8
    api.store.merge_ticks(RB, ticks)
    bars = empty_bars(500)
    bars["ts"] = START + np.arange(500) * 60 * NS
    for name in ("open_price", "high_price", "low_price", "close_price"):
        bars[name] = np.arange(500) / 10
    api.store.merge_bars(RB, Interval.MINUTE, bars)
    before = np.concatenate(list(api.store.ticks(RB, 0, LAST_NS)))
    files = {}
    for kind, file_format in (("tick", "csv"), ("bar", "parquet")):
        params = {"vt_symbol": "rb2505.SHFE", "kind": kind, "format": file_format}
        answer = await client.get("/export", params=params)
        assert answer.status_code == 200, answer.text
        files[kind] = answer.content
    everything = {"vt_symbol": "rb2505.SHFE", "all": True}
    assert (await client.delete("/ticks", params=everything)).json() == {"deleted": 1_000}
    assert (await client.delete("/bars", params=everything | {"interval": "1m"})).json() == {"deleted": 500}
    for kind, content in files.items():
        job = await imported(api, client, "back", content, kind=kind)
        assert job["state"] == "DONE", job
    back = np.concatenate(list(api.store.ticks(RB, 0, LAST_NS)))
    assert (back[["ts", *TICK_NUMBERS]] == before[["ts", *TICK_NUMBERS]]).all()
    assert (np.concatenate(list(api.store.bars(RB, Interval.MINUTE, 0, LAST_NS))) == bars).all()


async def test_a_part_is_exported_where_a_part_is_asked_for(api, client):
    await imported(api, client, "rb.csv", BARS, kind="bar")
    params = {"vt_symbol": "rb2505.SHFE", "start": "2025-11-24T01:10:00Z", "end": "2025-11-24T01:20:00Z"}
    lines = (await client.get("/export", params=params)).text.splitlines()
    assert len(lines) == 11
    nothing = await client.get("/export", params=params | {"vt_symbol": "x.SHFE"})
    assert nothing.status_code == 200
    assert len(nothing.text.splitlines()) == 1
