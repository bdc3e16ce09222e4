"""Where a key stands in a TOML file."""

from vnpy_core.kit.toml_lines import key_lines

TEXT = '''# a comment
top = 1

[server]
port = 8006  # not "[x]"
hosts = [
    "a",
    "[b]",
]
text = """
[not.a.table]
key = 1
"""
after = 2

[gateways."paper-1".setting]
"交易 服务器" = "x"
inline = { a = 1, b.c = 2 }
dotted.key = 3
'''


def test_tables_and_keys_have_their_first_line():
    lines = key_lines(TEXT)
    assert lines[("top",)] == 2
    assert lines[("server",)] == 4
    assert lines[("server", "port")] == 5
    assert lines[("server", "hosts")] == 6
    assert lines[("server", "text")] == 10
    assert lines[("server", "after")] == 14
    assert lines[("gateways", "paper-1", "setting", "交易 服务器")] == 17
    assert lines[("gateways", "paper-1", "setting", "inline", "b", "c")] == 18
    assert lines[("gateways", "paper-1", "setting", "dotted", "key")] == 19


def test_tables_around_a_table_have_its_line():
    assert key_lines(TEXT)[("gateways", "paper-1")] == 16


def test_what_stands_inside_texts_and_arrays_is_no_key():
    lines = key_lines(TEXT)
    assert ("not", "a", "table") not in lines
    assert ("server", "key") not in lines


def test_an_empty_text_has_no_keys():
    assert key_lines("") == {}
