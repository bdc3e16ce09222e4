"""VnPy's two files of strategies: written late by a thread of their own, and told apart from what others wrote.

The journal is the record; these files are kept valid for a desktop VnPy and for people. A third file beside them holds
a seal of each entry as we wrote it last and as we are about to write it: an entry without a known seal is somebody
else's, and an entry whose seals are known but which is not there was taken out by somebody else.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from vnpy_core.kit.failpoints import hit
from vnpy_core.kit.files import write_atomic
from vnpy_core.ports.clock import Clock

SETTING = "cta_strategy_setting.json"
DATA = "cta_strategy_data.json"
FILES = (SETTING, DATA)
SEALS = "core_cta_files.json"
PAUSE_S = 0.1
"""Between two writes at least."""
SHARE = 10
"""The writer rests so many times as long as it wrote: fsyncs of its own must not slow the journal's."""
RETRY_S = 1.0
"""After a write that failed."""

Entry = dict[str, Any]
Contents = dict[str, dict[str, Entry]]
"""file -> strategy -> its entry. An entry is replaced and never changed."""
Seals = dict[str, str]
"""strategy -> the seal of its entry."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Found:
    """One of the files as a start finds it; without entries where it is missing or broken."""

    entries: dict[str, Entry] = field(default_factory=dict)
    foreign: frozenset[str] = frozenset()
    """Whose entry we have not written so."""
    gone: frozenset[str] = frozenset()
    """Whose entry we had written and somebody took out."""
    broken: str = ""
    """Why nothing of it, or not all, could be read."""


class CtaFiles:
    """The files of one CtaEngine, in `folder`. Any thread."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._contents: Callable[[], Contents] = dict
        self._lock = threading.Lock()
        self._on_disk: dict[str, Seals] = {}
        """file -> what it holds now, where it can be read."""
        self._sealed: dict[str, list[Seals]] | None = None
        """file -> what it may hold after a kill; None until it is read."""
        self._texts: dict[tuple[str, str], _Text] = {}
        self._dirty = threading.Event()
        self._ended = threading.Event()
        self._failed = False

    # --- at the start ---

    def read(self, file: str) -> Found:
        """What there is of it, and what of that is not ours."""
        try:
            content = json.loads((self._folder / file).read_bytes().decode("utf-8-sig"))
        except FileNotFoundError:
            return Found()
        except (OSError, ValueError, RecursionError) as error:
            return Found(broken=f"{type(error).__name__}: {error}")
        if not isinstance(content, dict):
            return Found(broken="it holds no object of strategies")
        entries = {name: entry for name, entry in content.items() if _is_whole(file, entry)}
        seals = self._on_disk[file] = {name: seal(entry) for name, entry in entries.items()}
        known = self._read_seals().get(file, [])
        odd = sorted(content.keys() - entries.keys())
        return Found(
            entries=entries,
            foreign=frozenset(n for n in seals if all(seals[n] != version.get(n) for version in known)),
            gone=frozenset(set.intersection(*map(set, known)) - content.keys()) if known else frozenset(),
            broken=f"these entries cannot be read: {', '.join(odd)}" if odd else "",
        )

    def put_aside(self, file: str) -> Path:
        """Copy it to where nobody writes over it before it is written anew. Raises OSError."""
        stamp = f"{self._clock.now():%Y%m%dT%H%M%S}"
        aside = self._folder / f"{file}.{stamp}.broken"
        shutil.copy2(self._folder / file, aside)
        self._on_disk.pop(file, None)
        return aside

    # --- writing ---

    def start(self, contents: Callable[[], Contents]) -> None:
        """From now on `touch` has them written as `contents` says then."""
        self._contents = contents
        threading.Thread(target=self._run, name="cta-files", daemon=True).start()

    def touch(self) -> None:
        """Something changed. Waits for nothing."""
        self._dirty.set()

    def flush(self) -> None:
        """Write what changed, now. Blocks; a failure is logged."""
        self._dirty.clear()
        self._try_write()

    def close(self) -> None:
        """The last write. Blocks."""
        self._ended.set()
        self.flush()
        self._dirty.set()

    def write(self, contents: Contents) -> None:
        """Make the files hold `contents`, durably. Blocks. Raises OSError."""
        with self._lock:
            self._write(contents)

    def _run(self) -> None:
        while self._dirty.wait() and not self._ended.is_set():
            self._dirty.clear()
            began = self._clock.monotonic()
            if self._try_write():
                self._ended.wait(max(PAUSE_S, SHARE * (self._clock.monotonic() - began)))
            else:
                self._dirty.set()
                self._ended.wait(RETRY_S)

    def _try_write(self) -> bool:
        try:
            with self._lock:  # around the asking too: what was asked for later must not be written first
                self._write(self._contents())
        except OSError as error:
            if not self._failed:
                _log.error("VnPy's strategy files cannot be written; the journal has it all", detail=str(error))
            self._failed = True
            return False
        self._failed = False
        return True

    def _write(self, contents: Contents) -> None:
        pieces = {file: self._pieces(file, entries) for file, entries in contents.items()}
        seals = {file: {name: piece.seal for name, piece in texts.items()} for file, texts in pieces.items()}
        before = {file: self._on_disk.get(file, seals[file]) for file in contents}
        known, is_written = self._read_seals(), False
        if any(version not in known.get(file, []) for file in seals for version in (before[file], seals[file])):
            # First: a kill leaves a file as it was or as it will be, and both are ours.
            self._seal({file: [before[file], seals[file]] for file in seals})
        for file, texts in pieces.items():
            if self._on_disk.get(file) != seals[file]:
                hit("cta.files.before_write")
                write_atomic(self._folder / file, _join(texts))
                self._on_disk[file] = seals[file]
                is_written = True
        if is_written:
            # Else what somebody sets back to what it was before would be taken for ours.
            self._seal({file: [seals[file]] for file in seals}, durable=False)

    def _seal(self, versions: dict[str, list[Seals]], *, durable: bool = True) -> None:
        sealed = self._read_seals() | versions
        write_atomic(self._folder / SEALS, json.dumps(sealed, ensure_ascii=False).encode(), durable=durable)
        self._sealed = sealed

    def _read_seals(self) -> dict[str, list[Seals]]:
        if self._sealed is None:
            self._sealed = _load_seals(self._folder / SEALS)
        return self._sealed

    def _pieces(self, file: str, entries: Mapping[str, Entry]) -> dict[str, _Text]:
        pieces = {}
        for name, entry in entries.items():
            known = self._texts.get((file, name))
            if known is None or known.entry is not entry:
                self._texts[file, name] = known = _Text(entry, seal(entry), _indented(name, entry))
            pieces[name] = known
        for place in [(f, name) for f, name in self._texts if f == file and name not in entries]:
            del self._texts[place]
        return pieces


class _Text(NamedTuple):
    """An entry as it is written; most entries are the same from one write to the next."""

    entry: Entry
    seal: str
    text: bytes


def _is_whole(file: str, entry: Any) -> bool:
    """Whether CtaEngine can read an entry."""
    if not isinstance(entry, dict):
        return False
    if file == DATA:
        return True
    wanted = {"class_name": str, "vt_symbol": str, "setting": dict}
    return all(isinstance(entry.get(name), type_) for name, type_ in wanted.items())


def seal(entry: Entry) -> str:
    """What an entry is known by, however it is laid out."""
    text = json.dumps(entry, sort_keys=True, default=as_list)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _indented(name: str, entry: Entry) -> bytes:
    text = json.dumps({name: entry}, indent=4, ensure_ascii=False, default=as_list)
    return text.removeprefix("{\n").removesuffix("\n}").encode("utf-8", "replace")


def _join(texts: Mapping[str, _Text]) -> bytes:
    if not texts:
        return b"{}"
    return b"{\n" + b",\n".join(piece.text for piece in texts.values()) + b"\n}"


def as_list(value: Any) -> list[Any]:
    """A set as JSON has it; nothing else that JSON cannot hold comes here."""
    return sorted(value, key=repr)


def _load_seals(path: Path) -> dict[str, list[Seals]]:
    """Without them everything is somebody else's, which is right for a file that nobody can vouch for."""
    try:
        content = json.loads(path.read_bytes())
        return {file: [dict(version) for version in content.get(file, [])] for file in FILES}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        _log.warning("the seals of VnPy's strategy files cannot be read", path=str(path), detail=str(error))
        return {}
