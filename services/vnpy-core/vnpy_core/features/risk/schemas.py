"""Wire models of risk: what a request may hold, and examples of what comes back."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from vnpy_core.domain.enums import HaltMode, HaltScope


def _scope(value: Any) -> HaltScope:
    if value != HaltScope.ALL:
        raise ValueError("only scope all is there yet")
    return HaltScope.ALL


def _mode(value: Any) -> HaltMode:
    if value != HaltMode.HALTED:
        raise ValueError("only mode HALTED, with scope all, is there yet")
    return HaltMode.HALTED


def _target(value: Any) -> None:
    if value not in (None, ""):
        raise ValueError("only scope all is there yet, which has no target")


def _flatten(value: Any) -> bool:
    if value is not False:
        raise ValueError("closing positions is not there yet, only scope all with cancel")
    return False


class _Scope(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    scope: Annotated[HaltScope, BeforeValidator(_scope)] = HaltScope.ALL
    target: Annotated[None, BeforeValidator(_target)] = None
    reason: str = Field(default="", max_length=1024, examples=["the venue sends wrong prices"])


class HaltBody(_Scope):
    """What to halt; nothing given means: no new order anywhere, and all active ones cancelled."""

    mode: Annotated[HaltMode, BeforeValidator(_mode)] = HaltMode.HALTED
    cancel: bool = Field(default=True, description="Ask the venues to cancel every active order")
    flatten: Annotated[bool, BeforeValidator(_flatten)] = Field(default=False, json_schema_extra={"const": False})


class ResumeBody(_Scope):
    """What to resume."""


HALT_EXAMPLE: dict[str, Any] = {
    "scope": "all",
    "target": "",
    "mode": "HALTED",
    "active": True,
    "reason": "the venue sends wrong prices",
    "by": "admin",
    "at": "2026-11-21T02:00:00.123456Z",
    "seq": 1238,
}
HALTED_EXAMPLE: dict[str, Any] = HALT_EXAMPLE | {"cancelled": 3, "persisted": True}
