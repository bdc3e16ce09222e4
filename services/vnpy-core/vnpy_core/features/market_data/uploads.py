"""A file that comes as multipart/form-data, straight onto the disk: of its size, memory never holds more than a part.

Starlette's own form spools files into /tmp, which may be memory and is on another disk than the data.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import shutil
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from vnpy_core.domain.errors import FieldError, PayloadTooLarge, StorageFull, ValidationFailed, describe

MB = 1024 * 1024
WRITE_SIZE = MB
"""Bytes that are gathered for one write."""
STALL_S = 60.0
"""How long nothing may come before an upload is given up, seconds."""
FIELDS, FIELD_SIZE = 50, 64 * 1024
"""How many fields a form may have besides the file, and how long one may be, bytes."""
_ENDINGS = re.compile(r"(\.[A-Za-z0-9]{1,8}){1,2}$")


class Upload(NamedTuple):
    """What came."""

    path: Path
    name: str
    """What the client calls the file."""
    size: int
    fields: dict[str, str]


class Room(NamedTuple):
    """Where files go and how large they may grow."""

    folder: Path
    limit: int
    """Bytes."""
    keep_free: int
    """Bytes of the disk that stay free."""

    def check(self, coming: int = 0) -> None:
        """Raises StorageFull where `coming` more bytes would leave less free than shall stay. Blocks shortly."""
        free = shutil.disk_usage(self.folder).free
        if free - coming < self.keep_free:
            raise StorageFull(f"the disk has {free // MB} MB left, of which {self.keep_free // MB} are kept free")


async def take(
    room: Room, name: str, stream: AsyncGenerator[bytes, None], content_type: str, announced: int | None
) -> Upload:
    """Write the form's one file to `<folder>/<name><its endings>`; where this raises, no file is left.

    `announced` is the body's length as its header has it. Raises ValidationFailed (no such form, broken off),
    PayloadTooLarge, StorageFull.
    """
    if announced is not None:
        if announced > room.limit:
            raise PayloadTooLarge(f"an upload may have {room.limit // MB} MB")
        await asyncio.to_thread(room.check, announced)
    form = _Form(content_type, lambda filename: room.folder / (name + _endings(filename)))
    try:
        async with contextlib.aclosing(_unstalled(stream)) as parts:
            size = 0
            async for part in parts:
                size += len(part)
                if size > room.limit:
                    raise PayloadTooLarge(f"an upload may have {room.limit // MB} MB")
                form.feed(part)
                if form.waiting >= WRITE_SIZE:
                    await asyncio.to_thread(form.write, room)
        await asyncio.to_thread(form.finish, room)
        return form.upload()
    except ClientDisconnect:
        raise ValidationFailed("the upload broke off") from None
    except TimeoutError:
        raise ValidationFailed(f"the upload stalled for {STALL_S:g} s") from None
    except FormParserError as error:
        raise ValidationFailed(f"the body is no multipart/form-data: {error}") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFull("the disk is full") from error
        raise
    finally:
        await asyncio.to_thread(form.close)


class _Form:
    """The parser's callbacks. They only gather; `write` does what may block."""

    def __init__(self, content_type: str, place: Callable[[str], Path]) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise ValidationFailed("send the file as multipart/form-data")
        self._place = place
        self._header = bytearray()
        self._value = bytearray()
        self._disposition = b""
        self._name = ""
        self._text: bytearray | None = None
        self._fields: dict[str, str] = {}
        self._path: Path | None = None
        self._filename = ""
        self._file: BinaryIO | None = None
        self._in_file = False
        self._size = 0
        self._chunks: list[bytes] = []
        self._complete = False
        self._taken = False
        self.waiting = 0
        """Bytes that wait for `write`."""
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._part_begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._part_data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )

    def feed(self, part: bytes) -> None:
        """The next bytes of the body. Raises FormParserError, ValidationFailed."""
        self._parser.write(part)

    def write(self, room: Room) -> None:
        """Bring onto the disk what waits. Blocks. Raises OSError, StorageFull."""
        if self._path is None or not self._chunks:
            return
        room.check(self.waiting)
        if self._file is None:
            self._file = self._path.open("xb")
        chunks, self._chunks, self.waiting = self._chunks, [], 0
        self._file.write(b"".join(chunks))

    def finish(self, room: Room) -> None:
        """The body is at its end. Blocks. Raises OSError, StorageFull, ValidationFailed."""
        if not self._complete:
            raise ValidationFailed("the upload broke off: the form has no end")
        if self._path is None:
            raise ValidationFailed("there is no file", errors=[FieldError("file", "is missing")])
        self.write(room)
        if self._file is None:
            raise ValidationFailed("the file is empty", errors=[FieldError("file", "is empty")])
        self._file.flush()

    def upload(self) -> Upload:
        """What came, which from now on is the caller's to remove."""
        assert self._path is not None
        self._taken = True
        return Upload(self._path, self._filename, self._size, self._fields)

    def close(self) -> None:
        """Let go of the file; one that nobody took is removed. Blocks."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # what of it could not be written goes anyway
                self._file.close()
            if not self._taken and self._path is not None:
                self._path.unlink(missing_ok=True)

    def _part_begin(self) -> None:
        self._disposition, self._text, self._in_file = b"", None, False

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = _decoded(options.get(b"name", b""))
        if not self._name:
            raise ValidationFailed("a part of the form has no name")
        filename = options.get(b"filename")
        if filename is None:
            if len(self._fields) >= FIELDS or self._name in self._fields:
                raise ValidationFailed(f"{self._name}: the form has it twice, or has too many fields")
            self._text = bytearray()
            return
        if self._name != "file" or self._path is not None:
            raise ValidationFailed("send one file, as `file`", errors=[FieldError(self._name, "is not expected")])
        self._in_file = True
        self._filename = _decoded(filename)[:255]
        self._path = self._place(self._filename)

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._chunks.append(data[start:end])
            self.waiting += end - start
            self._size += end - start
            return
        assert self._text is not None
        if len(self._text) + end - start > FIELD_SIZE:
            message = f"is longer than {FIELD_SIZE} bytes"
            raise ValidationFailed(f"{self._name} {message}", errors=[FieldError(self._name, message)])
        self._text += data[start:end]

    def _part_end(self) -> None:
        if self._text is not None:
            self._fields[self._name] = _decoded(bytes(self._text))

    def _end(self) -> None:
        self._complete = True


async def _unstalled(stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """`stream`; raises TimeoutError where it stands still."""
    while True:
        async with asyncio.timeout(STALL_S):
            part = await anext(stream, None)
        if part is None:
            return
        yield part


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise ValidationFailed(f"the form is not UTF-8: {describe(error)}") from None


def _endings(filename: str) -> str:
    """`.csv.gz` of whatever a client names its file."""
    match = _ENDINGS.search(filename)
    return match[0].lower() if match else ""
