"""Strategy files over REST: off by default, for admins, checked, on record, and never loaded by themselves."""

import hashlib
import os
import stat
from datetime import UTC, datetime

import httpx2
import msgspec
import pytest
from fastapi import FastAPI

from testkit.clock import FakeClock
from testkit.fake_engine import NOON, FakeEngine
from testkit.fake_strategies import DOUBLE_MA, FakeStrategies
from vnpy_core.domain.enums import StrategyState
from vnpy_core.domain.errors import NotAuthenticated, StorageFull
from vnpy_core.domain.strategies import LoadError
from vnpy_core.features.strategies import uploads as module
from vnpy_core.features.strategies.upload_endpoints import router
from vnpy_core.features.strategies.upload_settings import StrategyUploadSettings
from vnpy_core.features.strategies.uploads import StrategyFiles
from vnpy_core.ports.auth import Principal, Role
from vnpy_core.web import problems
from vnpy_core.web.audit import AuditTrail

PYTHON = {"Content-Type": "text/x-python"}
CODE = "# 策略\nx = 1\n".encode()


class RoleIsToken:
    async def authenticate(self, token: str) -> Principal:
        if token not in list(Role):
            raise NotAuthenticated("no such token")
        return Principal(name=f"a {token}", role=Role(token), session_id="s", expires_at=NOON)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "strategies").mkdir()
    return tmp_path / "strategies"


@pytest.fixture
def strategies():
    return FakeStrategies()


@pytest.fixture
def engine():
    return FakeEngine()


@pytest.fixture
def enabled():
    return True


@pytest.fixture
def app(folder, strategies, engine, enabled):
    app = FastAPI()
    problems.install(app)
    app.include_router(router)
    app.state.authenticator = RoleIsToken()
    settings = StrategyUploadSettings(enabled=enabled, max_kb=4)
    app.state.strategy_files = StrategyFiles(folder, settings, strategies, AuditTrail(engine, FakeClock()))
    return app


@pytest.fixture
def client_of(app):
    def make(role: str | None) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app, raise_app_exceptions=False),
            base_url="http://test/api/v1/strategies",
            headers={"Authorization": f"Bearer {role}"} if role else {},
        )

    return make


@pytest.fixture
def client(client_of):
    return client_of("admin")


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def put(client, content=CODE, name="mine.py", headers=PYTHON):
    return await client.put(f"/files/{name}", content=content, headers=headers)


async def refused(client, folder, *args, status=422, **kwargs):
    """The problem; nothing was written."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    response = await put(client, *args, **kwargs)
    assert response.status_code == status, response.text
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    return response.json()


# Writing


async def test_a_file_is_written_as_it_was_sent_and_nothing_is_loaded(client, folder, strategies, engine):
    response = await put(client)
    assert response.status_code == 200
    assert response.json() == {
        "file_name": "mine.py",
        "size": len(CODE),
        "hash": sha(CODE),
        "former_hash": None,
        "next": "POST /api/v1/strategies/classes/reload",
    }
    assert (folder / "mine.py").read_bytes() == CODE
    assert strategies.asked == []


async def test_it_is_on_record_with_the_hash_before_and_after(client, folder, engine):
    (folder / "mine.py").write_bytes(b"x = 0")
    assert (await put(client)).json()["former_hash"] == sha(b"x = 0")
    (audit,) = engine.audits
    assert (audit.who, audit.what, audit.target) == ("a admin", "strategies.upload", "mine.py")
    assert (audit.before, audit.after) == ({"hash": sha(b"x = 0")}, {"hash": sha(CODE), "size": len(CODE)})


async def test_what_cannot_be_put_on_record_is_not_written(client, folder, engine):
    engine.journal_error = StorageFull("full")
    await refused(client, folder, status=507)
    engine.journal_error = None
    assert (await put(client)).status_code == 200


async def test_a_file_is_never_seen_half_written(client, folder, monkeypatch):
    (folder / "mine.py").write_bytes(b"x = 0")

    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    problem = await refused(client, folder, status=507)
    assert problem["code"] == "STORAGE_FULL"


async def test_a_folder_that_cannot_be_written_is_told_and_on_record(client, folder, engine, monkeypatch):
    def fail(source, target):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "replace", fail)
    assert "Read-only" in (await refused(client, folder, status=409))["detail"]
    assert [audit.what for audit in engine.audits] == ["strategies.upload", "strategies.upload_failed"]
    assert engine.audits[-1].after == {"hash": None}


async def test_a_link_is_replaced_not_followed(client, folder, tmp_path):
    outside = tmp_path / "outside.py"
    outside.write_bytes(b"secret = 1")
    (folder / "mine.py").symlink_to(outside)
    assert (await put(client)).status_code == 200
    assert outside.read_bytes() == b"secret = 1"
    assert (folder / "mine.py").read_bytes() == CODE
    assert not stat.S_ISLNK((folder / "mine.py").lstat().st_mode)


# What is refused


class TestOff:
    @pytest.fixture
    def enabled(self):
        return False

    async def test_uploads_are_off_by_default(self, client, folder):
        assert not StrategyUploadSettings().enabled
        problem = await refused(client, folder, status=403)
        assert "[strategy_upload] enabled = true" in problem["detail"]

    async def test_the_files_are_listed_all_the_same(self, client):
        assert (await client.get("/files")).status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        "..%2Fmine.py", "%2e%2e%2fmine.py", "mine.txt", "mine.py.txt", ".mine.py", "1mine.py", "my-strategy.py",
        "策略.py", "mine.pyc", "a" * 65 + ".py", "mine.py%00", "mine.py%0a", "__init__.py", "__main__.py",
    ],
)  # fmt: skip
async def test_names_that_are_no_modules_are_refused(client, folder, name):
    before = sorted(folder.parent.rglob("*"))
    response = await put(client, name=name)
    assert response.status_code in (404, 422), response.text
    assert sorted(folder.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"x = 1\nif x\n", "line 2: expected ':'"),
        (b"def f(:\n", "line 1"),
        (b"x = 1\n\x00", "null"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        ("x = 1  # é".encode("latin-1"), "UTF-8"),
        (b"# -*- coding: gbk -*-\nx = 1\n", "gbk"),
        (b"# -*- coding: nonsense -*-\nx = 1\n", "UTF-8"),
        (b"x = " + b"(" * 300 + b")" * 300, "nested"),
        (b"x = " + b"-" * 4000 + b"1", "is no Python"),
    ],
)
async def test_what_is_no_python_is_refused_with_the_line(client, folder, content, told):
    problem = await refused(client, folder, content)
    assert problem["code"] == "VALIDATION_FAILED"
    assert told in problem["detail"]
    assert problem["errors"][0]["field"] == "body"


async def test_a_file_whose_reading_does_not_end_is_refused(client, folder, monkeypatch):
    monkeypatch.setattr(module, "_CHECK", "while True: pass")
    monkeypatch.setattr(module, "CHECK_S", 0.2)
    assert "within 0.2 s" in (await refused(client, folder))["detail"]


async def test_nothing_of_a_file_is_run(client, tmp_path):
    ran = tmp_path / "ran"
    assert (await put(client, f"open({str(ran)!r}, 'w')".encode())).status_code == 200
    assert not ran.exists()


async def test_a_larger_file_is_refused(client, folder):
    assert (await put(client, b"#" * 4096)).status_code == 200
    assert (await refused(client, folder, b"#" * 4097, status=413))["code"] == "PAYLOAD_TOO_LARGE"


@pytest.mark.parametrize("media", ["application/json", "text/html", ""])
async def test_another_kind_of_body_is_refused(client, folder, media):
    problem = await refused(client, folder, headers={"Content-Type": media})
    assert problem["errors"][0]["field"] == "Content-Type"


@pytest.mark.parametrize("media", ["text/x-python; charset=utf-8", "application/octet-stream", "Text/X-Python"])
async def test_python_and_plain_bytes_are_taken(client, media):
    assert (await put(client, headers={"Content-Type": media})).status_code == 200


@pytest.mark.parametrize(
    "state", [StrategyState.RUNNING, StrategyState.INITIALISING, StrategyState.INITED, StrategyState.STOPPED]
)
async def test_code_that_a_strategy_runs_is_left_alone(client, folder, strategies, state):
    strategies.put("demo", state)
    problem = await refused(client, folder, name="double_ma.py", status=409)
    assert problem["detail"].startswith("demo run code of double_ma.py")
    assert (await put(client)).status_code == 200


@pytest.mark.parametrize("state", [StrategyState.CREATED, StrategyState.FAILED])
async def test_code_that_no_strategy_runs_may_be_replaced(client, strategies, state):
    strategies.put("demo", state)
    assert (await put(client, name="double_ma.py")).status_code == 200


# Listing


async def test_each_file_is_listed_with_what_was_loaded_of_it(client, folder, strategies):
    (folder / "double_ma.py").write_bytes(b"a")
    strategies.known_classes = {
        "DoubleMa": msgspec.structs.replace(DOUBLE_MA, hash=sha(b"a")),
        "Shipped": msgspec.structs.replace(DOUBLE_MA, class_name="Shipped", file="broken.py", shipped=True),
    }
    (folder / "broken.py").write_bytes(b"b")
    strategies.failed = [LoadError(file="broken.py", error="SyntaxError")]
    (folder / "notes.txt").write_text("c")
    (folder / "folder.py").mkdir()
    os.utime(folder / "double_ma.py", (1e9, 1e9))
    answer = (await client.get("/files")).json()
    assert [item["file_name"] for item in answer["items"]] == ["broken.py", "double_ma.py"]
    broken, loaded = answer["items"]
    assert (broken["loaded"], broken["classes"], broken["error"]) == (False, [], "SyntaxError")
    assert loaded == {
        "file_name": "double_ma.py",
        "size": 1,
        "hash": sha(b"a"),
        "modified_at": datetime.fromtimestamp(1e9, UTC).isoformat().replace("+00:00", "Z"),
        "loaded": True,
        "classes": ["DoubleMa"],
        "error": None,
    }


async def test_a_file_that_was_edited_since_is_not_the_one_that_is_loaded(client, folder):
    (folder / "double_ma.py").write_bytes(b"edited")
    (item,) = (await client.get("/files")).json()["items"]
    assert (item["loaded"], item["classes"]) == (False, ["DoubleMa"])


async def test_files_come_in_pages(client, folder):
    for name in "cab":
        (folder / f"{name}.py").write_text("")
    first = (await client.get("/files", params={"limit": 2})).json()
    second = (await client.get("/files", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [item["file_name"] for item in (*first["items"], *second["items"])] == ["a.py", "b.py", "c.py"]


async def test_a_folder_that_is_not_there_is_told(client, folder):
    folder.rmdir()
    assert (await client.get("/files")).status_code == 409


# Who may


async def test_reading_needs_a_viewer_and_writing_an_admin(client_of):
    assert (await client_of(None).get("/files")).status_code == 401
    assert (await client_of("viewer").get("/files")).status_code == 200
    for role, status in ((None, 401), ("viewer", 403), ("trader", 403), ("admin", 200)):
        assert (await put(client_of(role))).status_code == status, role


def test_every_operation_is_documented(app):
    operations = {
        operation["operationId"]: operation for item in app.openapi()["paths"].values() for operation in item.values()
    }
    assert set(operations) == {"list_strategy_files", "put_strategy_file"}
    for operation in operations.values():
        assert operation["summary"]
        assert operation["description"]
        assert operation["tags"] == ["strategies"]
        assert {"200", "401", "403", "422"} <= set(operation["responses"])
