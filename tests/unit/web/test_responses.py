from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
import pytest
from fastapi import FastAPI

from vnpy_core.domain import events
from vnpy_core.domain.enums import Direction
from vnpy_core.ports.engine import EngineStatus
from vnpy_core.web.responses import FastResponse, page_model, wire_model


class Inner(msgspec.Struct, frozen=True):
    """The inside."""

    side: Direction


class Outer(msgspec.Struct, frozen=True, kw_only=True):
    """The outside.

    In two lines.
    """

    name: str = "x"
    """What it is called."""
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    named: Mapping[str, Inner]
    at: datetime | None
    pair: tuple[str, int] = ("", 0)


class Sparse(msgspec.Struct, omit_defaults=True):
    """What is default is left out."""

    status: int
    note: str = ""


def test_structs_are_encoded():
    at = datetime(2026, 11, 21, 2, 0, 0, 123456, tzinfo=UTC)
    response = FastResponse([Outer(named={"a": Inner(Direction.LONG)}, at=at)], 201, {"X-Y": "z"})
    assert (response.status_code, response.media_type, response.headers["x-y"]) == (201, "application/json", "z")
    [encoded] = msgspec.json.decode(response.body)
    assert (encoded["at"], encoded["named"]) == ("2026-11-21T02:00:00.123456Z", {"a": {"side": "LONG"}})


def test_numbers_that_json_lacks_become_null():
    assert FastResponse([float("nan"), float("inf")]).body == b"[null,null]"


def test_a_model_has_the_structs_fields_and_words():
    schema = wire_model(Outer).model_json_schema()
    assert schema["description"] == "The outside.\n\nIn two lines."
    assert schema["properties"]["name"]["description"] == "What it is called."
    assert set(schema["required"]) == {"name", "inner", "many", "named", "at", "pair"}
    assert schema["$defs"]["Inner"]["description"] == "The inside."
    assert schema["properties"]["inner"]["anyOf"] == [{"$ref": "#/$defs/Inner"}, {"type": "null"}]


def test_what_may_be_left_out_is_not_required():
    assert wire_model(Sparse).model_json_schema()["required"] == ["status"]


def test_a_model_is_made_once_so_that_the_document_names_it_once():
    assert wire_model(Outer) is wire_model(Outer)
    assert page_model(Outer) is page_model(Outer)


def test_a_page_is_documented():
    schema = page_model(Inner).model_json_schema()
    assert schema["required"] == ["items", "next_cursor"]


def test_descriptions_below_fields_are_found_in_modules_of_the_service():
    assert "ping" in wire_model(EngineStatus).model_json_schema()["properties"]["alive"]["description"]


@pytest.mark.parametrize(
    "kind", [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)]
)
def test_every_event_can_be_documented_and_its_example_is_valid(kind):
    model = wire_model(kind)
    assert set(model.model_json_schema().get("properties", {})) == set(kind.__struct_fields__)


def test_the_document_can_be_made():
    app = FastAPI()
    app.add_api_route("/x", lambda: None, response_model=page_model(Outer))
    assert "Outer" in app.openapi()["components"]["schemas"]
