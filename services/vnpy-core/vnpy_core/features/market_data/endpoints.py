"""`/api/v1/data`: parse, authorise, delegate."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.types import Receive, Scope, Send

from vnpy_core.domain.errors import CoreError, ValidationFailed
from vnpy_core.domain.events import Job, Tick
from vnpy_core.features.market_data import schemas
from vnpy_core.features.market_data.service import MarketDataService
from vnpy_core.features.market_data.wire import Stored
from vnpy_core.ports.auth import Principal
from vnpy_core.ports.recorder import RecorderState
from vnpy_core.web.auth import require_admin, require_trader, require_viewer
from vnpy_core.web.paging import decode_cursor, encode_cursor
from vnpy_core.web.problems import responses
from vnpy_core.web.responses import FastResponse, page_model, wire_model

router = APIRouter(prefix="/api/v1/data", tags=["data"])

VIEWER = [Depends(require_viewer)]
Trader = Annotated[Principal, Depends(require_trader)]
Admin = Annotated[Principal, Depends(require_admin)]
ANY_SIZE = 1 << 50
"""Bytes: what an upload may really have is a setting, which the service knows."""
STALL_S = 60.0
"""How long a client of an export may take nothing, seconds."""
MEDIA_TYPES = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}
CHANGE_CODES = ("OVERLOADED", "STORAGE_FULL")

_log = structlog.get_logger(__name__)


async def _service(request: Request) -> MarketDataService:
    service: MarketDataService = request.app.state.market_data
    return service


Data = Annotated[MarketDataService, Depends(_service)]
JobId = Annotated[str, Path(pattern=schemas.JOB_ID_PATTERN, examples=[schemas.JOB_EXAMPLE["id"]])]


def _answers(example: dict[str, Any], *codes: str, status: int = 200) -> dict[int | str, dict[str, Any]]:
    description = "Accepted" if status == 202 else "Done"
    success = {"description": description, "content": {"application/json": {"example": example}}}
    return responses(*codes) | {status: success}


def _page_of(example: dict[str, Any]) -> dict[str, Any]:
    return {"items": [example], "next_cursor": None}


# Reading


@router.get(
    "/bars",
    operation_id="list_bars",
    summary="List bars",
    dependencies=VIEWER,
    response_model=schemas.BarsModel,
    responses=_answers(schemas.BARS_EXAMPLE, "OVERLOADED"),
)
async def list_bars(query: Annotated[schemas.BarsQuery, Query()], data: Data) -> Response:
    """Bars by time: those stored, or built of stored 1-minute bars, or of stored ticks; `source` says which.

    With `start` pages go forward from there. Without it the first page has the newest bars (before `end`), and each
    next page older ones; within a page they go forward always. Cursors stay valid while data come in. A page may have
    fewer bars than `limit` where much must be read to build them: go on with `next_cursor`. The newest bar may be one
    that is not over yet.
    """
    return Response(await data.bars(query.wanted(), query.interval, query.source), media_type="application/json")


@router.get(
    "/ticks",
    operation_id="list_stored_ticks",
    summary="List stored ticks",
    dependencies=VIEWER,
    response_model=page_model(Tick),
    responses=_answers(_page_of(schemas.TICK_EXAMPLE), "OVERLOADED"),
)
async def list_stored_ticks(query: Annotated[schemas.TicksQuery, Query()], data: Data) -> Response:
    """Ticks by time; pages go as those of bars do. Several may have one `datetime`: none of them is left out."""
    return Response(await data.ticks(query.wanted()), media_type="application/json")


@router.get(
    "/overview",
    operation_id="get_overview",
    summary="What is stored",
    dependencies=VIEWER,
    response_model=page_model(Stored),
    responses=_answers(_page_of(schemas.STORED_EXAMPLE), "OVERLOADED"),
)
async def get_overview(query: Annotated[schemas.OverviewQuery, Query()], data: Data) -> Response:
    """Each series of ticks and bars with its count and its first and last time, by `vt_symbol` and `interval`."""
    after = decode_cursor(query.cursor, tuple[str, str]) if query.cursor else None
    items, last = await data.overview(query.wanted(), after, query.limit)
    return _page(items, last)


@router.get(
    "/export",
    operation_id="export_data",
    summary="Export bars or ticks",
    dependencies=VIEWER,
    response_class=Response,
    responses=responses("OVERLOADED", "STORAGE_FULL")
    | {
        200: {
            "description": "The file. It is whole only where the answer ends as HTTP has it: an error on the way cuts "
            "the connection",
            "content": {
                "text/csv": {"schema": {"type": "string"}},
                "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
            },
        }
    },
)
async def export_data(query: Annotated[schemas.ExportQuery, Query()], data: Data) -> Response:
    """Stored bars or ticks as a file that `POST /data/import` takes again. Without `start` and `end`: all of them."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", query.vt_symbol)
    interval = query.interval if query.kind == "bar" else "tick"
    return ExportResponse(data.export(query.spec()), f"{name}_{interval}.{query.format}", MEDIA_TYPES[query.format])


# Changing


@router.delete(
    "/bars",
    operation_id="delete_bars",
    summary="Delete bars",
    response_model=wire_model(schemas.Deleted),
    responses=_answers({"deleted": 1440}, *CHANGE_CODES),
)
async def delete_bars(query: Annotated[schemas.DeleteBarsQuery, Query()], data: Data, caller: Admin) -> Response:
    """Take the bars of `start <= datetime < end` away, or with `all=true` every one of the series. Put on record."""
    series = schemas.series_of(query.vt_symbol)
    return FastResponse(
        schemas.Deleted(await data.delete(series, query.interval, *query.bounds(), by=caller.name)),
    )


@router.delete(
    "/ticks",
    operation_id="delete_ticks",
    summary="Delete ticks",
    response_model=wire_model(schemas.Deleted),
    responses=_answers({"deleted": 41230}, *CHANGE_CODES),
)
async def delete_ticks(query: Annotated[schemas.DeleteTicksQuery, Query()], data: Data, caller: Admin) -> Response:
    """Take the ticks of `start <= datetime < end` away, or with `all=true` every one of the contract. Put on record."""
    series = schemas.series_of(query.vt_symbol)
    return FastResponse(schemas.Deleted(await data.delete(series, None, *query.bounds(), by=caller.name)))


@router.post(
    "/import",
    operation_id="import_data",
    summary="Import a file",
    status_code=202,
    max_body_size=ANY_SIZE,
    response_model=wire_model(Job),
    responses=_answers(schemas.JOB_EXAMPLE, *CHANGE_CODES, status=202),
    openapi_extra={"requestBody": schemas.IMPORT_SCHEMA},
)
async def import_data(request: Request, data: Data, caller: Trader) -> Response:
    """Send a CSV (plain, zipped or gzipped) or Parquet file of ticks or bars; the answer is the job that imports it.

    Rows that are there already are not stored twice. Bad rows are listed in the job's result, with line and reason,
    and the others imported; with `strict` a bad row keeps all out.
    """
    job = await data.import_file(
        request.stream(),
        request.headers.get("content-type", ""),
        _content_length(request),
        schemas.ImportForm.spec_of,
        by=caller.name,
    )
    return FastResponse(job, 202)


@router.post(
    "/download",
    operation_id="download_data",
    summary="Download history",
    status_code=202,
    response_model=wire_model(Job),
    responses=_answers(schemas.JOB_EXAMPLE | {"kind": "download"}, "OVERLOADED", status=202),
)
async def download_data(body: schemas.DownloadBody, data: Data, caller: Trader) -> Response:
    """Fetch bars from a gateway's history or VnPy's datafeed, or ticks from the datafeed; the answer is the job."""
    return FastResponse(await data.download(body.spec(), by=caller.name), 202)


# Jobs


@router.get(
    "/jobs",
    operation_id="list_jobs",
    summary="List the jobs",
    dependencies=VIEWER,
    response_model=page_model(Job),
    responses=_answers(_page_of(schemas.JOB_EXAMPLE)),
)
async def list_jobs(query: Annotated[schemas.PageQuery, Query()], data: Data) -> Response:
    """The last 1,000 jobs, newest first, those of earlier runs of the service too; of long results the beginning."""
    before = decode_cursor(query.cursor, str) if query.cursor else None
    jobs = data.jobs(before, query.limit + 1)
    shown = jobs[: query.limit]
    return _page(shown, shown[-1].id if len(jobs) > query.limit else None)


@router.get(
    "/jobs/{job_id}",
    operation_id="get_job",
    summary="Get a job",
    dependencies=VIEWER,
    response_model=wire_model(Job),
    responses=_answers(schemas.ENDED_JOB_EXAMPLE, "NOT_FOUND"),
)
async def get_job(job_id: JobId, data: Data) -> Response:
    """How far it is, and its whole result once it has ended. Topic `job.updated` shows each step as it comes."""
    return FastResponse(await data.job(job_id))


@router.delete(
    "/jobs/{job_id}",
    operation_id="cancel_job",
    summary="Cancel a job",
    status_code=202,
    response_model=wire_model(Job),
    responses=_answers(schemas.JOB_EXAMPLE | {"message": "being cancelled"}, "NOT_FOUND", "CONFLICT", status=202),
)
async def cancel_job(job_id: JobId, data: Data, caller: Trader) -> Response:
    """Ask it to end: CANCELLED follows. What it has stored by then stays. 409 where it has ended."""
    return FastResponse(await data.cancel(job_id, by=caller.name), 202)


# Recording


@router.get(
    "/recorder",
    operation_id="get_recorder",
    summary="What is recorded?",
    dependencies=VIEWER,
    response_model=wire_model(RecorderState),
    responses=_answers(schemas.RECORDER_EXAMPLE, "OVERLOADED"),
)
async def get_recorder(data: Data) -> Response:
    """Which live ticks are recorded, how many of each contract were, and which were lost and why."""
    return FastResponse(await data.recorder())


@router.put(
    "/recorder",
    operation_id="set_recorder",
    summary="Say what is recorded",
    response_model=wire_model(RecorderState),
    responses=_answers(schemas.RECORDER_EXAMPLE, *CHANGE_CODES),
)
async def set_recorder(body: schemas.RecorderBody, data: Data, caller: Trader) -> Response:
    """Record the ticks of these contracts from now on, also after a restart; in place of `[recorder] symbols`."""
    return FastResponse(await data.record(tuple(body.symbols), by=caller.name))


class ExportResponse(Response):
    """Sends an export as it comes. It ends with the connection, or when its client takes nothing any more."""

    def __init__(
        self, export: AbstractAsyncContextManager[AsyncGenerator[bytes, None]], filename: str, media_type: str
    ) -> None:
        super().__init__(media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{filename}"'})
        del self.headers["content-length"]
        self._export = export
        self._filename = filename

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer. Raises what the export raises before its first byte."""
        gone = asyncio.create_task(_disconnected(receive))
        sending = asyncio.create_task(self._send(send))
        try:
            await asyncio.wait({gone, sending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                await sending
        finally:
            gone.cancel()
            sending.cancel()
            await asyncio.gather(gone, sending, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        async with self._export as parts:
            first = await anext(parts, b"")
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                await _take(send, first)
                async for part in parts:
                    await _take(send, part)
            except (CoreError, TimeoutError) as error:
                # Without its end the answer is known to be cut off: the server closes the connection.
                _log.warning("an export broke off", file=self._filename, error=str(error) or "nobody takes it")
                return
            await send({"type": "http.response.body", "body": b""})


async def _take(send: Send, part: bytes) -> None:
    async with asyncio.timeout(STALL_S):
        await send({"type": "http.response.body", "body": part, "more_body": True})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _content_length(request: Request) -> int | None:
    text = request.headers.get("content-length")
    if text is None:
        return None
    with contextlib.suppress(ValueError):
        return int(text)
    raise ValidationFailed("Content-Length is no number")


def _page(items: Sequence[object], last: object) -> Response:
    return FastResponse({"items": items, "next_cursor": None if last is None else encode_cursor(last)})
