"""Importing files anew, each as a new module object, and calls that are ended when they take too long.

`importlib.reload` executes a file in the old module's namespace, where the methods of running instances look up their
globals: an edited helper would change a strategy that trades. And Python takes a compiled file (`.pyc`) for current
when only the second and the size of its source are the same.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from importlib.abc import MetaPathFinder
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Generic, NamedTuple, TypeVar

from vnpy_core.engine.interrupt import Callbacks

T = TypeVar("T")

GRACE_S = 5.0
"""So long a call that is to end may go on before it is left behind."""
ASK_AGAIN_S = 0.5
"""An interruption is lost in a destructor or in a bare `except`, so it is repeated."""


class Source(NamedTuple):
    """A file as it was executed."""

    hash: str
    """SHA-256 of its content."""
    imports: frozenset[str]
    """Absolute names of what it imports, as far as its text says so."""


class FreshImports(MetaPathFinder):
    """One generation of the modules of some folders; for `with`, and one at a time.

    Inside, whatever is imported of these packages is executed as it stands on disk now, once. What could not be loaded
    has its former module back afterwards.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        """`folders`: package -> where its files are."""
        self._folders = folders
        self._former: dict[str, ModuleType] = {}
        self.sources: dict[str, Source] = {}
        """Module name -> its source, from just before it was executed."""
        self.failed: set[str] = set()
        """Modules that were given up: who imports them is told so and does not execute them again."""

    def __enter__(self) -> FreshImports:
        importlib.invalidate_caches()
        self._former = {name: module for name, module in sys.modules.copy().items() if self._is_ours(name, module)}
        for name in self._former:
            _forget(name)
        sys.meta_path.insert(0, self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.meta_path.remove(self)
        for name in self.failed & self._former.keys():
            sys.modules[name] = self._former[name]

    def load(self, name: str) -> ModuleType:
        """The module of this name, executed now unless another one has imported it. Raises whatever it raises."""
        if name in sys.modules:
            return _finished(sys.modules[name])
        spec = self.find_spec(name)
        if spec is None or spec.loader is None:
            raise ModuleNotFoundError(f"there is no file of the module {name}", name=name)
        # Not by importlib.import_module: a file that never returns would keep that module's lock for ever.
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return sys.modules.get(name, module)

    def give_up(self, name: str) -> None:
        """This module could not be loaded."""
        self.failed.add(name)
        _forget(name)

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """Part of importing: any thread."""
        package = fullname.rpartition(".")[0]
        if not self._is_inside(fullname):
            return None
        if fullname in self.failed:
            raise ImportError(f"{fullname} could not be loaded", name=fullname)
        folder = self._folders.get(package)
        spec = PathFinder.find_spec(fullname, [str(folder)] if folder else path)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _FreshLoader(fullname, spec.loader.path, self.sources)
        return spec

    def code_of(self, name: str) -> frozenset[str]:
        """The hashes of a module's file and of those that it imports of these packages: equal while its code is."""
        found: set[str] = set()
        waiting = [name]
        while waiting:
            this = waiting.pop()
            if this in self.sources and this not in found:
                found.add(this)
                waiting += self.sources[this].imports
        return frozenset(self.sources[this].hash for this in found)

    def _is_ours(self, name: str, module: ModuleType) -> bool:
        """Compiled modules stay: most can be loaded but once in a process."""
        loader = getattr(getattr(module, "__spec__", None), "loader", None)
        return self._is_inside(name) and not isinstance(loader, ExtensionFileLoader)

    def _is_inside(self, name: str) -> bool:
        return any(name.startswith(f"{package}.") for package in self._folders)


class _FreshLoader(SourceFileLoader):
    """Compiles what is in the file, and keeps its hash and what it imports."""

    def __init__(self, fullname: str, path: str, sources: dict[str, Source]) -> None:
        super().__init__(fullname, path)
        self._sources = sources

    def get_code(self, fullname: str) -> CodeType:
        content = self.get_data(self.path)
        self._sources[fullname] = Source(hash_of(content), frozenset())
        tree = ast.parse(content, self.path)
        package = fullname if self.is_package(fullname) else fullname.rpartition(".")[0]
        self._sources[fullname] = Source(hash_of(content), frozenset(_imports(tree, package)))
        code: CodeType = compile(tree, self.path, "exec", dont_inherit=True)
        return code


class Attempt(Generic[T]):
    """A call in a thread of its own. Raises nothing by itself; `outcome` is done unless it was left behind."""

    def __init__(self, function: Callable[[], T], name: str) -> None:
        self.outcome: Future[T] = Future()
        self._callbacks = Callbacks()
        self._thread = threading.Thread(target=self._run, args=(function,), name=name, daemon=True)

    def run(self, limit_s: float) -> bool:
        """Wait for its end; after `limit_s` it is interrupted. False where it goes on even so, and is left behind."""
        self._thread.start()
        ended = bool(wait([self.outcome], limit_s).done)
        for _ in range(round(GRACE_S / ASK_AGAIN_S)):
            if ended:
                break
            step = self._callbacks.steps
            if self._callbacks.current is not None and self._thread.ident is not None:
                self._callbacks.interrupt(self._thread.ident, step)
            ended = bool(wait([self.outcome], ASK_AGAIN_S).done)
        return ended

    def is_running(self) -> bool:
        """Whether its thread still runs."""
        return self._thread.is_alive()

    def _run(self, function: Callable[[], T]) -> None:
        try:
            self.outcome.set_result(self._callbacks.run(lambda _: function(), None))
        except BaseException as error:  # noqa: BLE001 - a guarded door: foreign code may raise anything, also SystemExit
            self.outcome.set_exception(error)


def hash_of(content: bytes) -> str:
    """SHA-256."""
    return hashlib.sha256(content).hexdigest()


def _forget(name: str) -> None:
    """Also in its package, where `from package import module` would find it."""
    module = sys.modules.pop(name, None)
    package, _, stem = name.rpartition(".")
    names = vars(sys.modules[package]) if package in sys.modules else {}
    if module is not None and names.get(stem) is module:
        del names[stem]


def _finished(module: ModuleType) -> ModuleType:
    if getattr(module.__spec__, "_initializing", False):
        raise ImportError(f"{module.__name__} is being imported by another file, and does not return")
    return module


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # `from .x import y` takes a name of the module x, or the module y of the package x.
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
