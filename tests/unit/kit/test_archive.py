"""Backup and restore of a data folder."""

import errno
import fcntl
import io
import json
import os
import sqlite3
import stat
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from vnpy_core.kit.archive import FORMAT, MANIFEST, ArchiveError, back_up, restore
from vnpy_core.kit.files import write_secret
from vnpy_core.kit.lock import DataFolderLock, FolderInUse


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    write_secret(folder / ".vntrader" / "connect_ctp.json", '{"密码": "x"}')
    (folder / "empty").write_bytes(b"")
    (folder / "service.log").write_text("noise")
    (folder / "strategies").symlink_to(tmp_path)
    return folder


@pytest.fixture
def archive(tmp_path):
    return tmp_path / "out" / "backup.tar.gz"


def crafted(archive, name, *, kind=tarfile.REGTYPE, manifest=True):
    archive.parent.mkdir(exist_ok=True)
    with tarfile.open(archive, "w:gz") as tar:
        if manifest:
            content = json.dumps({"format": FORMAT}).encode()
            info = tarfile.TarInfo(MANIFEST)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        info = tarfile.TarInfo(name)
        info.type = kind
        info.linkname = "/etc/passwd"
        tar.addfile(info, io.BytesIO(b""))


def test_what_was_backed_up_comes_back_with_its_modes(data, archive, tmp_path):
    back_up(data, archive, version="1")
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    assert restore(archive, tmp_path / "other") is None
    secret = tmp_path / "other" / ".vntrader" / "connect_ctp.json"
    assert secret.read_text() == '{"密码": "x"}'
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert sorted(p.name for p in (tmp_path / "other").iterdir()) == [".vntrader", "RESTORED", "empty", "service.lock"]


def test_a_database_that_is_being_written_is_taken_with_its_wal(data, archive, tmp_path):
    with closing(sqlite3.connect(data / "journal.sqlite")) as writer:
        writer.executescript("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(x);")
        writer.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(1_000)])
        writer.commit()
        writer.execute("INSERT INTO t VALUES (-1)")  # not committed: must not be seen
        back_up(data, archive, version="1")
    restore(archive, tmp_path / "other")
    with closing(sqlite3.connect(tmp_path / "other" / "journal.sqlite")) as copy:
        assert copy.execute("SELECT count(*), min(x) FROM t").fetchone() == (1_000, 0)
    assert not list((tmp_path / "other").glob("*-wal"))


def test_a_backup_may_be_made_while_a_service_holds_the_folder(data, archive):
    with DataFolderLock(data):
        assert back_up(data, archive, version="1") == 2


def test_an_archive_inside_the_folder_does_not_take_itself(data):
    back_up(data, data / "b.tar.gz", version="1")
    assert back_up(data, data / "b.tar.gz", version="1", force=True) == 2


def test_an_archive_is_not_overwritten_unasked(data, archive):
    back_up(data, archive, version="1")
    with pytest.raises(ArchiveError, match="--force"):
        back_up(data, archive, version="1")


def test_a_folder_that_is_not_there_is_told(tmp_path, archive):
    with pytest.raises(ArchiveError, match="no data folder"):
        back_up(tmp_path / "nowhere", archive, version="1")


def test_restore_refuses_a_folder_in_use(data, archive, tmp_path):
    back_up(data, archive, version="1")
    with DataFolderLock(tmp_path / "other"), pytest.raises(FolderInUse):
        restore(archive, tmp_path / "other", force=True)


def test_restore_into_a_full_folder_needs_force_and_keeps_what_was_there(data, archive):
    back_up(data, archive, version="1")
    (data / "empty").write_text("newer")
    (data / "journal.sqlite-wal").write_text("would be played into the restored database")
    with pytest.raises(ArchiveError, match="not empty"):
        restore(archive, data)
    aside = restore(archive, data, force=True)
    assert (data / "empty").read_text() == ""
    assert (aside / "empty").read_text() == "newer"
    assert not (data / "journal.sqlite-wal").exists()
    assert (data / "strategies").is_symlink()
    assert back_up(data, archive, version="1", force=True) == 2  # what was moved aside is not taken again


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil"])
def test_paths_that_lead_out_are_refused(archive, tmp_path, name):
    crafted(archive, name)
    with pytest.raises(ArchiveError, match="nothing was restored"):
        restore(archive, tmp_path / "other")
    assert not (tmp_path / "evil").exists()
    assert os.listdir(tmp_path / "other") == ["service.lock"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(archive, tmp_path, kind):
    crafted(archive, "link", kind=kind)
    with pytest.raises(ArchiveError, match="nothing was restored"):
        restore(archive, tmp_path / "other")


def test_a_foreign_archive_is_refused(archive, tmp_path):
    crafted(archive, "file", manifest=False)
    with pytest.raises(ArchiveError, match="not a backup"):
        restore(archive, tmp_path / "other")


def test_a_backup_cut_anywhere_is_refused_and_changes_nothing(data, archive, tmp_path):
    (data / "noise").write_bytes(os.urandom(5_000))
    back_up(data, archive, version="1")
    whole = archive.read_bytes()
    for end in range(0, len(whole) - 1, 97):
        archive.write_bytes(whole[:end])
        with pytest.raises(ArchiveError):
            restore(archive, tmp_path / "other")
        assert os.listdir(tmp_path / "other") == ["service.lock"]


def test_a_restore_that_is_cut_short_leaves_no_database_without_the_marker(data, archive, tmp_path, monkeypatch):
    back_up(data, archive, version="1")
    target = tmp_path / "other"
    replace = Path.replace

    def cut_short(path, to):
        replace(path, to)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", cut_short)
    with pytest.raises(KeyboardInterrupt):
        restore(archive, target)
    assert (target / "RESTORED").exists()


def test_a_backup_has_every_file_that_its_catalog_lists_though_they_are_replaced_meanwhile(
    data, archive, tmp_path, monkeypatch
):
    ticks = data / "timeseries"
    ticks.mkdir()
    catalog = sqlite3.connect(ticks / "catalog.sqlite", isolation_level=None)
    catalog.execute("create table files (path text)")
    for name in ("a.parquet", "b.parquet"):
        (ticks / name).write_text(name)
        catalog.execute("insert into files values (?)", [name])
    added = tarfile.TarFile.addfile

    def roll_first(tar, info, file=None):
        if (ticks / "a.parquet").exists():
            catalog.execute("delete from files")
            catalog.execute("insert into files values ('c.parquet')")
            (ticks / "c.parquet").write_text("c")
            (ticks / "a.parquet").unlink()
            (ticks / "b.parquet").unlink()
        return added(tar, info, file)

    monkeypatch.setattr(tarfile.TarFile, "addfile", roll_first)
    back_up(data, archive, version="1")
    catalog.close()
    restore(archive, tmp_path / "new")
    restored = tmp_path / "new" / "timeseries"
    with closing(sqlite3.connect(restored / "catalog.sqlite")) as database:
        listed = [name for (name,) in database.execute("select path from files")]
    assert listed == ["a.parquet", "b.parquet"]
    assert [(restored / name).read_text() for name in listed] == listed
    assert not list(data.glob(".backup-*"))


def test_where_files_can_have_no_second_name_they_are_copied(data, archive, tmp_path, monkeypatch):
    ticks = data / "timeseries"
    ticks.mkdir()
    with closing(sqlite3.connect(ticks / "catalog.sqlite")) as catalog:
        catalog.execute("create table files (path text)")
    (ticks / "a.parquet").write_text("a")

    def refuse(*_: object) -> None:  # as exFAT does, and Linux for files of others
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr("os.link", refuse)
        back_up(data, archive, version="1")
    restore(archive, tmp_path / "new")
    assert (tmp_path / "new" / "timeseries" / "a.parquet").read_text() == "a"
    assert not list(data.glob(".backup-*"))


def test_what_a_killed_backup_left_goes_with_the_next_but_not_what_a_running_one_needs(data, archive):
    killed, runs = data / ".backup-links-killed", data / ".backup-links-runs"
    for folder in (killed, runs):
        folder.mkdir()
        (folder / "0").write_text("a removed file's space")
    descriptor = os.open(runs, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        back_up(data, archive, version="1")
    finally:
        os.close(descriptor)
    assert list(data.glob(".backup-*")) == [runs]
    assert (runs / "0").exists()
