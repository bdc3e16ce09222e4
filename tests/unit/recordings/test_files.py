import gzip
import io
import zipfile

import pytest

from vnpy_core.domain.errors import ValidationFailed
from vnpy_core.recordings import files
from vnpy_core.recordings.files import open_tables


def zipped(members: dict[str, str] | None = None, **more: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in ((members or {}) | more).items():
            archive.writestr(name.replace("__", "."), text)
    return data.getvalue()


def read(path, name=""):
    """All cells by rows with their lines, the notes, and what was wrong with the file in the end."""
    rows, notes, wrong = [], [], ""
    for table in open_tables(path, name):
        try:
            for block in table.blocks(lambda line, reason: notes.append((line, reason))):
                cells = zip(*block.columns, strict=True)
                rows += [(block.line(n), list(row)) for n, row in enumerate(cells)]
        except ValidationFailed as error:
            wrong = error.detail
    return rows, notes, wrong


LINES = "a,b,c\n1,2,3\n4,5,6\n"


@pytest.mark.parametrize(
    "text",
    [LINES, LINES.replace("\n", "\r\n"), LINES.replace("\n", "\r"), LINES.rstrip(), "\ufeff" + LINES,
     '"a","b","c"\n"1","2","3"\n"4","5","6"\n', 'a,b,c\n1,"2",3\n"4",5,6'],
    ids=["plain", "crlf", "cr", "no end", "bom", "quoted", "some quoted"],
)  # fmt: skip
def test_all_ways_to_write_a_table_read_alike(write, text):
    assert read(write(text)) == ([(2, ["1", "2", "3"]), (3, ["4", "5", "6"])], [], "")


@pytest.mark.parametrize("pieces", [7, 100])
@pytest.mark.parametrize("quote", ["", '"'])
def test_lines_and_cells_are_whole_wherever_the_file_is_cut_into_pieces(write, monkeypatch, pieces, quote):
    monkeypatch.setattr(files, "_PIECE", pieces)
    monkeypatch.setattr(files, "_READ", pieces)
    expected = [[str(n), f"v{n * n}", ""] for n in range(500)]
    text = "\n".join(",".join(f"{quote}{cell}{quote}" for cell in row) for row in [["a", "b", "c"], *expected])
    rows, notes, wrong = read(write(text))
    assert [row for _, row in rows] == expected
    assert [line for line, _ in rows] == list(range(2, 502))
    assert (notes, wrong) == ([], "")


@pytest.mark.parametrize("pieces", [16, 1 << 17])
def test_quoted_cells_may_hold_commas_quotes_and_line_ends(write, monkeypatch, pieces):
    monkeypatch.setattr(files, "_PIECE", pieces)
    monkeypatch.setattr(files, "_READ", pieces)
    rows, notes, _ = read(write('a,b\n1,"x,y"\n2,"he said ""no"""\n3,"two\nlines"\n4,5\n'))
    assert rows == [(2, ["1", "x,y"]), (3, ["2", 'he said "no"']), (5, ["3", "two\nlines"]), (6, ["4", "5"])]
    assert not notes


@pytest.mark.parametrize("pieces", [16, 1 << 17])
@pytest.mark.parametrize("quote", ["", '"'])
def test_rows_of_a_wrong_width_are_noted_with_their_line_and_the_rest_is_read(write, monkeypatch, pieces, quote):
    monkeypatch.setattr(files, "_PIECE", pieces)
    monkeypatch.setattr(files, "_READ", pieces)
    lines = ["a,b,c", "1,2,3", "4,5", "6,7,8,9", "", "1,2,3", "a,b,c", "1,2,3"]
    text = "\n".join(",".join(f"{quote}{c}{quote}" for c in line.split(",")) if line else "" for line in lines)
    rows, notes, _ = read(write(text))
    assert rows == [(line, ["1", "2", "3"]) for line in (2, 6, 8)]
    assert notes == [(3, "2 columns instead of 3"), (4, "4 columns instead of 3")]


def test_a_quote_that_never_ends_costs_what_it_swallows_and_no_more(write):
    text = 'a,b\n1,2\n3,"4\n' + "5,6\n" * 40_000 + "7,8\n"
    rows, notes, wrong = read(write(text))
    assert rows[0] == (2, ["1", "2"])
    assert rows[-1] == (40_004, ["7", "8"])
    assert len(notes) == 1
    assert "field limit" in notes[0][1]
    assert f"a quote that begins in line 3 takes in all up to line {notes[0][0]}" in notes[0][1]
    assert len(rows) > 5_000
    assert not wrong


def test_a_quote_that_swallows_the_rest_of_a_short_file_is_told_where_it_begins(write):
    rows, notes, _ = read(write('a,b,c\n1,2,3\n4,"5,6\n' + "7,8,9\n" * 20))
    assert rows == [(2, ["1", "2", "3"])]
    [(_, reason)] = notes
    assert reason.startswith("2 columns instead of 3: a quote that begins in line 3 takes in all up to line 2")


def test_chinese_text_is_read_as_utf_8_or_as_gbk(write):
    text = "symbol,name\n" + "rb2501,rb\n" * 50_000 + "ru1901,橡胶\n" * 3
    for encoding in ("utf-8", "gbk", "gb18030"):
        rows, notes, wrong = read(write(text.encode(encoding)))
        assert rows[-1] == (50_004, ["ru1901", "橡胶"])
        assert (notes, wrong) == ([], "")


def test_chinese_headers_are_read_in_gbk(write):
    table = open_tables(write("合约,最新价\nru1901,1\n".encode("gbk")))[0]
    assert table.header() == ["合约", "最新价"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_is_refused_with_advice(write, encoding):
    bom = b"\xfe\xff" if encoding == "utf-16-be" else b""
    with pytest.raises(ValidationFailed, match=r"ticks.csv cannot be read.*UTF-16; save it as UTF-8"):
        open_tables(write(bom + LINES.encode(encoding)))[0].header()


def test_a_file_without_line_ends_is_refused_before_it_fills_the_memory(write):
    path = write(gzip.compress(b"\0" * 100_000_000, 1), "zeros.gz")
    with pytest.raises(ValidationFailed, match="a line of more than 1,048,576 bytes"):
        open_tables(path)[0].header()


def test_files_are_known_by_their_first_bytes(write):
    for name in ("a.csv", "a.gz", "a.zip", "a"):
        for content in (LINES.encode(), gzip.compress(LINES.encode()), zipped(x__csv=LINES)):
            assert len(read(write(content, name))[0]) == 2


def test_members_are_only_read_never_unpacked(write, tmp_path):
    path = write(zipped({"../../evil.csv": LINES, "b.csv": LINES, "readme.txt": "no"}), "x.zip")
    assert [table.name for table in open_tables(path, "x.zip")] == ["x.zip/../../evil.csv", "x.zip/b.csv"]
    assert len(read(path)[0]) == 4
    assert [each.name for each in tmp_path.iterdir()] == ["x.zip"]


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.999])
def test_of_a_truncated_gz_all_whole_lines_are_read_before_it_is_refused(write, kept):
    text = "a,b\n" + "".join(f"{n},{n * n}\n" for n in range(50_000))
    data = gzip.compress(text.encode())
    rows, notes, wrong = read(write(data[: int(len(data) * kept)], "t.gz"), "t.gz")
    assert 0 < len(rows) < 50_000
    assert [row for _, row in rows] == [[str(n), str(n * n)] for n in range(len(rows))]
    assert notes == []
    assert wrong.startswith(f"t.gz cannot be read after line {len(rows) + 1}: Compressed file ended before")


def test_of_a_damaged_member_what_is_before_the_damage_is_read(write):
    text = "a,b\n" + "".join(f"{n},{n * n % 977}\n" for n in range(200_000))
    data = bytearray(zipped(t__csv=text))
    data[len(data) // 2] ^= 0xFF
    rows, _, wrong = read(write(bytes(data), "t.zip"), "t.zip")
    assert rows
    assert wrong.startswith("t.zip/t.csv cannot be read after line")


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.99])
def test_a_truncated_zip_is_refused_at_once(write, kept):
    data = zipped(t__csv="a,b\n" + "".join(f"{n},{n * n}\n" for n in range(50_000)))
    with pytest.raises(ValidationFailed, match=r"t\.zip cannot be read"):
        open_tables(write(data[: int(len(data) * kept)], "t.zip"), "t.zip")


def test_an_encrypted_member_is_refused(write):
    data = bytearray(zipped(t__csv=LINES))
    data[6] |= 1
    central = data.index(b"PK\x01\x02")
    data[central + 8] |= 1
    with pytest.raises(ValidationFailed, match=r"t\.csv cannot be read.*encrypted"):
        open_tables(write(bytes(data), "t.zip"))[0].header()


@pytest.mark.parametrize("kind", ["plain", "gz", "zip"])
def test_how_much_is_read_goes_up_to_the_whole(write, kind):
    text = "a,b\n" + "".join(f"{n},{n * 7919 % 10007}\n" for n in range(100_000))
    data = {"plain": text.encode(), "gz": gzip.compress(text.encode()), "zip": zipped(t__csv=text)}[kind]
    table = open_tables(write(data))[0]
    seen = [table.position for _ in table.blocks(lambda *_: None)]
    assert seen == sorted(seen)
    assert 0 < seen[0] < table.size
    assert seen[-1] == table.size
