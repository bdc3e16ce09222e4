import struct

import pytest

from testkit.paper import order
from vnpy_core.gateways.paper import wire


def test_frames_are_found_however_they_are_cut():
    sent = [wire.Cancel(orderid=f"1-{n}") for n in range(20)]
    stream = b"".join(wire.frame(message) for message in sent)
    for size in (1, 2, 3, 5, 7, 50, len(stream)):
        splitter = wire.Splitter(wire.REQUEST_LIMIT)
        bodies = [body for at in range(0, len(stream), size) for body in splitter.feed(stream[at : at + size])]
        assert [wire.request(body) for body in bodies] == sent


def test_a_frame_above_the_limit_is_refused_by_its_header_alone():
    splitter = wire.Splitter(100)
    assert splitter.feed(struct.pack(">I", 100)) == []
    with pytest.raises(wire.BadFrame, match="101"):
        wire.Splitter(100).feed(struct.pack(">I", 101))


@pytest.mark.parametrize("body", [b"", b"\x00", b"\xc1", b"\x81\xa1m\xa4Nope", b"\x91" * 4000, b"\x81\xa1m\xa5Login!"])
def test_what_is_no_message_is_a_bad_frame(body):
    with pytest.raises(wire.BadFrame):
        wire.request(body)
    with pytest.raises(wire.BadFrame):
        wire.answer(body)


def test_answers_are_no_requests():
    with pytest.raises(wire.BadFrame):
        wire.request(wire.frame(wire.Notice(text="hello"))[wire.HEADER.size :])
    with pytest.raises(wire.BadFrame):
        wire.answer(wire.frame(wire.Login())[wire.HEADER.size :])


def test_a_text_that_is_no_text_is_a_bad_frame():
    with pytest.raises(wire.BadFrame):
        wire.frame(wire.Cancel(orderid="\ud83d"))


def test_numbers_of_an_order_arrive_as_they_were_sent():
    for volume in (float("inf"), -0.0, 1e-300, 0.1 + 0.2):
        message = wire.Place(orderid="1-1", order=order("LONG", volume, 3501))
        assert wire.request(wire.frame(message)[wire.HEADER.size :]) == message
