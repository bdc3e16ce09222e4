"""Answers encoded by msgspec, documented by models made from the same types."""

from __future__ import annotations

import functools
from typing import Any

import msgspec
from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field, create_model

_encoder = msgspec.json.Encoder()


class FastResponse(Response):
    """JSON of msgspec structs, 10 times faster than through pydantic."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode `content`; times as ISO 8601 in UTC, NaN as null."""
        return _encoder.encode(content)


@functools.cache
def wire_model(struct: type[msgspec.Struct], name: str | None = None) -> type[BaseModel]:
    """A pydantic model with the fields of `struct`, for OpenAPI only."""
    fields: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        kind = _documented(field.type)
        # Every field is always sent, so none is optional in the document.
        fields[field.name] = (kind, Field())
    doc = (struct.__doc__ or "").strip()
    config = ConfigDict(title=name or struct.__name__)
    return create_model(name or struct.__name__, __config__=config, __doc__=doc, **fields)


@functools.cache
def page_model(struct: type[msgspec.Struct]) -> type[BaseModel]:
    """`{"items": […], "next_cursor": …}` of `struct`, for OpenAPI only."""
    item = wire_model(struct)
    return create_model(
        f"{struct.__name__}Page",
        __doc__="One page; `next_cursor` is null on the last one.",
        items=(list[item], Field()),  # type: ignore[valid-type]
        next_cursor=(str | None, Field()),
    )


def _documented(kind: Any) -> Any:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return wire_model(kind)
    origin, arguments = getattr(kind, "__origin__", None), getattr(kind, "__args__", ())
    if origin in (list, tuple) and arguments and isinstance(arguments[0], type):
        return list[_documented(arguments[0])]  # type: ignore[misc]
    return kind
