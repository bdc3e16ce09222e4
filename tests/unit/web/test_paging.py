import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vnpy_core.domain.errors import ValidationFailed
from vnpy_core.web.paging import decode_cursor, encode_cursor, page


def walk(items, key, kind, limit):
    seen, cursor, pages = [], None, 0
    while True:
        found = page(items, key, kind, cursor, limit)
        assert len(found["items"]) <= limit
        seen += found["items"]
        pages += 1
        cursor = found["next_cursor"]
        if cursor is None:
            return seen, pages


@given(st.sets(st.text(max_size=5)), st.integers(1, 7))
def test_pages_have_every_item_once_and_in_order(items, limit):
    seen, pages = walk(items, lambda item: item, str, limit)
    assert seen == sorted(items)
    assert pages == max(1, -(-len(items) // limit))


def test_keys_may_be_pairs():
    items = [(seq, name) for seq in range(5) for name in "ab"]
    seen, _ = walk(items[::-1], lambda item: item, tuple[int, str], 3)
    assert seen == items


def test_what_is_added_behind_the_cursor_is_not_missed():
    first = page([1, 3, 5], lambda item: item, int, None, 2)
    second = page([1, 2, 3, 4, 5], lambda item: item, int, first["next_cursor"], 2)
    assert (first["items"], second) == ([1, 3], {"items": [4, 5], "next_cursor": None})


@given(st.tuples(st.integers(0, 2**53), st.text()))
def test_a_cursor_comes_back_as_it_was_and_fits_into_a_url(key):
    cursor = encode_cursor(key)
    assert decode_cursor(cursor, tuple[int, str]) == key
    assert set(cursor) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "!!!!",
        "é",
        "ÿ" * 5,
        "=",
        encode_cursor("word"),
        encode_cursor([1]),
        encode_cursor([1, 2]),
        encode_cursor([1, "a", "b"]),
        encode_cursor({"a": 1}),
        encode_cursor([1.5, "a"]),
        base64.urlsafe_b64encode(b"[" * 300).decode(),
        base64.urlsafe_b64encode(b'[1,"\xff"]').decode(),
        encode_cursor([1, "a"])[:-2],
    ],
)
def test_a_cursor_that_is_not_ours_is_refused(cursor):
    with pytest.raises(ValidationFailed) as refused:
        decode_cursor(cursor, tuple[int, str])
    assert refused.value.errors[0].field == "cursor"


@given(st.text(max_size=40))
def test_no_text_breaks_the_decoder(text):
    with contextlib.suppress(ValidationFailed):
        decode_cursor(text, tuple[str, str])
