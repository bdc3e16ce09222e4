"""What may be a strategy's parameter, and what every other value is told."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vnpy_core.domain.errors import ValidationFailed
from vnpy_core.domain.setting_check import LARGEST, check_setting, fits, is_plain
from vnpy_core.domain.strategies import Parameter, StrategyClass

DEFAULTS = {
    "int": 10, "float": 0.5, "number": 1, "bool": False, "str": "a", "list": [1], "dict": {"a": 1}, "any": None,
    "object": "LONG",
}  # fmt: skip


def make(**defaults) -> StrategyClass:
    """A class with a parameter of each of these types, named as it."""
    return StrategyClass(
        class_name="Grid", author="", doc="", variables=[], module="strategies.grid", file="grid.py", hash="",
        shipped=False, parameters=[Parameter(name=n, type=n, default=d) for n, d in (defaults or DEFAULTS).items()],
    )  # fmt: skip


def wrong(setting, *, partial=True) -> dict[str, str]:
    with pytest.raises(ValidationFailed) as refused:
        check_setting(make(), setting, partial=partial)
    return {error.field: error.message for error in refused.value.errors}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("int", 3), ("int", -LARGEST), ("float", 1.5), ("float", 2), ("number", 2), ("number", 2.5), ("bool", True),
        ("str", ""), ("str", "均线"), ("list", []), ("list", [1, "a", None, [2.5]]), ("dict", {"a": {"b": []}}),
        ("any", None), ("any", True), ("any", [1]), ("object", "SHORT"),
    ],
)  # fmt: skip
def test_a_value_that_fits_is_taken_as_it_is(name, value):
    assert check_setting(make(), {name: value}, partial=True) == {name: value}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("int", 3.0, "whole number"), ("int", True, "whole number"), ("int", "3", "whole number"),
        ("int", None, "whole number"), ("int", LARGEST + 1, "64 bits"), ("float", "1.5", "a number"),
        ("float", False, "a number"), ("float", float("nan"), "finite"), ("float", float("inf"), "finite"),
        ("float", 10**400, "64 bits"), ("number", -float("inf"), "finite"), ("number", True, "a number"),
        ("bool", 1, "true or false"), ("str", 1, "a text"), ("str", "\ud800", "cannot be kept"),
        ("list", {}, "a list"), ("list", [1, float("nan")], "cannot be kept"), ("dict", [], "an object"),
        ("dict", {"a": {"b": 2**70}}, "cannot be kept"), ("dict", {"\udfff": 1}, "cannot be kept"),
        ("any", float("nan"), "finite"), ("any", {1, 2}, "cannot be kept"), ("object", object(), "cannot be kept"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_refused_with_its_field(name, value, words):
    [(field, message)] = wrong({name: value}).items()
    assert field == f"setting.{name}"
    assert words in message


def test_all_that_is_wrong_is_said_at_once_and_an_unknown_name_is_told_the_known_ones():
    errors = wrong({"int": "x", "bool": 1, "nowhere": 1, "str": "good"})
    assert errors.keys() == {"setting.int", "setting.bool", "setting.nowhere"}
    assert all(name in errors["setting.nowhere"] for name in DEFAULTS)
    [long] = wrong({"x" * 10_000: 1})
    assert len(long) < 100


def test_a_whole_number_is_a_float_where_the_class_says_so():
    checked = check_setting(make(), {"float": 2, "number": 2}, partial=True)
    assert [type(checked[name]) for name in ("float", "number")] == [float, int]


def test_a_whole_setting_has_the_defaults_and_a_part_has_not():
    cls = make(int=10, list=[1], any=None, object="LONG", float=float("nan"))
    assert check_setting(cls, {"int": 3}, partial=True) == {"int": 3}
    # The class keeps what JSON cannot hold: an enum, no number.
    assert check_setting(cls, {"int": 3}, partial=False) == {"int": 3, "list": [1], "any": None}
    assert check_setting(cls, {}, partial=False)["int"] == 10


def test_two_strategies_never_share_a_default():
    cls = make(list=[1], dict={"a": [2]})
    first, second = (check_setting(cls, {}, partial=False) for _ in range(2))
    first["list"].append(9)
    first["dict"]["a"].append(9)
    assert second == {"list": [1], "dict": {"a": [2]}} == {p.name: p.default for p in cls.parameters}


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(value=json_like, name=st.sampled_from(sorted(DEFAULTS)))
def test_whatever_is_taken_can_be_kept_and_sent_and_fits(value, name):
    try:
        checked = check_setting(make(), {name: value}, partial=True)
    except ValidationFailed:
        assert not fits(name, value) or not is_plain(value)
        return
    assert fits(name, checked[name])
    assert msgspec.json.decode(msgspec.json.encode(checked)) == checked
    assert json.loads(json.dumps(checked, allow_nan=False)) == checked
