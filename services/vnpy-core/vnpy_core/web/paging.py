"""Lists in pages. A cursor is the key of the last item shown, opaque to clients."""

from __future__ import annotations

import base64
import binascii
import heapq
from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import Query

from vnpy_core.domain.errors import FieldError, ValidationFailed

T = TypeVar("T")
K = TypeVar("K")
SortKey = TypeVar("SortKey", str, int, tuple[str, str], tuple[int, str])

DEFAULT_LIMIT = 100
Limit = Annotated[int, Query(ge=1, le=1000, description="Items on a page", examples=[100])]
Cursor = Annotated[str | None, Query(max_length=512, description="`next_cursor` of the page before")]


def encode_cursor(key: object) -> str:
    """`key` as a word that fits into a URL."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def decode_cursor(cursor: str, kind: type[K]) -> K:
    """The key that `encode_cursor` was given. Raises ValidationFailed for anything else."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        return msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=kind)
    except (binascii.Error, msgspec.DecodeError, ValueError) as error:
        raise ValidationFailed(
            "cursor is not one of this list", errors=[FieldError("cursor", "use next_cursor of the page before")]
        ) from error


def page(
    items: Iterable[T], key: Callable[[T], SortKey], kind: type[SortKey], cursor: str | None, limit: int
) -> dict[str, Any]:
    """`{"items": […], "next_cursor": …}`: the `limit` lowest items after the cursor, whatever order they come in.

    `key` must be unique; `kind` is its type. Raises ValidationFailed for a cursor that is not one of this list.
    """
    if cursor is not None:
        after = decode_cursor(cursor, kind)
        items = (item for item in items if key(item) > after)
    found = heapq.nsmallest(limit + 1, items, key=key)
    more = len(found) > limit
    return {"items": found[:limit], "next_cursor": encode_cursor(key(found[limit - 1])) if more else None}
