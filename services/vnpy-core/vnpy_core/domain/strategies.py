"""CTA strategy classes as a caller sees them, and what may be set of them."""

from __future__ import annotations

from typing import Any

import msgspec


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter of a class."""

    name: str
    type: str
    """`int`, `float`, `number`, `bool`, `str`, `list`, `dict`, `any` or `object`: what a value is checked against.

    `object` is what JSON cannot hold, an enum say: `default` is its text, and it cannot be set.

    An annotation decides; without one the default does, and a whole number as default admits broken ones (`number`).
    """
    default: Any


class StrategyClass(msgspec.Struct, frozen=True, kw_only=True):
    """A class that strategies may be made of."""

    class_name: str
    author: str
    doc: str
    parameters: list[Parameter]
    variables: list[str]
    module: str
    file: str
    """Its name within the strategies folder; of VnPy's own ones the bare name."""
    hash: str
    """SHA-256 of the file as it was loaded."""
    shipped: bool
    """It came with VnPy."""
    error: str | None = None
    """Why no strategy can be made of it; or why its edited file could not be loaded, and this is the code of before."""


class LoadError(msgspec.Struct, frozen=True, kw_only=True):
    """A file that could not be loaded."""

    file: str
    error: str
    """The last lines of the traceback, or what else was wrong."""


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What loading all files again did."""

    loaded: list[str]
    """Classes that are there now."""
    changed: list[str]
    """Those of them whose file is another one than before, or is new."""
    removed: list[str]
    """Classes that are gone with their file."""
    failed: list[LoadError]
    kept: list[str]
    """Strategies that go on with the code they were made of."""
