import pytest
from hypothesis import given
from hypothesis import strategies as st

from vnpy_core.domain.errors import PayloadTooLarge, ValidationFailed
from vnpy_core.features.streaming.schemas import Auth, Ping, Resume, Subscribe, decode, id_of

LIMIT = 65_536


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "{",
        "null",
        "[1]",
        '"x"',
        "NaN",
        "{}",
        '{"op":1}',
        '{"op":"nope"}',
        '{"op":"ping","surprise":1}',
        '{"op":"ping","id":1.5}',
        '{"op":"ping","id":true}',
        f'{{"op":"ping","id":{2**70}}}',
        '{"op":"subscribe"}',
        '{"op":"subscribe","topics":"log"}',
        '{"op":"subscribe","topics":[1]}',
        '{"op":"subscribe","topics":["log"],"conflate":"yes"}',
        '{"op":"subscribe","topics":["log"],"resume":{"epoch":1}}',
        '{"op":"subscribe","topics":["' + "a" * 300 + '"]}',
        '{"op":"auth"}',
        '{"op":"ping","op":"list"}',
        '{"a":' * 10_000,
        "[" * 60_000,
        '"\ud800"',
        b'{"op":"ping"}',
        b"\xff\xfe",
    ],
)
def test_what_is_not_a_request_is_refused(frame: str | bytes) -> None:
    with pytest.raises(ValidationFailed):
        decode(frame, LIMIT)
    id_of(frame, LIMIT)


@given(st.text() | st.binary())
def test_any_text_is_a_request_or_refused(frame: str | bytes) -> None:
    with pytest.raises(ValidationFailed):
        decode(frame, LIMIT)
    id_of(frame, LIMIT)


def test_size_counts_in_bytes() -> None:
    frame = '{"op":"auth","token":"' + "多" * 30_000 + '"}'
    with pytest.raises(PayloadTooLarge):
        decode(frame, LIMIT)
    assert decode(frame, 2 * LIMIT) == Auth(token="多" * 30_000)


def test_requests_are_typed() -> None:
    assert decode('{"op":"ping","id":"x"}', LIMIT) == Ping(id="x")
    frame = '{"op":"subscribe","id":1,"topics":["tick.*"],"conflate":false,"resume":{"epoch":"e1","seq":5}}'
    assert decode(frame, LIMIT) == Subscribe(id=1, topics=["tick.*"], conflate=False, resume=Resume(epoch="e1", seq=5))


def test_the_id_of_a_wrong_request_is_found_where_it_has_one() -> None:
    assert id_of('{"op":"nope","id":7}', LIMIT) == 7
    assert id_of('{"id":[]}', LIMIT) is None
