"""`/api/v1/strategies/files`: parse, authorise, delegate. Stands before the routes of one strategy."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response

from vnpy_core.domain.errors import FieldError, ValidationFailed
from vnpy_core.features.strategies.uploads import FILE_NAME_PATTERN, StrategyFile, StrategyFiles, UploadedFile
from vnpy_core.ports.auth import Principal
from vnpy_core.web.auth import require_admin, require_viewer
from vnpy_core.web.paging import Cursor, Limit, page
from vnpy_core.web.problems import responses
from vnpy_core.web.responses import FastResponse, page_model, wire_model

router = APIRouter(prefix="/api/v1/strategies", tags=["strategies"])

MEDIA_TYPES = ("text/x-python", "application/octet-stream")
FILE_EXAMPLE: dict[str, Any] = {
    "file_name": "my_strategy.py",
    "size": 2048,
    "hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "modified_at": "2026-11-21T02:00:00Z",
    "loaded": True,
    "classes": ["MyStrategy"],
    "error": None,
}
UPLOADED_EXAMPLE: dict[str, Any] = {
    "file_name": "my_strategy.py",
    "size": 2048,
    "hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "former_hash": None,
    "next": "POST /api/v1/strategies/classes/reload",
}


async def _service(request: Request) -> StrategyFiles:
    service: StrategyFiles = request.app.state.strategy_files
    return service


Files = Annotated[StrategyFiles, Depends(_service)]
Admin = Annotated[Principal, Depends(require_admin)]
FileName = Annotated[str, Path(pattern=FILE_NAME_PATTERN, examples=["my_strategy.py"])]


def _answers(example: dict[str, Any], *codes: str) -> dict[int | str, dict[str, Any]]:
    return responses(*codes) | {200: {"content": {"application/json": {"example": example}}}}


@router.get(
    "/files",
    operation_id="list_strategy_files",
    summary="List the strategy files",
    dependencies=[Depends(require_viewer)],
    response_model=page_model(StrategyFile),
    responses=_answers({"items": [FILE_EXAMPLE], "next_cursor": None}, "CONFLICT"),
)
async def list_strategy_files(files: Files, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """The Python files of the strategies folder, by name, and whether the classes in use were loaded from them."""
    found = await files.files()
    return FastResponse(page(found, lambda file: file.file_name, str, cursor, limit))


@router.put(
    "/files/{file_name}",
    operation_id="put_strategy_file",
    summary="Upload a strategy file",
    response_model=wire_model(UploadedFile),
    responses=_answers(UPLOADED_EXAMPLE, "CONFLICT", "OVERLOADED", "STORAGE_FULL"),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {media: {"schema": {"type": "string"}} for media in MEDIA_TYPES},
        }
    },
)
async def put_strategy_file(request: Request, file_name: FileName, files: Files, caller: Admin) -> Response:
    """Write a file into the strategies folder, in place of one of that name; put on record with the hashes of both.

    The body is the file, UTF-8. 403 unless service.toml turns uploads on; 422 with the line where it is no Python; 409
    where a strategy runs code of that file. Nothing is loaded: `POST /strategies/classes/reload` does that.
    """
    files.require_enabled()
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in MEDIA_TYPES:
        message = f"must be {' or '.join(MEDIA_TYPES)}"
        raise ValidationFailed(message, errors=[FieldError("Content-Type", message)])
    return FastResponse(await files.write(file_name, await request.body(), by=caller.name))
