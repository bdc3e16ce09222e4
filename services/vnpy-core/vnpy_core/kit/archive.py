"""Backup and restore of a data folder, also of one that a service is writing to."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from vnpy_core.kit.lock import LOCK_FILE, DataFolderLock

RESTORED = "RESTORED"
"""Left in the folder after a restore: the journal of the next start begins a new epoch, and removes it."""
MANIFEST = "vnpy_core-backup.json"
FORMAT = 1
LEFT_OUT = (
    LOCK_FILE,
    "*.log",
    "*.log.*",
    "*-wal",
    "*-shm",
    "*-journal",
    "*.reserve",
    "*.mark",
    RESTORED,
    "__pycache__",
    ".restoring-*",
    ".backup-*",
    "before-restore-*",
    "uploads",
    "*.tmp",
)
"""Names that are not kept: logs, locks, work under way, and what SQLite's own backup has taken into the copy."""

CATALOG = "catalog.sqlite"
"""A database that lists files of its folder which never change, but may be replaced by others and removed."""

_STAYS = (LOCK_FILE, "before-restore-")
_LINKS = ".backup-links-"
_SQLITE = b"SQLite format 3\0"
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)


class ArchiveError(Exception):
    """It was not done; the text says why. Nothing has changed."""


def back_up(folder: Path, archive: Path, *, version: str, force: bool = False) -> int:
    """Write all of `folder` to `archive` (tar.gz, 0600) and return the number of files; the service may be running.

    SQLite files are copied by SQLite, so that each is consistent in itself; the files that a catalog lists are those of
    the moment it was copied. Links are left out. Raises ArchiveError.
    """
    if not folder.is_dir():
        raise ArchiveError(f"there is no data folder {folder}")
    if archive.exists() and not force:
        raise ArchiveError(f"{archive} exists; --force writes over it")
    archive.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            tempfile.TemporaryDirectory(dir=archive.parent, prefix=".backup-") as temporary,
            _folder_for_links(folder) as links,
        ):
            held = _hold_catalogs(folder, Path(temporary), links)
            files = [path for path in _files(folder) if path.resolve() != archive.resolve() and path not in held]
            count = len(files) + len(held)
            manifest = {"format": FORMAT, "version": version, "created": datetime.now(UTC).isoformat(), "files": count}
            partial = Path(temporary) / "archive"
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as raw:
                with tarfile.open(fileobj=raw, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
                    _add_bytes(tar, MANIFEST, json.dumps(manifest).encode())
                    for path, copy in held.items():
                        _add_file(tar, path.relative_to(folder).as_posix(), copy)
                    for path in files:
                        _add(tar, path, path.relative_to(folder).as_posix(), Path(temporary))
                raw.flush()
                os.fsync(raw.fileno())
            partial.replace(archive)
    except (OSError, sqlite3.Error) as error:
        raise ArchiveError(f"the backup was not written: {error}") from error
    return count


def restore(archive: Path, folder: Path, *, force: bool = False) -> Path | None:
    """Put a backup's files into `folder`; returns where `force` moved what was there before, or None.

    All is unpacked and checked before anything is replaced. Raises ArchiveError, FolderInUse (a service runs there).
    """
    with DataFolderLock(folder):
        # Write-ahead logs too: one that stayed would be played into the restored database.
        present = [path for path in folder.iterdir() if not path.is_symlink() and not path.name.startswith(_STAYS)]
        if present and not force:
            raise ArchiveError(f"{folder} is not empty; --force moves what is there aside")
        unpacked = Path(tempfile.mkdtemp(dir=folder, prefix=".restoring-"))
        try:
            _unpack(archive, unpacked)
            aside = _move_aside(present, folder) if present else None
            # Clients that saw later events than the backup holds must notice, also where this is cut short.
            (folder / RESTORED).touch()
            for path in unpacked.iterdir():
                path.replace(folder / path.name)
        finally:
            shutil.rmtree(unpacked)
    return aside


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or _is_left_out(path):
            continue
        if path.is_dir():
            yield from _files(path)
        elif path.is_file():
            yield path


def _is_left_out(path: Path) -> bool:
    return any(fnmatch(path.name, pattern) for pattern in LEFT_OUT)


@contextmanager
def _folder_for_links(folder: Path) -> Iterator[Path]:
    """A folder in the data folder; those that killed backups left, which keep removed files' space, go."""
    for left in folder.glob(f"{_LINKS}*"):
        with suppress(OSError), _locked(left):  # else another backup's that runs
            shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=folder, prefix=_LINKS) as links, _locked(Path(links)):
        os.stat(links)  # another backup may have taken it for left before it was locked
        yield Path(links)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which ends with the process. Raises OSError where another one has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _hold_catalogs(folder: Path, temporary: Path, links: Path) -> dict[Path, Path]:
    """Copies of catalogs, and links to the files beside them made right after: nobody can take those away any more.

    A file that is removed stays for some time after it left its catalog, so each that the copy lists is still there.
    """
    held: dict[Path, Path] = {}
    for catalog in (path for path in _files(folder) if path.name == CATALOG):
        held[catalog] = _copy_sqlite(catalog, temporary / f"{len(held)}.catalog")
        for path in _files(catalog.parent):
            if path.name.endswith(".parquet"):
                name = str(len(held))
                with suppress(FileNotFoundError):  # it had left the catalog before
                    held[path] = _hold(path, links / name, temporary / name)
    return held


def _hold(path: Path, link: Path, copy: Path) -> Path:
    """A second name of a file; a copy where the file system has no links, or not for us."""
    try:
        os.link(path, link)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copy2(path, copy)
        return copy
    return link


def _add(tar: tarfile.TarFile, path: Path, name: str, temporary: Path) -> None:
    try:
        with path.open("rb") as file:
            is_sqlite = file.read(len(_SQLITE)) == _SQLITE
    except FileNotFoundError:
        return  # replaced or removed by the running service since it was listed
    if not is_sqlite:
        # Read whole, because a file that grows meanwhile would not fit the size in its header.
        _add_bytes(tar, name, path.read_bytes(), path)
        return
    copy = _copy_sqlite(path, temporary / "copy")
    _add_file(tar, name, copy)
    copy.unlink()


def _copy_sqlite(path: Path, copy: Path) -> Path:
    with (
        closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
    copy.chmod(path.stat().st_mode & 0o777)
    return copy


def _add_file(tar: tarfile.TarFile, name: str, path: Path) -> None:
    """A file that does not change meanwhile."""
    info = tar.gettarinfo(str(path), name)
    info.type, info.linkname = tarfile.REGTYPE, ""  # two names of one file are no link here
    info.size = path.stat().st_size
    with path.open("rb") as file:
        tar.addfile(info, file)


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes, like: Path | None = None) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = like.stat().st_mode & 0o777 if like else 0o600
    info.mtime = int(like.stat().st_mtime if like else datetime.now(UTC).timestamp())
    tar.addfile(info, io.BytesIO(content))


def _unpack(archive: Path, folder: Path) -> None:
    try:
        with tarfile.open(archive, "r:gz") as tar:
            _check_manifest(tar, archive)
            for member in tar:
                _unpack_one(tar, member, folder)
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise ArchiveError(f"{archive} cannot be read: {error}") from error


def _check_manifest(tar: tarfile.TarFile, archive: Path) -> None:
    first = tar.next()
    content = tar.extractfile(first) if first is not None and first.name == MANIFEST else None
    try:
        known = content is not None and json.load(content).get("format") == FORMAT
    except ValueError:
        known = False
    if not known:
        raise ArchiveError(f"{archive} is not a backup that this version can read")


def _unpack_one(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    name = PurePosixPath(member.name)
    if member.name == MANIFEST:
        return
    if not member.isfile() or name.is_absolute() or ".." in name.parts:
        raise ArchiveError(f"the archive holds {member.name!r}, which no backup of ours does; nothing was restored")
    content = tar.extractfile(member)
    assert content is not None
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(content, file)
        os.fchmod(file.fileno(), member.mode & 0o755)


def _move_aside(present: list[Path], folder: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = Path(tempfile.mkdtemp(dir=folder, prefix=f"before-restore-{stamp}-"))
    for path in present:
        path.replace(aside / path.name)
    return aside
