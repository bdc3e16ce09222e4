"""The log: without secrets, bounded, and never a reason to fail."""

import io
import json
import logging
import threading
import warnings

import pytest
import structlog

from vnpy_core.kit import logging as kit_logging
from vnpy_core.kit.logging import HIDDEN, configure_logging, hide, is_secret_key, redact, setup_logging


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def stream():
    return io.StringIO()


@pytest.fixture
def log(stream):
    undo = setup_logging("INFO", "json", stream=stream)
    yield structlog.get_logger("vnpy_core.test")
    undo()


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_time_level_and_logger(log, stream):
    log.info("order sent", vt_orderid="PAPER.1", volume=2.0)
    [line] = lines(stream)
    assert line | {"ts": ""} == {
        "ts": "",
        "level": "info",
        "logger": "vnpy_core.test",
        "event": "order sent",
        "vt_orderid": "PAPER.1",
        "volume": 2.0,
    }
    assert line["ts"].endswith("Z")


def test_a_terminal_gets_one_readable_line():
    stream = Terminal()
    undo = configure_logging(format="auto", stream=stream)
    structlog.get_logger("vnpy_core.app").warning("two\nlines \x1b[31m", name="a b", n=1)
    undo()
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert "WARNING" in text
    assert "app: two lines  [31m  name='a b'  n=1" in text


def test_context_of_the_request_is_in_every_line(log, stream):
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        log.info("hello")
    assert lines(stream)[0]["request_id"] == "r1"


def test_lines_below_the_level_are_not_written(log, stream):
    log.debug("quiet")
    logging.getLogger("x").debug("quiet")
    assert stream.getvalue() == ""


SECRET_KEYS = """
password admin_password API_Key apiSecret access-token Authorization passphrase 授权编码 密码 ticket secret_key cookies
JWT auth_code
"""


@pytest.mark.parametrize("key", ["API Key", *SECRET_KEYS.split()])
def test_values_under_secret_keys_are_hidden(key):
    assert is_secret_key(key)


@pytest.mark.parametrize("key", ["event", "token_type", "password_file", "keys", "tick", "secretary", "author", "key"])
def test_values_under_other_keys_are_shown(key):
    assert not is_secret_key(key)


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer CANARY-aaaa.bbbb",
        "authorization=basic CANARYdXNlcjpwdw==",
        "GET /ws?ticket=CANARY&x=1",
        '{"password": "CANARY with spaces", "a": 1}',
        "{'api_key': 'CANARY'}",
        "mysql+asyncmy://root:CANARY@db/vnpy",
        "access_token=CANARY",
        "jwt eyJCANARYCANARY.eyJCANARY.CANARY-x",
    ],
)
def test_secrets_are_recognised_inside_texts(text):
    assert "CANARY" not in redact(text)


def test_ordinary_texts_stay_as_they_are():
    text = "order PAPER.12: price=3500 at 12:30:01, see https://example.org/a:b, basic check"
    assert redact(text) == text


def test_a_secret_that_was_named_is_hidden_everywhere(log, stream, monkeypatch):
    monkeypatch.setattr(kit_logging, "_hidden", set())
    hide("correct-horse")
    try:
        raise ValueError("login correct-horse failed")
    except ValueError:
        log.exception("it was correct-horse", deep=[{"x": "correct-horse"}], password="p", inner={"token": "t"})
    assert "correct-horse" not in stream.getvalue()
    [line] = lines(stream)
    assert (line["password"], line["inner"]["token"]) == (HIDDEN, HIDDEN)


def test_a_secret_across_the_limit_of_a_text_is_not_shown_in_part(log, stream):
    log.info("x" * 1_990 + " password=CANARYCANARYCANARY")
    assert "CANARY" not in stream.getvalue()


def test_fields_are_bounded(log, stream):
    log.info("m" * 100_000, items=list(range(10_000)), deep={"a": {"b": {"c": {"d": {"e": 1}}}}})
    assert len(stream.getvalue()) < 5_000


def test_values_that_json_cannot_hold_do_not_fail(log, stream):
    log.info("odd", big=2**80, nan=float("nan"), lone="\ud800", raw=b"\xff", kind=object, keys={1: {2}}, event_="x")
    [line] = lines(stream)
    assert line["big"] == str(2**80)
    assert line["nan"] is None


def test_fields_cannot_pose_as_ours(log, stream):
    log.info("real", level="forged", logger="forged", ts="forged")
    assert lines(stream)[0]["level"] == "info"


def test_exceptions_are_written_with_their_trace(log, stream):
    try:
        raise KeyError("ru1901")
    except KeyError as error:
        log.error("failed", exc_info=error)
    assert "KeyError: 'ru1901'" in lines(stream)[0]["exception"]


def test_stdlib_logging_and_warnings_are_routed(stream):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        undo = setup_logging(format="json", stream=stream)
        logging.getLogger("some.library").error("started on %s", 8006)
        warnings.warn("beware", stacklevel=1)
        undo()
    first, second = lines(stream)
    assert (first["logger"], first["level"], first["event"]) == ("some.library", "error", "started on 8006")
    assert "beware" in second["event"]


def test_a_stdlib_line_whose_arguments_do_not_fit_is_written_as_it_is(log, stream):
    record = logging.LogRecord("broken", logging.INFO, "", 1, "%s and %s", (1,), None)
    logging.getLogger().handlers[0].handle(record)
    assert lines(stream)[0]["event"] == "%s and %s"


def test_an_exception_that_ends_a_thread_is_written(log, stream):
    thread = threading.Thread(target=lambda: 1 / 0, name="feed")
    thread.start()
    thread.join()
    assert lines(stream)[0]["thread"] == "feed"


def test_a_closed_stream_is_no_reason_to_fail(log, stream):
    stream.close()
    log.info("nobody listens")


def test_undo_gives_the_process_its_logging_back():
    before = (logging.getLogger().handlers[:], logging.getLogger().level, threading.excepthook)
    setup_logging(stream=io.StringIO())()
    assert (logging.getLogger().handlers, logging.getLogger().level, threading.excepthook) == before


def test_a_guest_leaves_stdlib_logging_alone(tmp_path):
    before = (logging.getLogger().handlers[:], threading.excepthook)
    undo = configure_logging(file=tmp_path / "logs" / "service.log")
    structlog.get_logger("x").info("hello")
    assert (logging.getLogger().handlers, threading.excepthook) == before
    undo()
    assert "hello" in (tmp_path / "logs" / "service.log").read_text()


def test_a_file_starts_anew_at_its_size(tmp_path):
    file = tmp_path / "service.log"
    undo = configure_logging(file=file, rotate_mb=1, keep_files=2)
    log = structlog.get_logger("x")
    for _ in range(1_500):
        log.info("m" * 1_900)
    undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["service.log", "service.log.1", "service.log.2"]
    assert file.stat().st_size < 1_100_000
