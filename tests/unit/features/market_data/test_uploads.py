"""The form on its way to the disk, however it is cut into parts."""

import asyncio
import random

import pytest

from vnpy_core.domain.errors import PayloadTooLarge, StorageFull, ValidationFailed
from vnpy_core.features.market_data import uploads
from vnpy_core.features.market_data.uploads import MB, Room, take

FORM = "multipart/form-data; boundary=bb"


def body(content, name="a.csv", **fields):
    parts = [
        b'--bb\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (k.encode(), v) for k, v in fields.items()
    ]
    head = b'--bb\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\nContent-Type: text/csv\r\n\r\n'
    return b"".join([*parts, head % name.encode(), content, b"\r\n--bb--\r\n"])


async def stream(text, size):
    for start in range(0, len(text), size):
        yield text[start : start + size]


@pytest.fixture
def room(tmp_path):
    return Room(tmp_path, 10 * MB, 0)


@pytest.mark.parametrize("size", [1, 2, 3, 17, 64, 4_096])
async def test_every_cut_gives_the_same_file_and_fields(room, size):
    chance = random.Random(size)
    content = bytes(chance.choices(b"\r\n-b\x00a", k=1_500)) + b"\r\n--b" + b"\r\n--"
    text = body(content, kind=b"tick", mapping='{"a": "价"}'.encode())
    upload = await take(room, "x", stream(text, size), FORM, None)
    assert upload.path.read_bytes() == content
    assert upload.fields == {"kind": "tick", "mapping": '{"a": "价"}'}
    assert (upload.size, upload.name) == (len(content), "a.csv")


async def test_a_large_file_is_written_as_it_comes(room, monkeypatch):
    monkeypatch.setattr(uploads, "WRITE_SIZE", 10_000)
    content = random.Random(1).randbytes(3 * MB)

    async def watched():
        async for part in stream(body(content), 4_096):
            yield part
            sizes.append(sum(path.stat().st_size for path in room.folder.iterdir()))

    sizes = []
    upload = await take(room, "x", watched(), FORM, None)
    assert upload.path.read_bytes() == content
    assert len(set(sizes)) > 100


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("rb.csv", ".csv"),
        ("a.b.CSV.gz", ".csv.gz"),
        ("../../etc/passwd", ""),
        ("行情.parquet", ".parquet"),
        ("x.", ""),
        ("a/b.c/d", ""),
    ],
)
async def test_a_clients_name_gives_the_ending_only(room, name, ending):
    upload = await take(room, "x", stream(body(b"1", name), 100), FORM, None)
    assert upload.path == room.folder / f"x{ending}"
    assert upload.name == name


@pytest.mark.parametrize(
    "text",
    [
        body(b"1")[:-8],
        body(b""),
        b"",
        b"--bb--\r\n",
        b"nonsense" * 100,
        body(b"1", kind=b"\xff\xfe"),
        body(b"1", kind=b"x" * 70_000),
        body(b"1", **{f"f{n}": b"x" for n in range(60)}),
        b'--bb\r\nContent-Disposition: form-data; name="kind"\r\n\r\ntick\r\n' + body(b"1", kind=b"bar"),
        body(b"1").replace(b'name="file"', b'name="other"'),
        body(b"1")[:-8] + b"\r\n" + body(b"2"),
        b"--bb\r\n" + b"X: " + b"y" * 1_000_000 + b"\r\n\r\n1\r\n--bb--\r\n",
    ],
)
async def test_a_broken_form_leaves_no_file(room, text):
    with pytest.raises(ValidationFailed):
        await take(room, "x", stream(text, 50), FORM, None)
    assert list(room.folder.iterdir()) == []


@pytest.mark.parametrize("announced", [None, 20 * MB])
async def test_too_much_is_refused_as_soon_as_it_is_known(room, announced):
    read = 0

    async def counted():
        nonlocal read
        async for part in stream(body(b"x" * (20 * MB)), 65_536):
            read += len(part)
            yield part

    with pytest.raises(PayloadTooLarge):
        await take(room, "x", counted(), FORM, announced)
    assert read <= (0 if announced else 10 * MB + 65_536)
    assert list(room.folder.iterdir()) == []


@pytest.mark.parametrize("announced", [None, MB])
async def test_a_part_of_the_disk_is_kept_free(tmp_path, announced):
    room = Room(tmp_path, 10 * MB, 1 << 60)
    with pytest.raises(StorageFull, match="kept free"):
        await take(room, "x", stream(body(b"x" * MB), 65_536), FORM, announced)
    assert list(room.folder.iterdir()) == []


async def test_an_upload_that_stalls_is_given_up(room, monkeypatch):
    monkeypatch.setattr(uploads, "STALL_S", 0.05)

    async def stalling():
        yield body(b"x" * (2 * MB))[: MB + MB // 2]
        await asyncio.Event().wait()

    with pytest.raises(ValidationFailed, match="stalled"):
        await take(room, "x", stalling(), FORM, None)
    assert list(room.folder.iterdir()) == []
