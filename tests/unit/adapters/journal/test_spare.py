import errno
import os
import resource

import pytest

from vnpy_core.adapters.journal.spare import Mark, Reserve, is_full

MB = 1 << 20


@pytest.fixture
def no_room(monkeypatch):
    """As a full disk or a full quota answers."""

    def refuse(number):
        def allocate(*_):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "posix_fallocate", allocate)

    return refuse


def allocated(path):
    return path.stat().st_blocks * 512


def test_the_reserve_takes_real_space_and_gives_it_back(tmp_path):
    path = tmp_path / "reserve"
    reserve = Reserve(path, MB)
    assert not reserve.in_place
    reserve.restore()
    reserve.restore()
    assert reserve.in_place
    assert allocated(path) >= MB
    assert reserve.give_up()
    assert not path.exists()
    assert not reserve.in_place
    assert not reserve.give_up()


def test_a_reserve_that_was_left_or_is_too_small_is_taken_over(tmp_path):
    path = tmp_path / "reserve"
    path.write_bytes(b"half made")
    os.truncate(path, MB)  # long, but nothing is allocated
    reserve = Reserve(path, MB)
    reserve.restore()
    assert reserve.in_place
    assert allocated(path) >= MB


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("size", [0, MB])
def test_without_room_nothing_is_left_behind(tmp_path, no_room, size, number):
    reserve = Reserve(tmp_path / "reserve", size)
    no_room(number)
    reserve.restore()
    assert not reserve.in_place
    assert list(tmp_path.iterdir()) == []
    assert is_full(tmp_path)


def test_a_reserve_is_not_made_of_the_last_free_space(tmp_path, monkeypatch):
    reserve = Reserve(tmp_path / "reserve", MB)
    space = os.statvfs(tmp_path)
    few = os.statvfs_result((space.f_frsize, space.f_frsize, *space[2:4], MB // space.f_frsize, *space[5:10]))
    monkeypatch.setattr(os, "statvfs", lambda _: few)
    reserve.restore()
    assert not reserve.in_place


def test_another_error_is_not_taken_for_a_full_disk(tmp_path, no_room):
    no_room(errno.EIO)
    reserve = Reserve(tmp_path / "reserve", MB)
    with pytest.raises(OSError, match="Input/output"):
        reserve.restore()
    assert not reserve.in_place
    assert not is_full(tmp_path)


def test_a_mark_is_kept_and_changed_without_more_space(tmp_path):
    path = tmp_path / "mark"
    mark = Mark(path)
    assert not mark.is_set
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))  # no file may grow beyond its first byte
    try:
        mark.set(True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    mark.close()
    again = Mark(path)
    assert again.is_set
    again.set(False)
    again.close()
    third = Mark(path)
    assert not third.is_set
    third.close()


def test_a_mark_that_cannot_be_read_counts_as_set(tmp_path):
    (tmp_path / "mark").write_bytes(b"\0")
    mark = Mark(tmp_path / "mark")
    assert mark.is_set
    mark.close()
