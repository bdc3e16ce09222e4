"""Cursors: the key of the last item shown, opaque to clients."""

from __future__ import annotations

import base64
import binascii
from typing import TypeVar

import msgspec

from vnpy_core.domain.errors import FieldError, ValidationFailed

K = TypeVar("K")


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
