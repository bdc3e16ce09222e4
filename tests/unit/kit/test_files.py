"""Files that are never seen half written."""

import stat

import pytest

from vnpy_core.kit.files import write_atomic, write_secret


def test_content_replaces_what_was_there(tmp_path):
    path = tmp_path / "deep" / "file.json"
    write_atomic(path, b"old")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_atomic(path, b"old")
    with pytest.raises(TypeError):
        write_atomic(path, "text")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_secrets_are_readable_by_their_owner_only(tmp_path):
    path = tmp_path / "keys" / "secret"
    write_secret(path, "s")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
