"""The strategy classes: loaded from their files, described for callers, and kept where an edited file is broken."""

from __future__ import annotations

import inspect
import json
import threading
import traceback
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import GenericAlias, ModuleType, TracebackType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import msgspec
import structlog
import vnpy_ctastrategy
from vnpy_ctastrategy import CtaTemplate, TargetPosTemplate

from vnpy_core.domain.errors import NotFound, ValidationFailed
from vnpy_core.domain.setting_check import fits, is_plain
from vnpy_core.domain.strategies import LoadError, Parameter, Reloaded, StrategyClass
from vnpy_core.engine.apps import fresh_imports
from vnpy_core.engine.apps.fresh_imports import Attempt, FreshImports, hash_of
from vnpy_core.engine.interrupt import CallbackInterrupted
from vnpy_core.engine.translate import plain

SHIPPED = "vnpy_ctastrategy.strategies"
OWN = "strategies"
"""The packages, as VnPy names them."""
FRAMES_SHOWN = 4

_NOT_SHOWN = ("<frozen importlib", fresh_imports.__file__)
_TYPES = {"int": "int", "float": "float", "bool": "bool", "str": "str", "list": "list", "dict": "dict"}
_log = structlog.get_logger(__name__)


class _File(NamedTuple):
    """One file that may have classes."""

    module: str
    path: Path

    @property
    def shipped(self) -> bool:
        return self.module.startswith(f"{SHIPPED}.")


@dataclass(frozen=True)
class _Origin:
    """Where a class comes from."""

    file: str
    hash: str
    code: frozenset[str] = frozenset()
    """Hashes of its file and of those of its folder that it imports."""


@dataclass(frozen=True)
class _Class:
    """A class that was loaded; `unfit` says why no strategy can be made of it."""

    type: type
    info: StrategyClass
    unfit: str | None
    origin: _Origin


class StrategyClasses:
    """The classes of one CtaEngine, whose `load_strategy_class` it replaces. Any thread; but `load` blocks."""

    def __init__(self, engine: Any, *, limit_s: float = 10.0, folder: Path | None = None) -> None:
        """A file may take `limit_s` to load. `folder` has the user's own, by default where VnPy looks for them."""
        self._engine = engine
        self._limit_s = limit_s
        self._folders = {
            OWN: folder or Path.cwd() / "strategies",
            SHIPPED: Path(vnpy_ctastrategy.__file__).parent / "strategies",
        }
        self._by_name: dict[str, _Class] = {}
        self._by_module: dict[str, list[_Class]] = {}
        self._origins: WeakKeyDictionary[type, _Origin] = WeakKeyDictionary()
        self._errors: list[LoadError] = []
        self._left_behind: dict[str, tuple[Attempt[list[_Class]], str]] = {}
        self._lock = threading.Lock()

    def install(self) -> None:
        """Load in place of the engine; what it has loaded before is known from then on."""
        for type_ in self._engine.classes.values():
            self._adopt(type_)
        self._engine.load_strategy_class = self._load_for_engine

    def uninstall(self) -> None:
        """Give the engine its own method back."""
        self._engine.__dict__.pop("load_strategy_class", None)

    def load(self) -> Reloaded:
        """Load all files again; `kept` is left empty. Not on the event thread: each file may take its time."""
        with self._lock:
            before = self._by_name
            self._load_all()
            classes, failed = self._by_name, self._errors
        for failure in failed:
            _log.error("a strategy file could not be loaded", file=failure.file, detail=failure.error)
        return Reloaded(
            loaded=sorted(classes),
            changed=sorted(n for n, cls in classes.items() if n not in before or before[n].origin != cls.origin),
            removed=sorted(before.keys() - classes.keys()),
            failed=failed,
            kept=[],
        )

    def all(self) -> list[StrategyClass]:
        """All that there are, by name."""
        return [cls.info for _, cls in sorted(self._by_name.items())]

    def errors(self) -> list[LoadError]:
        """The files that could not be loaded the last time, by name."""
        return self._errors

    def info(self, class_name: str) -> StrategyClass:
        """One of them. Raises NotFound."""
        return self._get(class_name).info

    def type_of(self, class_name: str) -> type:
        """The class to make a strategy of. Raises NotFound, ValidationFailed (none can be made of it)."""
        cls = self._get(class_name)
        if cls.unfit:
            raise ValidationFailed(f"no strategy can be made of {class_name}: {cls.unfit}")
        return cls.type

    def hash_of(self, type_: type) -> str:
        """Of the file that a class was loaded from, also where it was loaded again since; "" where unknown."""
        return self._origin(type_).hash

    def file_of(self, type_: type) -> str:
        """The name of that file."""
        return self._origin(type_).file

    def is_current(self, type_: type) -> bool:
        """Whether a strategy that is made now would have the same code."""
        cls = self._by_name.get(type_.__name__)
        return cls is not None and (cls.type is type_ or cls.origin == self._origin(type_))

    def _get(self, class_name: str) -> _Class:
        cls = self._by_name.get(class_name)
        if cls is None:
            raise NotFound(f"there is no strategy class {class_name}")
        return cls

    def _origin(self, type_: type) -> _Origin:
        return self._origins.get(type_) or _Origin("", "")

    def _load_for_engine(self) -> None:
        self.load()
        for failure in self._errors:
            # For VnPy's own windows and logs.
            self._engine.write_log(f"{failure.file} could not be loaded: {failure.error}")

    def _load_all(self) -> None:
        modules: dict[str, list[_Class]] = {}
        errors: dict[_File, list[str]] = {}
        with FreshImports(self._folders) as imports:
            for file in self._files():
                modules[file.module], error = self._load_file(file, imports)
                errors[file] = [error] if error else []
        classes, doubles = _choose(modules)
        words = {file: "\n".join(lines + doubles.get(file.module, [])) for file, lines in errors.items()}
        failed = [LoadError(file=file.path.name, error=error) for file, error in words.items() if error]
        self._by_module, self._by_name, self._errors = modules, classes, sorted(failed, key=lambda e: e.file)
        self._origins.update({cls.type: cls.origin for cls in classes.values()})
        # Another dict at once, because CtaEngine's is read without a lock.
        self._engine.classes = {name: cls.type for name, cls in classes.items()}

    def _files(self) -> list[_File]:
        """The user's first, each folder by name."""
        return [_File(f"{package}.{stem}", path) for package, folder in self._folders.items()
                for stem, path in sorted(_modules(folder).items())]  # fmt: skip

    def _load_file(self, file: _File, imports: FreshImports) -> tuple[list[_Class], str]:
        """Its classes, and what was wrong; then they are those of its last good version."""
        if error := self._refusal(file):
            imports.give_up(file.module)
        else:
            attempt = Attempt(lambda: self._classes_of(imports.load(file.module), file, imports), f"load {file.module}")
            error = self._outcome(attempt, file)
            if not error:
                return attempt.outcome.result(), ""
            imports.give_up(file.module)
        stale = f"{file.path.name} could not be loaded, this is the code of before: {error}"
        return [_Class(c.type, msgspec.structs.replace(c.info, error=c.unfit or stale), c.unfit, c.origin)
                for c in self._by_module.get(file.module, [])], error  # fmt: skip

    def _refusal(self, file: _File) -> str:
        """A file that did not end is not begun again: each time would cost a thread."""
        attempt, hash_ = self._left_behind.get(file.module, (None, ""))
        if attempt is None or not attempt.is_running() or _hash(file.path) != hash_:
            self._left_behind.pop(file.module, None)
            return ""
        return "it is still being loaded since an earlier time, and does not end: restart the service, or edit the file"

    def _outcome(self, attempt: Attempt[list[_Class]], file: _File) -> str:
        """What was wrong; "" where it was loaded."""
        hash_ = _hash(file.path)
        if not attempt.run(self._limit_s):
            self._left_behind[file.module] = attempt, hash_
            return f"{self._too_long}, and does not end"
        error = attempt.outcome.exception()
        if isinstance(error, CallbackInterrupted):
            return f"{self._too_long} and was ended in\n{_where(error, file.path.parent)}".strip()
        return _last_lines(error, file.path.parent) if error else ""

    @property
    def _too_long(self) -> str:
        return f"did not load in {self._limit_s:g} s (engine.load_limit_s)"

    def _classes_of(self, module: ModuleType, file: _File, imports: FreshImports) -> list[_Class]:
        """On the thread of the file: it may run code of the classes."""
        hash_ = imports.sources[file.module].hash if file.module in imports.sources else _hash(file.path)
        origin = _Origin(file.path.name, hash_, imports.code_of(file.module) or frozenset({hash_}))
        return [_describe(type_, file, origin) for type_ in self._types(module)]

    def _types(self, module: ModuleType) -> Iterator[type]:
        """Its strategy classes, also imported ones, unless from a file that is loaded itself."""
        types = dict.fromkeys(v for v in vars(module).values() if isinstance(v, type) and issubclass(v, CtaTemplate))
        for type_ in types:
            is_others = type_.__module__ != module.__name__ and type_.__module__.rpartition(".")[0] in self._folders
            if type_ not in {CtaTemplate, TargetPosTemplate} and not is_others:
                yield type_

    def _adopt(self, type_: type) -> None:
        """A class that the engine loaded itself; its file is taken as it is now."""
        try:
            path = Path(inspect.getfile(type_))
        except (TypeError, OSError):
            path = Path("")
        hash_ = _hash(path)
        file = _File(type_.__module__, path)
        cls = _describe(type_, file, _Origin(path.name, hash_, frozenset({hash_})))
        self._by_name[type_.__name__] = cls
        self._origins[type_] = cls.origin
        self._by_module.setdefault(file.module, []).append(cls)


def _modules(folder: Path) -> dict[str, Path]:
    """Module name -> file; where there is a compiled one beside the text, that one, as Python has it."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.*")):
        suffix = next((s for s in (*EXTENSION_SUFFIXES, ".py") if path.name.endswith(s)), None)
        stem = path.name.removesuffix(suffix or "")
        if suffix and path.is_file() and not stem.startswith(".") and stem != "__init__":
            found[stem] = found.get(stem, path) if suffix == ".py" else path
    return found


def _choose(modules: dict[str, list[_Class]]) -> tuple[dict[str, _Class], dict[str, list[str]]]:
    """Each name's class: of the first file that has it; and what to tell of the user's other files."""
    chosen: dict[str, _Class] = {}
    doubles: dict[str, list[str]] = defaultdict(list)
    for module, classes in modules.items():
        for cls in classes:
            first = chosen.setdefault(cls.info.class_name, cls)
            if first.type is not cls.type and not cls.info.shipped:
                doubles[module].append(
                    f"the class {cls.info.class_name} is in {first.info.file} too, and taken from there"
                )
    return chosen, doubles


def _describe(type_: Any, file: _File, origin: _Origin) -> _Class:
    """What a caller sees of a class; its attributes may be anything."""
    names, variables = _names(type_, "parameters"), _names(type_, "variables")
    unfit = _what_is_unfit(type_, names)
    info = StrategyClass(
        class_name=type_.__name__,
        author=_writable(str(type_.author)),
        doc=_writable(inspect.cleandoc(type_.__doc__ or "")),
        parameters=[_parameter(type_, name) for name in names or () if hasattr(type_, name)],
        variables=variables or [],
        module=file.module,
        file=origin.file,
        hash=origin.hash,
        shipped=file.shipped,
        error=unfit,
    )
    return _Class(type_, info, unfit, origin)


def _names(type_: Any, attribute: str) -> list[str] | None:
    names = getattr(type_, attribute)
    is_list = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    return list(names) if is_list else None


def _what_is_unfit(type_: Any, parameters: list[str] | None) -> str | None:
    if parameters is None:
        return "its `parameters` are no list of names"
    if inspect.isabstract(type_):
        return f"it does not define {', '.join(sorted(type_.__abstractmethods__))}"
    missing = [name for name in parameters if not hasattr(type_, name)]
    words = [f"parameter {name} is declared but the class has no attribute {name}" for name in missing]
    return "; ".join(words) or None


def _parameter(type_: type, name: str) -> Parameter:
    value = getattr(type_, name)
    if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0:
        value = value.item()  # a number of numpy's
    if isinstance(value, tuple):
        value = list(value)
    is_json = _is_json(value)
    word = _type(type_, name, value) if is_json else "object"
    return Parameter(name=name, type=word, default=_writable(value if is_json else str(plain(value))))


def _type(type_: type, name: str, default: Any) -> str:
    declared = _declared_type(type_, name)
    return declared if declared is not None and fits(declared, default) else _type_of_default(default)


def _is_json(value: Any) -> bool:
    """NaN, too, tells of a number: that a value has to be given."""
    return isinstance(value, float) or (is_plain(value) and not isinstance(value, Enum))


def _writable(value: Any) -> Any:
    """Without halves of characters, which no answer could hold, and plain floats instead of a float's subclass."""
    return json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))


def _declared_type(type_: type, name: str) -> str | None:
    """By the annotation: `List[int]` is a list, and what we have no word for is anything."""
    for cls in type_.__mro__:
        annotation = inspect.get_annotations(cls).get(name)
        if annotation is not None:
            is_class = isinstance(annotation, type) and not isinstance(annotation, GenericAlias)
            text = annotation.__name__ if is_class else str(annotation)
            return _TYPES.get(text.partition("[")[0].removeprefix("typing.").lower(), "any")
    return None


def _type_of_default(value: Any) -> str:
    match value:
        case bool():
            return "bool"
        case int():
            return "number"
        case float():
            return "float"
        case str():
            return "str"
        case list() | dict():
            return type(value).__name__
        case _:
            return "any"


def _last_lines(error: BaseException, folder: Path) -> str:
    words = "".join(traceback.format_exception_only(error)).replace(f"{folder.parent}/", "")
    return (_where(error, folder) + words).strip()


def _where(error: BaseException, folder: Path) -> str:
    """The end of its traceback, from the first line in `folder` on, without the path to there."""
    at: TracebackType | None = error.__traceback__
    while at is not None and Path(at.tb_frame.f_code.co_filename).parent != folder:
        at = at.tb_next
    frames = [frame for frame in traceback.extract_tb(at) if not frame.filename.startswith(_NOT_SHOWN)]
    lines = traceback.format_list(frames)
    if len(lines) > FRAMES_SHOWN:
        lines[1 : 1 - FRAMES_SHOWN] = ["  …\n"]
    return "".join(lines).replace(f"{folder.parent}/", "")


def _hash(path: Path) -> str:
    try:
        return hash_of(path.read_bytes())
    except OSError:
        return ""
