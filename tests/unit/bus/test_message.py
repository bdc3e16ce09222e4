from datetime import UTC, datetime

import msgspec
import pytest

from vnpy_core.bus import message as module
from vnpy_core.bus.message import Message
from vnpy_core.bus.topics import DataClass
from vnpy_core.domain.enums import LogLevel
from vnpy_core.domain.events import Log, StrategyUpdate, Tick

NOON = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)
LINE = Log(level=LogLevel.INFO, source="引擎", msg='启动 "x"\n', datetime=NOON)


def test_a_message_is_encoded_with_all_its_members():
    message = Message("log", "k", "e1", 7, NOON, LINE)
    assert msgspec.json.decode(message.json) == {
        "topic": "log",
        "epoch": "e1",
        "seq": 7,
        "ts": "2026-11-21T12:00:00.123456Z",
        "data": {
            "level": "INFO",
            "source": "引擎",
            "msg": '启动 "x"\n',
            "datetime": "2026-11-21T12:00:00.123456Z",
            "strategy_name": None,
        },
    }


def test_the_text_is_the_same_json():
    message = Message("log", "k", "e1", 7, NOON, LINE)
    assert message.text.encode() == message.json


def test_it_is_encoded_once_whatever_the_number_of_readers(monkeypatch):
    class Counting:
        calls = 0

        def encode(self, value):
            self.calls += value is LINE
            return msgspec.json.encode(value)

    counting = Counting()
    monkeypatch.setattr(module, "_encoder", counting)
    message = Message("log", "k", "e1", 7, NOON, LINE)
    assert len({id(message.json) for _ in range(5)} | {id(message.json)}) == 1
    assert message.text is message.text
    assert message.at(5).payload is message.payload
    assert message.packed is message.at(6).packed
    assert counting.calls == 1


def test_told_at_another_place_nothing_is_encoded_and_what_is_encoded_later_is_shared():
    message = Message("log", "k", "e1", 7, NOON, LINE)
    moved = message.at(5)
    assert "payload" not in vars(message)
    assert moved.at(7).payload is moved.payload is message.payload
    assert msgspec.json.decode(moved.json) == msgspec.json.decode(message.json) | {"seq": 5}
    assert message.at(7) is message


def test_packed_data_are_the_maps_of_the_json():
    message = Message("log", "k", "e1", 7, NOON, LINE)
    assert msgspec.msgpack.decode(message.packed) == msgspec.json.decode(message.payload)


def test_a_bare_message_says_the_same():
    message = Message("log", "k", "e1", 7, NOON, LINE)
    message.memo["x"] = message.text
    bare = message.bare()
    assert vars(bare).keys() & {"payload", "packed", "json", "text", "head", "memo"} == set()
    assert bare.json == message.json


def test_nothing_is_encoded_before_somebody_reads(monkeypatch):
    monkeypatch.setattr(module, "_encoder", None)
    assert Message("log", "k", "e1", 7, NOON, LINE).data_class is DataClass.LOG


def test_numbers_that_json_lacks_become_null():
    tick = Tick(
        gateway_name="P", vt_symbol="a.B", symbol="a", exchange="B", datetime=NOON, last_price=float("nan"),
        open_price=float("inf"),
    )  # fmt: skip
    data = msgspec.json.decode(Message("tick.a.B", "a.B", "e", 1, NOON, tick).json)["data"]
    assert (data["last_price"], data["open_price"]) == (None, None)


def test_variables_of_a_strategy_travel():
    update = StrategyUpdate(
        strategy_name="s", class_name="C", vt_symbol="a.B", author="", parameters={}, variables={"x": [1, None, "二"]}
    )
    data = msgspec.json.decode(Message("strategy.updated", "s", "e", 1, NOON, update).json)["data"]
    assert data["variables"] == {"x": [1, None, "二"]}


def test_a_topic_that_is_never_published_has_no_class():
    with pytest.raises(KeyError):
        _ = Message("nothing", "k", "e", 1, NOON, LINE).data_class
