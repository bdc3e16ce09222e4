"""A strategy's variables as JSON: what is saved comes back as what it was, where JSON alone would lose that.

Numbers that are none and sets are kept as objects with one tag; numpy's numbers and arrays as plain ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_NUMBER = "$number"
_SET = "$set"
_NO_NUMBERS = ("NaN", "Infinity", "-Infinity")


def as_kept(variables: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A copy of `variables` to its depth, made of what JSON can hold; and the names of those that it cannot hold."""
    try:
        return _kept(dict(variables)), []
    except (TypeError, ValueError, RecursionError):
        return _kept_singly(variables)


def as_restored(kept: Mapping[str, Any]) -> dict[str, Any]:
    """The variables again, a copy to its depth."""
    restored: dict[str, Any] = json.loads(json.dumps(kept), object_hook=_untagged)
    return restored


def _kept_singly(variables: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    kept, left_out = {}, []
    for name, value in variables.items():
        try:
            kept[name] = _kept(value)
        except (TypeError, ValueError, RecursionError):
            left_out.append(name)
    return kept, left_out


def _kept(value: Any) -> Any:
    text = json.dumps(value, ensure_ascii=False, default=_tagged)
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()  # half a surrogate pair is no text
    return json.loads(text, parse_constant=lambda name: {_NUMBER: name})


def _tagged(value: Any) -> Any:
    """What stands for a value that JSON does not know. Raises TypeError where nothing does."""
    if isinstance(value, set | frozenset):
        return {_SET: sorted(value, key=repr)}
    if hasattr(value, "tolist"):  # numpy's
        return value.tolist()
    raise TypeError(f"JSON cannot hold a {type(value).__name__}")


def _untagged(value: dict[str, Any]) -> Any:
    if len(value) != 1:
        return value
    if value.get(_NUMBER) in _NO_NUMBERS:
        return float(value[_NUMBER])
    if isinstance(items := value.get(_SET), list):
        return {_hashable(item) for item in items}
    return value


def _hashable(item: Any) -> Any:
    if isinstance(item, list):
        return tuple(map(_hashable, item))
    return frozenset(item) if isinstance(item, set) else item
