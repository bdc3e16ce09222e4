"""Answers encoded by msgspec, documented by models made from the same types."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import types
from typing import Any, Union, get_args, get_origin

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
    """A pydantic model with the fields of `struct`, for OpenAPI only.

    Descriptions are the docstrings of the struct and of its fields (texts below them).
    """
    docs = _field_docs(struct)
    optional = struct.__struct_config__.omit_defaults
    fields: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        # Every field is always sent, so none is optional in the document, unless the struct omits defaults.
        default = ... if field.required or not optional else None
        fields[field.encode_name] = (_documented(field.type), Field(default, description=docs.get(field.name)))
    doc = inspect.cleandoc(struct.__doc__ or "")
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
    """`kind` with the structs inside replaced by their models."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return wire_model(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return Union[tuple(_documented(argument) for argument in arguments)]  # noqa: UP007 - of a computed tuple
    if origin is None or not arguments:
        return kind
    return origin[tuple(_documented(argument) for argument in arguments)]


def _field_docs(struct: type[msgspec.Struct]) -> dict[str, str]:
    """The texts below the fields of `struct` and its bases."""
    docs: dict[str, str] = {}
    for base in reversed(struct.__mro__):
        if base.__module__.startswith("msgspec") or base is object:
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        except (OSError, TypeError):  # made without a source file
            continue
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                docs[field.target.id] = inspect.cleandoc(str(ast.literal_eval(text.value)))
    return docs
