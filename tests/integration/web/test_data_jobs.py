"""Imports and downloads over real HTTP, with real children."""

import asyncio
import contextlib
import os
import resource
import socket
from datetime import UTC, datetime, timedelta

import httpx2
import msgspec
import pytest

from testkit.data_api import DEADLINE_S, DataApi
from testkit.job_child import LINE
from testkit.small_disk import small_disk
from vnpy_core.domain.enums import JobState
from vnpy_core.domain.errors import ConfigurationError, StorageFull
from vnpy_core.domain.events import Job
from vnpy_core.domain.history import Interval, Series
from vnpy_core.features.market_data import endpoints
from vnpy_core.features.market_data.jobs import SERVICE_ENDED

MB = 1 << 20
FORM = "multipart/form-data; boundary=b"
DAY = {"start": "2026-11-19T00:00:00Z", "end": "2026-11-20T00:00:00Z"}

OTHERS: set[str] = set()


@pytest.fixture
async def make(tmp_path):
    async with contextlib.AsyncExitStack() as services:

        def make_api(**settings):
            api = DataApi(tmp_path, **settings)
            api.service.open()
            services.push_async_callback(api.service.close)
            return api

        yield make_api


@pytest.fixture
async def api(make):
    return make()


@pytest.fixture
async def client(api):
    async with api.served() as client:
        yield client


def form(name="ok.csv", content=LINE * 10, **fields):
    return {"files": {"file": (name, content)}, "data": {"kind": "tick"} | fields}


async def started(api, client, name):
    """An import that runs; the job and its process."""
    job = (await client.post("/import", **form(name))).json()
    running = await api.when(client, job["id"], lambda job: "pid" in job["message"])
    return running, int(running["message"].split()[1])


async def gone(pid):
    await until(lambda: not alive(pid))
    return True


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def empty(api):
    await until(lambda: not api.files)
    return True


# Upload


async def test_a_file_goes_to_a_nice_child_with_its_fields_and_is_removed(api, client):
    answer = await client.post(
        "/import", **form("rb2505.csv.GZ", mapping='{"last_price": "px"}', strict="true", vt_symbol="rb2505.SHFE")
    )
    assert (answer.status_code, answer.json()["state"]) == (202, "QUEUED")
    job = await api.ended(client, answer.json()["id"])
    assert (job["state"], job["progress"], job["by"]) == ("DONE", 1.0, "a admin")
    result = job["result"]
    assert (result["rows"], result["bytes"]) == (10, 10 * len(LINE))
    assert result["nice"] >= 10
    assert result["path"].endswith(".csv.gz")
    fields = result["fields"]
    assert (fields["name"], fields["kind"], fields["strict"]) == ("rb2505.csv.GZ", "tick", True)
    assert (fields["mapping"], fields["vt_symbol"], fields["interval"]) == ({"last_price": "px"}, "rb2505.SHFE", "1m")
    assert await empty(api)
    assert [(audit.what, audit.target) for audit in api.engine.audits] == [("data.import", "rb2505.csv.GZ")]


async def test_a_large_upload_never_is_in_memory(api, client):
    part = LINE * 2_000
    count = 96 * MB // len(part)

    async def body():
        yield b'--b\r\nContent-Disposition: form-data; name="kind"\r\n\r\ntick\r\n'
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="ok.csv"\r\n\r\n'
        for _ in range(count):
            yield part
        yield b"\r\n--b--\r\n"

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = await client.post("/import", content=body(), headers={"Content-Type": FORM})
    assert answer.status_code == 202
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 48 * 1024  # KB
    job = await api.ended(client, answer.json()["id"])
    assert (job["result"]["rows"], job["result"]["bytes"]) == (2_000 * count, len(part) * count)


@pytest.mark.parametrize("announced", [True, False])
async def test_an_upload_past_the_limit_is_refused_and_nothing_is_left(make, announced):
    api = make(upload_mb=1)
    content = b"x" * (3 * MB)

    async def body():
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="ok.csv"\r\n\r\n'
        yield content

    async with api.served() as client:
        if announced:
            answer = await client.post("/import", **form(content=content))
        else:
            answer = await client.post("/import", content=body(), headers={"Content-Type": FORM})
        assert (answer.status_code, answer.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")
        assert api.files == []
        assert (await client.get("/jobs")).json()["items"] == []


async def test_only_the_import_takes_large_bodies(client):
    answer = await client.post("/download", content=b" " * (2 * MB), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")


async def test_an_upload_that_breaks_off_leaves_nothing(api, client):
    raw = socket.create_connection(("127.0.0.1", client.base_url.port))
    head = b"POST /api/v1/data/import HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer trader\r\n"
    head += b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 90000000\r\n\r\n"
    raw.sendall(head + b'--b\r\nContent-Disposition: form-data; name="file"; filename="ok.csv"\r\n\r\n')
    await asyncio.to_thread(raw.sendall, b"x" * (8 * MB))
    await until(lambda: api.files)
    raw.close()
    assert await empty(api)
    assert (await client.get("/jobs")).json()["items"] == []


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"hello", "text/plain"),
        (b"hello", "multipart/form-data"),
        (b"hello", FORM),
        (
            b'--b\r\nContent-Disposition: form-data; name="kind"\r\n\r\ntick\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
        ),
        (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n1\r\n',
            "multipart/form-data; boundary=b",
        ),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\n1\r\n--b--\r\n", "multipart/form-data; boundary=b"),
    ],
)
async def test_what_is_no_form_with_a_file_is_refused(api, client, body, content_type):
    answer = await client.post("/import", content=body, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (422, "VALIDATION_FAILED"), answer.text
    assert api.files == []


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "order"},
        {"format": "xls"},
        {"mapping": "{"},
        {"mapping": "[1]"},
        {"interval": "5m"},
        {"vt_symbol": "rb2505"},
        {"unknown": "1"},
        {"strict": "perhaps"},
        {"timezone": "x" * 70_000},
    ],
)
async def test_wrong_fields_are_named_and_the_file_is_removed(api, client, fields):
    answer = await client.post("/import", **form(**fields))
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, *fields)
    assert api.files == []


async def test_one_file_at_a_time(api, client):
    files = [("file", ("a.csv", LINE)), ("file", ("b.csv", LINE))]
    assert (await client.post("/import", files=files, data={"kind": "tick"})).status_code == 422
    assert api.files == []


@pytest.fixture
def full_disk(tmp_path):
    """The folder of uploads on a file system of 4 MB."""
    with small_disk(tmp_path / "uploads", 4) as folder:
        yield folder


async def test_a_full_disk_is_said_and_nothing_is_left(full_disk, make):
    api = make()

    async def body():
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="ok.csv"\r\n\r\n'
        for _ in range(8):
            yield b"x" * MB

    async with api.served() as client:
        answer = await client.post("/import", content=body(), headers={"Content-Type": FORM})
        assert (answer.status_code, answer.json()["code"]) == (507, "STORAGE_FULL")
        assert api.files == []


async def test_trading_keeps_its_part_of_the_disk(make):
    api = make(keep_free_mb=10**9)
    async with api.served() as client:
        answer = await client.post("/import", **form())
        assert (answer.status_code, answer.json()["code"]) == (507, "STORAGE_FULL")
        answer = await client.get("/export", params={"vt_symbol": "ok.SHFE", "format": "parquet"})
        assert (answer.status_code, answer.json()["code"]) == (507, "STORAGE_FULL")


# Jobs


async def test_progress_is_published_a_few_times_a_second(api, client):
    job, _ = await started(api, client, "slow.csv")
    api.events.clear()
    await asyncio.sleep(1.1)
    assert 2 <= len(api.events) <= 6
    progress = [event.progress for event in api.events]
    assert progress == sorted(progress)
    assert progress[-1] > job["progress"]
    assert (await client.get(f"/jobs/{job['id']}")).json()["progress"] > progress[0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("crash.csv", "the job's process ended with exit code 1"),
        ("killed.csv", "the job's process was ended by SIGKILL"),
        ("refused.csv", "the file has bad rows"),
    ],
)
async def test_a_child_that_fails_fails_its_job_only(api, client, name, message):
    job = await api.ended(client, (await client.post("/import", **form(name))).json()["id"])
    assert (job["state"], job["message"]) == ("FAILED", message)
    if name == "refused.csv":
        assert job["result"]["errors"] == [{"field": "refused.csv:17", "message": "LastPrice is no number"}]
    assert await empty(api)
    after = await api.ended(client, (await client.post("/import", **form())).json()["id"])
    assert after["state"] == "DONE"


async def test_what_a_child_says_beside_its_reports_does_no_harm(api, client):
    job = await api.ended(client, (await client.post("/import", **form("noisy.csv"))).json()["id"])
    assert (job["state"], job["result"]["rows"]) == ("DONE", 10)


async def test_the_whole_list_of_bad_rows_is_the_jobs_own(api, client):
    job = await api.ended(client, (await client.post("/import", **form("bad.csv"))).json()["id"])
    assert len(job["result"]["bad"]) == 1_000
    listed = (await client.get("/jobs")).json()["items"][0]
    assert len(listed["result"]["bad"]) == 20
    assert len(api.events[-1].result["bad"]) == 20


@pytest.mark.parametrize("name", ["slow.csv", "stubborn.csv"])
async def test_a_running_job_can_be_cancelled(api, client, name):
    job, pid = await started(api, client, name)
    answer = await client.delete(f"/jobs/{job['id']}")
    assert (answer.status_code, answer.json()["state"]) == (202, "RUNNING")
    if name == "stubborn.csv":
        assert (await client.delete(f"/jobs/{job['id']}")).status_code == 202
    ended = await api.ended(client, job["id"])
    assert ended["state"] == api.events[-1].state == "CANCELLED"
    assert await gone(pid)
    assert await empty(api)
    again = await client.delete(f"/jobs/{job['id']}")
    assert (again.status_code, again.json()["code"]) == (409, "CONFLICT")
    assert (await client.delete("/jobs/abc")).status_code == 404


async def test_jobs_wait_their_turn_and_the_queue_is_bounded(make):
    api = make(jobs=1, queue=2)
    async with api.served("trader") as client:
        first, _ = await started(api, client, "slow.csv")
        waiting = [(await client.post("/import", **form())).json()["id"] for _ in range(2)]
        full = await client.post("/import", **form())
        assert (full.status_code, full.json()["code"]) == (503, "OVERLOADED")
        assert (await client.post("/download", json={"vt_symbol": "a.B"} | DAY)).status_code == 503
        assert len(api.files) == 3
        states = [(await client.get(f"/jobs/{job}")).json()["state"] for job in waiting]
        assert states == ["QUEUED", "QUEUED"]
        await client.delete(f"/jobs/{waiting[0]}")
        assert (await api.ended(client, waiting[0]))["state"] == "CANCELLED"
        await client.delete(f"/jobs/{first['id']}")
        assert (await api.ended(client, waiting[1]))["state"] == "DONE"
        assert await empty(api)


async def test_the_list_is_newest_first_and_in_pages(api, client):
    made = [(await client.post("/import", **form())).json()["id"] for _ in range(5)]
    seen, cursor = [], None
    while True:
        page = (await client.get("/jobs", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        seen += [job["id"] for job in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == made[::-1]


async def test_the_services_end_ends_its_jobs_and_the_next_start_knows(make):
    api = make()
    async with api.served() as client:
        job, pid = await started(api, client, "slow.csv")
        waiting = (await client.post("/import", **form())).json()
        await api.service.close()
        assert await gone(pid)
        assert api.files == []
        assert (await client.post("/import", **form())).json()["code"] == "OVERLOADED"
        assert (await client.get("/overview")).json()["code"] == "OVERLOADED"
        assert (await client.get(f"/jobs/{job['id']}")).json()["state"] == "FAILED"
    again = make()
    async with again.served() as client:
        for known in (job, waiting):
            ended = (await client.get(f"/jobs/{known['id']}")).json()
            assert (ended["state"], ended["message"]) == ("FAILED", SERVICE_ENDED)


async def test_after_a_kill_a_job_has_failed_and_its_file_is_gone(make, tmp_path):
    now = datetime(2026, 11, 21, tzinfo=UTC)
    job = Job(id="19aa51c7d2c9f3e", kind="import", state=JobState.RUNNING, created_at=now, updated_at=now, by="x")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / f"{job.id}.json").write_bytes(msgspec.json.encode(job))
    (tmp_path / "jobs" / "19aa51c7d2c9f3f.json").write_bytes(b"{")
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "left.csv").write_bytes(LINE)
    api = make()
    async with api.client("viewer") as client:
        assert api.files == []
        items = (await client.get("/jobs")).json()["items"]
        assert [(item["id"], item["state"], item["message"]) for item in items] == [(job.id, "FAILED", SERVICE_ENDED)]


# Downloads


async def test_a_download_comes_in_slices_and_is_stored(api, client):
    wanted = {"vt_symbol": "rb2505.SHFE", "start": "2026-08-01T00:00:00Z", "end": "2026-11-01T00:00:00Z"}
    answer = await client.post("/download", json=wanted | {"gateway_name": "CTP"})
    assert answer.status_code == 202
    job = await api.ended(client, answer.json()["id"])
    assert (job["state"], job["kind"]) == ("DONE", "download")
    minutes = 92 * 24 * 60
    assert job["result"] == {
        "rows": minutes,
        "added": minutes,
        "known": 0,
        "start": "2026-08-01T00:00:00Z",
        "end": "2026-10-31T23:59:00Z",
    }
    assert [what for what, *_ in api.source.asked] == ["rb2505.SHFE 1m CTP"] * 3
    assert api.source.asked[0][2] == api.source.asked[1][1]
    stored = sum(map(len, api.store.bars(Series("rb2505", "SHFE"), Interval.MINUTE, 0, 2**62)))
    assert stored == minutes
    again = await api.ended(client, (await client.post("/download", json=wanted)).json()["id"])
    assert (again["result"]["added"], again["result"]["known"]) == (0, minutes)
    assert {audit.what for audit in api.engine.audits} == {"data.download"}


async def test_ticks_are_downloaded_day_by_day(api, client):
    wanted = {"vt_symbol": "rb2505.SHFE", "kind": "tick", "start": "2026-11-17T00:00:00Z", "end": DAY["end"]}
    job = await api.ended(client, (await client.post("/download", json=wanted)).json()["id"])
    assert (job["state"], job["result"]["added"]) == ("DONE", 3 * 1440)
    assert [end - start for _, start, end in api.source.asked] == [timedelta(days=1)] * 3


@pytest.mark.parametrize(
    ("where", "error"),
    [("source", ConfigurationError("no datafeed is configured")), ("store", StorageFull("the disk is full"))],
)
async def test_a_download_that_fails_says_why(api, client, where, error):
    if where == "source":
        api.source.error = error
    else:
        api.store.failures.append(error)
    job = await api.ended(client, (await client.post("/download", json={"vt_symbol": "a.B"} | DAY)).json()["id"])
    assert (job["state"], job["message"], job["result"]["code"]) == ("FAILED", error.detail, error.code)


async def test_a_download_can_be_cancelled_while_its_source_hangs(api, client):
    api.source.hold = asyncio.Event()
    job = (await client.post("/download", json={"vt_symbol": "a.B"} | DAY)).json()
    await api.when(client, job["id"], lambda job: job["state"] == "RUNNING")
    await client.delete(f"/jobs/{job['id']}")
    assert (await api.ended(client, job["id"]))["state"] == "CANCELLED"


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": DAY["end"], "end": DAY["start"]},
        {"kind": "tick", "gateway_name": "CTP"},
        {"interval": "5m"},
        {"vt_symbol": "x"},
        {"kind": "order"},
    ],
)
async def test_a_download_that_cannot_be_is_refused(client, wrong):
    assert (await client.post("/download", json={"vt_symbol": "a.B"} | DAY | wrong)).status_code == 422


# Exports


async def test_an_export_is_streamed(api, client):
    answer = await client.get("/export", params={"vt_symbol": "ok.SHFE"})
    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == 'attachment; filename="ok.SHFE_1m.csv"'
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "content-length" not in answer.headers
    assert answer.content == LINE * 100_000


async def test_parquet_waits_in_a_file_that_is_gone_afterwards(api, client):
    answer = await client.get("/export", params={"vt_symbol": "中.SHFE", "kind": "tick", "format": "parquet"})
    assert answer.headers["content-disposition"] == 'attachment; filename="_.SHFE_tick.parquet"'
    assert answer.content == LINE * 100_000
    assert await empty(api)


@pytest.mark.parametrize("format", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("name", "status", "code"), [("early", 503, "OVERLOADED"), ("wrong", 422, "VALIDATION_FAILED")]
)
async def test_an_error_before_the_first_byte_is_a_problem(api, client, name, status, code, format):
    answer = await client.get("/export", params={"vt_symbol": f"{name}.SHFE", "format": format})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("name", ["late", "dies"])
async def test_an_export_that_breaks_off_is_not_taken_for_whole(client, name):
    with pytest.raises(httpx2.RemoteProtocolError):
        await client.get("/export", params={"vt_symbol": f"{name}.SHFE"})


async def test_a_client_that_goes_away_ends_the_child(api, client):
    async with client.stream("GET", "/export", params={"vt_symbol": "endless.SHFE"}) as answer:
        parts = answer.aiter_bytes()
        assert LINE in await anext(parts)
        assert len(children()) == 1
    await until(lambda: not children())


@pytest.mark.parametrize("file_format", ["csv", "parquet"])
async def test_a_client_that_does_not_wait_for_the_first_byte_ends_the_child(client, file_format):
    with asking(client, f"/export?vt_symbol=hangs.SHFE&format={file_format}"):
        await until(children)
    await until(lambda: not children())


async def test_a_client_that_takes_nothing_any_more_ends_the_child(client, monkeypatch):
    monkeypatch.setattr(endpoints, "STALL_S", 0.3)
    with asking(client, "/export?vt_symbol=endless.SHFE"):
        await until(children)
        await until(lambda: not children())
    assert (await client.get("/export", params={"vt_symbol": "ok.SHFE"})).status_code == 200


async def test_exports_are_few_at_a_time_and_end_with_the_service(api, client):
    async with contextlib.AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(client.stream("GET", "/export", params={"vt_symbol": "endless.SHFE"}))
            for _ in range(2)
        ]
        refused = await client.get("/export", params={"vt_symbol": "ok.SHFE"})
        assert (refused.status_code, refused.json()["code"]) == (503, "OVERLOADED")
        await api.service.close()
        assert children() == []
        for stream in streams:
            with pytest.raises(httpx2.RemoteProtocolError):
                async for _ in stream.aiter_bytes():
                    pass


def asking(client, path):
    """A connection that has asked and reads nothing."""
    raw = socket.create_connection(("127.0.0.1", client.base_url.port))
    raw.sendall(f"GET /api/v1/data{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer viewer\r\n\r\n".encode())
    return raw


async def until(condition):
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.fixture(autouse=True)
def servers():
    """The children that other tests have, such as databases."""
    OTHERS.clear()
    OTHERS.update(children())
    yield
    OTHERS.clear()


def children():
    """This process' children that came during the test, those included that have ended and were not waited for."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [pid for pid in file.read().split() if pid not in OTHERS]
