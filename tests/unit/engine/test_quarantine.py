import threading
from datetime import UTC, datetime

import pytest

from vnpy_core.domain.errors import ConfigurationError, NotFound
from vnpy_core.engine.quarantine import Entry, Quarantine

AT = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


def entry(reason: str = "did not return") -> Entry:
    return Entry(reason=reason, at=AT, stack="  File …")


def test_nothing_is_held_where_there_is_no_file(tmp_path):
    quarantine = Quarantine(tmp_path / "data")
    assert quarantine.entries() == {}
    assert quarantine.entry("x") is None
    assert not (tmp_path / "data").exists()


def test_what_is_held_is_found_by_another_process_until_it_is_released(tmp_path):
    Quarantine(tmp_path).add("双均线", entry())
    other = Quarantine(tmp_path)
    assert other.entries() == {"双均线": entry()}
    assert other.release("双均线") == entry()
    assert Quarantine(tmp_path).entry("双均线") is None


def test_the_newest_reason_stands_and_comes_last(tmp_path):
    quarantine = Quarantine(tmp_path)
    for name, reason in (("a", "first"), ("b", "second"), ("a", "third")):
        quarantine.add(name, entry(reason))
    assert [(name, held.reason) for name, held in quarantine.entries().items()] == [("b", "second"), ("a", "third")]


def test_releasing_what_is_not_held_says_what_is(tmp_path):
    quarantine = Quarantine(tmp_path)
    with pytest.raises(NotFound, match="there is: nothing"):
        quarantine.release("x")
    quarantine.add("grid", entry())
    with pytest.raises(NotFound, match="there is: grid"):
        quarantine.release("x")
    assert set(quarantine.entries()) == {"grid"}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": 1}', b'{"a": {"reason": "x"}}', b"\xff\xfe"])
def test_a_broken_file_is_refused_by_name_and_never_written_over(tmp_path, content):
    path = tmp_path / "quarantine.json"
    path.write_bytes(content)
    quarantine = Quarantine(tmp_path)
    for call in (quarantine.entries, lambda: quarantine.add("a", entry()), lambda: quarantine.release("a")):
        with pytest.raises(ConfigurationError, match="quarantine.json is broken.*mend it"):
            call()
    assert path.read_bytes() == content


def test_several_that_write_at_once_lose_nothing(tmp_path):
    threads = [threading.Thread(target=Quarantine(tmp_path).add, args=(f"s{n}", entry())) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Quarantine(tmp_path).entries()) == 20


def test_only_its_owner_may_read_it(tmp_path):
    Quarantine(tmp_path).add("a", entry())
    assert (tmp_path / "quarantine.json").stat().st_mode & 0o077 == 0
