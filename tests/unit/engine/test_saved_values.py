"""What a strategy saves comes back as what it was."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vnpy_core.engine.apps.saved_values import as_kept, as_restored

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc$", min_size=2), inner, max_size=4),
    max_leaves=12,
)


def again(variables: dict[str, Any]) -> dict[str, Any]:
    """Through the journal, as a restart reads them."""
    kept, left_out = as_kept(variables)
    assert left_out == []
    return as_restored(msgspec.json.decode(msgspec.json.encode(kept)))


@given(st.dictionaries(st.text("abc", min_size=1), VALUES, max_size=5))
def test_what_json_can_hold_comes_back_equal_numbers_that_are_none_included(variables):
    assert repr(again(variables)) == repr(variables)


def test_sets_come_back_as_sets():
    variables = {"seen": {3, 1, 2}, "pairs": {("a", 1), ("b", 2)}, "none": set(), "nested": {frozenset({1})}}
    assert again(variables) == variables


def test_numpys_values_come_back_as_pythons():
    kept = again({"count": np.int64(7), "price": np.float64(1.5), "is_up": np.bool_(True), "ma": np.array([1.0, 2.0])})
    assert kept == {"count": 7, "price": 1.5, "is_up": True, "ma": [1.0, 2.0]}
    assert [type(value) for value in kept.values()] == [int, float, bool, list]
    assert math.isnan(again({"x": np.float64("nan")})["x"])


def test_what_is_kept_is_a_copy_to_its_depth():
    bars: list[Any] = [{"close": 1}]
    kept, _ = as_kept({"bars": bars})
    restored = as_restored(kept)
    bars[0]["close"] = 2
    restored["bars"].append("more")
    assert kept == {"bars": [{"close": 1}]}


@pytest.mark.parametrize("odd", [object(), {(1, 2): 3}, {1, "a", object()}, open])
def test_what_json_cannot_hold_is_left_out_by_name_and_the_others_are_kept(odd):
    assert as_kept({"odd": odd, "pos": 2}) == ({"pos": 2}, ["odd"])


def test_what_holds_itself_is_left_out():
    ring: list[Any] = []
    ring.append(ring)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert as_kept({"ring": ring, "deep": deep, "pos": 2}) == ({"pos": 2}, ["ring", "deep"])


def test_text_that_is_none_does_not_break_the_journal():
    kept, _ = as_kept({"text": "a\ud800b", "name": "双均线"})
    assert as_restored(msgspec.json.decode(msgspec.json.encode(kept))) == {"text": "a?b", "name": "双均线"}
