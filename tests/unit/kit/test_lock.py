"""One service per data folder."""

import stat
import subprocess
import sys
import time

import pytest

from vnpy_core.kit.lock import LOCK_FILE, DataFolderLock, FolderInUse

HOLDER = """
import sys, time
from pathlib import Path
from vnpy_core.kit.lock import DataFolderLock
lock = DataFolderLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_another_process_is_refused_at_once_and_told_who_holds_it(tmp_path, holder):
    started = time.monotonic()
    with pytest.raises(FolderInUse, match=f"process {holder.pid}"):
        DataFolderLock(tmp_path).acquire()
    assert time.monotonic() - started < 2


def test_a_killed_holder_leaves_the_folder_free(tmp_path, holder):
    holder.kill()
    holder.wait()
    with DataFolderLock(tmp_path):
        pass


def test_release_frees_and_may_be_repeated(tmp_path):
    lock = DataFolderLock(tmp_path / "new")
    lock.acquire()
    lock.acquire()
    lock.release()
    lock.release()
    with DataFolderLock(tmp_path / "new"):
        pass


def test_the_file_is_private(tmp_path):
    with DataFolderLock(tmp_path):
        assert stat.S_IMODE((tmp_path / LOCK_FILE).stat().st_mode) == 0o600
