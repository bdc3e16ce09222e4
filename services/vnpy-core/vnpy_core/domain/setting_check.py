"""Whether values may be a strategy's parameters: VnPy takes any, and shows a wrong one as an error days later."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from vnpy_core.domain.errors import FieldError, ValidationFailed
from vnpy_core.domain.strategies import Parameter, StrategyClass

LARGEST = 2**63 - 1
"""The largest whole number that every place where settings are kept can hold."""
NAME_SHOWN = 64
"""So many characters of a wrong name are repeated."""

_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "number": (int, float),
    "bool": (bool,),
    "str": (str,),
    "list": (list,),
    "dict": (dict,),
}
_CALLED = {
    "int": "a whole number",
    "float": "a number",
    "number": "a number",
    "bool": "true or false",
    "str": "a text",
    "list": "a list",
    "dict": "an object",
}


def check_setting(cls: StrategyClass, setting: Mapping[str, Any], *, partial: bool) -> dict[str, Any]:
    """`setting` as the strategy gets it: whole numbers as floats where it declares those, and, unless `partial`, the
    defaults of what is missing. A default that JSON cannot hold is left to the class.

    Raises ValidationFailed with a field error for each name that is unknown and each value that does not fit.
    """
    parameters = {parameter.name: parameter for parameter in cls.parameters}
    errors: list[FieldError] = []
    checked: dict[str, Any] = {}
    for name, value in setting.items():
        if name not in parameters:
            known = ", ".join(parameters) or "none"
            wrong: str | None = f"{cls.class_name} has no such parameter; its parameters: {known}"
        else:
            wrong = _what_is_wrong(parameters[name].type, value)
        if wrong:
            errors.append(FieldError(f"setting.{name[:NAME_SHOWN]}", wrong))
        else:
            checked[name] = float(value) if parameters[name].type == "float" else value
    if errors:
        raise ValidationFailed(f"the setting does not fit {cls.class_name}", errors=errors)
    return checked if partial else _defaults(cls.parameters) | checked


def fits(type_: str, value: Any) -> bool:
    """Whether `value` may be that of a parameter of this type; of True and False only `bool` and `any` think so."""
    if type_ not in _TYPES:
        return True
    return isinstance(value, _TYPES[type_]) and (type_ == "bool" or not isinstance(value, bool))


def is_plain(value: Any) -> bool:
    """Whether JSON can hold `value` and give back an equal one, everywhere where settings are kept."""
    match value:
        case None | bool():
            return True
        case int():
            return abs(value) <= LARGEST
        case float():
            return math.isfinite(value)
        case str():
            return value.isascii() or _is_unicode(value)
        case list():
            return all(is_plain(item) for item in value)
        case dict():
            return all(isinstance(key, str) and is_plain(key) and is_plain(item) for key, item in value.items())
        case _:
            return False


def _what_is_wrong(type_: str, value: Any) -> str | None:
    if not fits(type_, value):
        return f"must be {_CALLED[type_]}"
    if not is_plain(value):
        return "must be finite, and whole numbers within 64 bits" if _is_number(value) else "holds what cannot be kept"
    return None


def _defaults(parameters: list[Parameter]) -> dict[str, Any]:
    """Copies, because a strategy may change the list that it was given."""
    return {p.name: deepcopy(p.default) for p in parameters if p.type != "object" and is_plain(p.default)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _is_unicode(text: str) -> bool:
    """Half of a surrogate pair cannot be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
