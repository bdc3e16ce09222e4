import os
import sqlite3
import stat
import threading
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from vnpy_core.adapters.credentials.sqlite import SqliteCredentials
from vnpy_core.domain.errors import ConfigurationError, StorageFull
from vnpy_core.ports.auth import Role
from vnpy_core.ports.credentials import Refresh, User

NOW = datetime(2026, 11, 21, 2, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(days=14)
ADMIN = User(name="admin", role=Role.ADMIN, password_hash="h1")
FIRST = Refresh(token_hash="t1", session_id="s1", user_name="admin", expires_at=LATER)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "secrets" / "credentials.sqlite"


@pytest.fixture
def store(path):
    store = SqliteCredentials(path)
    yield store
    store.close()


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_files_are_for_their_owner_only(path):
    before = os.umask(0)
    try:
        store = SqliteCredentials(path)
        store.put_user(ADMIN)
        files = list(path.parent.iterdir())
        assert len(files) > 1  # the log of changes beside it
        assert {mode(file) for file in files} == {0o600}
        assert mode(path.parent) == 0o700
        store.close()
    finally:
        os.umask(before)


def test_a_file_that_was_open_to_others_is_closed(path):
    SqliteCredentials(path).close()
    path.chmod(0o644)
    SqliteCredentials(path).close()
    assert mode(path) == 0o600


def test_users_are_kept_and_replaced(store):
    assert store.user("admin") is None
    store.put_user(ADMIN)
    store.put_user(User(name="Admin", role=Role.VIEWER, password_hash="other"))
    assert store.user("admin") == ADMIN
    changed = msgspec.structs.replace(ADMIN, password_hash="h2", role=Role.TRADER)
    store.put_user(changed)
    assert store.user("admin") == changed


@pytest.mark.parametrize("name", ["", "' or 1=1 --", "x\x00y", "管理员", "x" * 10_000])
def test_any_text_may_be_asked_for(store, name):
    assert store.user(name) is None
    assert store.rotate_refresh(name, "n", NOW, LATER) is None


def test_a_token_is_exchanged_once(store):
    store.add_refresh(FIRST)
    assert store.rotate_refresh("t1", "t2", NOW, LATER) == FIRST
    again = store.rotate_refresh("t1", "t3", NOW, LATER)
    assert again == msgspec.structs.replace(FIRST, used=True)
    assert store.rotate_refresh("t3", "t4", NOW, LATER) is None
    second = store.rotate_refresh("t2", "t5", NOW, LATER)
    assert (second.session_id, second.used) == ("s1", False)


def test_an_expired_token_is_not_exchanged(store):
    store.add_refresh(FIRST)
    assert store.rotate_refresh("t1", "t2", LATER, LATER) == FIRST
    assert store.rotate_refresh("t2", "t3", NOW, LATER) is None


def test_an_exchange_happens_wholly_or_not_at_all(store):
    store.add_refresh(FIRST)
    with pytest.raises(sqlite3.IntegrityError):
        store.rotate_refresh("t1", "t1", NOW, LATER)
    assert store.rotate_refresh("t1", "t2", NOW, LATER) == FIRST


def test_of_many_threads_one_exchanges(store):
    store.add_refresh(FIRST)
    found = []

    def exchange(number):
        found.append(store.rotate_refresh("t1", f"n{number}", NOW, LATER))

    threads = [threading.Thread(target=exchange, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(refresh.used for refresh in found) == [False] + [True] * 7


def test_an_ended_session_has_no_tokens(store):
    store.add_refresh(FIRST)
    store.rotate_refresh("t1", "t2", NOW, LATER)
    store.end_session("s1", NOW)
    assert store.rotate_refresh("t1", "x", NOW, LATER) is store.rotate_refresh("t2", "x", NOW, LATER) is None
    assert store.ended_sessions() == {"s1": NOW}


def test_all_sessions_of_a_user_end(store):
    store.add_refresh(FIRST)
    store.add_refresh(Refresh(token_hash="a", session_id="s2", user_name="admin", expires_at=LATER))
    store.add_refresh(Refresh(token_hash="b", session_id="s3", user_name="other", expires_at=LATER))
    store.end_sessions_of("admin", NOW)
    assert store.ended_sessions() == {"s1": NOW, "s2": NOW}
    assert store.rotate_refresh("a", "x", NOW, LATER) is None
    assert store.rotate_refresh("b", "x", NOW, LATER) is not None


def test_pruning_drops_what_has_expired_only(store):
    store.add_refresh(FIRST)
    store.add_refresh(Refresh(token_hash="old", session_id="s2", user_name="admin", expires_at=NOW))
    store.end_session("s3", NOW)
    store.end_session("s4", LATER)
    store.prune(NOW)
    assert store.rotate_refresh("old", "x", NOW - timedelta(days=1), LATER) is None
    assert store.rotate_refresh("t1", "x", NOW, LATER) == FIRST
    assert store.ended_sessions() == {"s4": LATER}


def test_all_survives_a_restart(path):
    store = SqliteCredentials(path)
    store.put_user(ADMIN)
    store.add_refresh(FIRST)
    store.rotate_refresh("t1", "t2", NOW, LATER)
    store.end_session("s9", LATER)
    # Not closed: a crash.
    again = SqliteCredentials(path)
    assert again.user("admin") == ADMIN
    assert again.rotate_refresh("t1", "x", NOW, LATER).used
    assert again.ended_sessions() == {"s9": LATER}
    again.close()
    store.close()


def test_a_full_disk_is_named(store):
    pages = store._connection.execute("pragma page_count").fetchone()[0]
    store._connection.execute(f"pragma max_page_count = {pages}")
    with pytest.raises(StorageFull):
        store.put_user(msgspec.structs.replace(ADMIN, password_hash="x" * 100_000))
    assert store.user("admin") is None  # reading goes on


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to look at" * 50, b"SQLite format 3\x00" + b"\xff" * 4096]
)
def test_another_file_is_refused(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="credentials"):
        SqliteCredentials(path)
    assert path.read_bytes() == content


def test_a_file_of_a_newer_version_is_refused(path):
    SqliteCredentials(path).close()
    connection = sqlite3.connect(path)
    connection.execute("pragma user_version = 99")
    connection.close()
    with pytest.raises(ConfigurationError, match="newer"):
        SqliteCredentials(path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        SqliteCredentials(tmp_path / "file" / "credentials.sqlite")
