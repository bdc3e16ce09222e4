"""`/api/v1/strategies`: parse, authorise, delegate."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Query, Request, Response

from vnpy_core.domain.enums import StrategyState
from vnpy_core.domain.events import Order, StopOrderUpdate, StrategyUpdate, Trade
from vnpy_core.domain.pnl import Equity, Pnl
from vnpy_core.domain.strategies import Reloaded, StrategyClass
from vnpy_core.features.strategies import schemas
from vnpy_core.features.strategies.logs import StrategyLogLine
from vnpy_core.features.strategies.schemas import answers, page_of
from vnpy_core.features.strategies.service import HistoryPage, Outcome, StrategiesService
from vnpy_core.ports.auth import Principal
from vnpy_core.ports.store import SeqKey
from vnpy_core.web.auth import require_trader, require_viewer
from vnpy_core.web.paging import decode_cursor, encode_cursor, page
from vnpy_core.web.problems import problem, request_id, responses
from vnpy_core.web.responses import FastResponse, page_model, wire_model

router = APIRouter(prefix="/api/v1/strategies", tags=["strategies"])

VIEWER = [Depends(require_viewer)]
Trader = Annotated[Principal, Depends(require_trader)]
CHANGE_CODES = ("NOT_FOUND", "CONFLICT", "OUTCOME_UNKNOWN", "OVERLOADED", "STORAGE_FULL")
READ_CODES = ("NOT_FOUND", "CONFLICT")
INCOMPLETE = {"X-Incomplete": "history"}
INCOMPLETE_HEADER: dict[str, Any] = {
    "X-Incomplete": {
        "description": "`history`: the database could not be asked or is behind, so past items may be missing: ask for "
        "this page again later",
        "schema": {"type": "string", "enum": ["history"]},
    }
}


async def _service(request: Request) -> StrategiesService:
    service: StrategiesService = request.app.state.strategies
    return service


Strategies = Annotated[StrategiesService, Depends(_service)]
StrategyName = Annotated[str, Path(pattern=schemas.NAME_PATTERN, examples=["demo"])]
ClassNamePath = Annotated[str, Path(pattern=schemas.CLASS_NAME_PATTERN, examples=["AtrRsiStrategy"])]
WaitS = Annotated[
    float, Query(ge=0, le=schemas.MAX_WAIT_S, description="How long to wait for the end of on_init, seconds")
]


# Classes


@router.get(
    "/classes",
    operation_id="list_strategy_classes",
    summary="List the strategy classes",
    dependencies=VIEWER,
    response_model=wire_model(schemas.ClassesPage),
    responses=answers(schemas.CLASSES_EXAMPLE, "CONFLICT"),
)
async def list_strategy_classes(query: Annotated[schemas.PageQuery, Query()], strategies: Strategies) -> Response:
    """What strategies may be made of, by name: VnPy's own classes and those of the strategies folder.

    `failed` has the files that could not be loaded, and why. A class with an `error` cannot be used, or is still the
    code of before its file was edited.
    """
    found = page(strategies.classes(), _class_name, str, query.cursor, query.limit)
    return FastResponse(found | {"failed": strategies.load_errors()})


@router.post(
    "/classes/reload",
    operation_id="reload_strategy_classes",
    summary="Load all strategy files again",
    response_model=wire_model(Reloaded),
    responses=answers(schemas.RELOADED_EXAMPLE, "CONFLICT", "OUTCOME_UNKNOWN", "OVERLOADED"),
)
async def reload_strategy_classes(strategies: Strategies, caller: Trader) -> Response:
    """Load new and edited files, and say what failed and why. A file that fails leaves the classes it gave before.

    Strategies that exist keep the code they were made of (`class_is_old`), until they are added anew or the service
    restarts.
    """
    return FastResponse(await strategies.reload(by=caller.name))


@router.get(
    "/classes/{class_name}",
    operation_id="get_strategy_class",
    summary="Get a strategy class",
    dependencies=VIEWER,
    response_model=wire_model(StrategyClass),
    responses=answers(schemas.CLASS_EXAMPLE, *READ_CODES),
)
async def get_strategy_class(class_name: ClassNamePath, strategies: Strategies) -> Response:
    """Its parameters with types and defaults, its variables, author, documentation and file."""
    return FastResponse(strategies.class_(class_name))


# All strategies


@router.get("/", include_in_schema=False, dependencies=VIEWER)
@router.get(
    "",
    operation_id="list_strategies",
    summary="List the strategies",
    dependencies=VIEWER,
    response_model=page_model(StrategyUpdate),
    responses=answers(page_of(schemas.STRATEGY_EXAMPLE), "CONFLICT"),
)
async def list_strategies(query: Annotated[schemas.StrategiesQuery, Query()], strategies: Strategies) -> Response:
    """Strategies as they are now, by name. Topic `strategy.updated` shows each change."""
    return FastResponse(page(strategies.strategies(query.wanted()), _strategy_name, str, query.cursor, query.limit))


@router.post("/", include_in_schema=False)
@router.post(
    "",
    operation_id="add_strategy",
    summary="Add a strategy",
    status_code=201,
    response_model=wire_model(StrategyUpdate),
    responses=answers(schemas.CREATED_EXAMPLE, *CHANGE_CODES, status=201),
)
async def add_strategy(body: schemas.AddBody, strategies: Strategies, caller: Trader) -> Response:
    """Make a strategy of a class; `POST /{name}/init` and `POST /{name}/start` let it trade.

    404 where there is no such class, 409 where the name is taken, 422 where `setting` does not fit the class
    (`errors` names each parameter) or its `__init__` raised. It outlives a restart.
    """
    made = await strategies.add(
        body.class_name,
        body.strategy_name,
        body.vt_symbol,
        body.setting,
        auto_start=body.auto_start,
        by=caller.name,
    )
    return FastResponse(made, 201)


@router.post(
    "/init-all",
    operation_id="init_all_strategies",
    summary="Initialise all strategies",
    response_model=wire_model(schemas.AllAnswer),
    responses=answers(schemas.ALL_EXAMPLE, "CONFLICT"),
)
async def init_all_strategies(request: Request, strategies: Strategies, caller: Trader) -> Response:
    """Begin to initialise all that are not, one after the other, and wait for none.

    `problem` says where one could not be begun; topic `strategy.updated` shows how they end.
    """
    return _all(await strategies.init_all(by=caller.name), request)


@router.post(
    "/start-all",
    operation_id="start_all_strategies",
    summary="Start all strategies",
    response_model=wire_model(schemas.AllAnswer),
    responses=answers(schemas.ALL_EXAMPLE, "CONFLICT"),
)
async def start_all_strategies(request: Request, strategies: Strategies, caller: Trader) -> Response:
    """Let all trade that are initialised; `problem` says why one does not."""
    return _all(await strategies.start_all(by=caller.name), request)


@router.post(
    "/stop-all",
    operation_id="stop_all_strategies",
    summary="Stop all strategies",
    response_model=wire_model(schemas.AllAnswer),
    responses=answers(schemas.ALL_EXAMPLE, "CONFLICT"),
)
async def stop_all_strategies(request: Request, strategies: Strategies, caller: Trader) -> Response:
    """Let none of them trade; their orders are asked to cancel. `problem` says where one did not stop well."""
    return _all(await strategies.stop_all(by=caller.name), request)


@router.get(
    "/stop-orders",
    operation_id="list_stop_orders",
    summary="List the local stop orders that wait",
    dependencies=VIEWER,
    response_model=page_model(StopOrderUpdate),
    responses=answers(page_of(schemas.STOP_ORDER_EXAMPLE), "CONFLICT"),
)
async def list_stop_orders(query: Annotated[schemas.StopOrdersQuery, Query()], strategies: Strategies) -> Response:
    """Stop orders that the service itself watches for its strategies, oldest first; they outlive a restart."""
    waiting = strategies.stop_orders(query.strategy_name)
    return FastResponse(page(waiting, _stop_key, tuple[int, str], query.cursor, query.limit))


# One strategy. A name may hold what VnPy's file brought, slashes too.


@router.post(
    "/{name:path}/init",
    operation_id="init_strategy",
    summary="Initialise a strategy",
    response_model=wire_model(StrategyUpdate),
    responses=answers(
        schemas.STRATEGY_EXAMPLE | {"state": "INITED", "trading": False},
        *CHANGE_CODES,
        begun=schemas.CREATED_EXAMPLE | {"state": "INITIALISING"},
    ),
)
async def init_strategy(name: StrategyName, strategies: Strategies, caller: Trader, wait_s: WaitS = 0.0) -> Response:
    """Begin its on_init: 200 where it is INITED within `wait_s`, 202 while it is INITIALISING.

    409 says why it cannot be (it is already, it is in quarantine, on_init raised) and its `state`. One that has failed
    may be initialised again.
    """
    strategy = await strategies.init(name, wait_s=wait_s, by=caller.name)
    return FastResponse(strategy, 202 if strategy.state is StrategyState.INITIALISING else 200)


@router.post(
    "/{name:path}/start",
    operation_id="start_strategy",
    summary="Start a strategy",
    response_model=wire_model(StrategyUpdate),
    responses=answers(schemas.STRATEGY_EXAMPLE, *CHANGE_CODES),
)
async def start_strategy(name: StrategyName, strategies: Strategies, caller: Trader) -> Response:
    """Let it trade. 409 where it is not initialised or trades already, or on_start raised; with its `state`."""
    return FastResponse(await strategies.start(name, by=caller.name))


@router.post(
    "/{name:path}/stop",
    operation_id="stop_strategy",
    summary="Stop a strategy",
    response_model=wire_model(StrategyUpdate),
    responses=answers(schemas.STRATEGY_EXAMPLE | {"state": "STOPPED", "trading": False}, *CHANGE_CODES),
)
async def stop_strategy(name: StrategyName, strategies: Strategies, caller: Trader) -> Response:
    """Let it trade no more; its orders are asked to cancel. One that does not trade stays as it is."""
    return FastResponse(await strategies.stop(name, by=caller.name))


@router.get(
    "/{name:path}/parameters",
    operation_id="get_strategy_parameters",
    summary="Get a strategy's parameters",
    dependencies=VIEWER,
    response_model=dict[str, Any],
    responses=answers(schemas.PARAMETERS_EXAMPLE, *READ_CODES),
)
async def get_strategy_parameters(name: StrategyName, strategies: Strategies) -> Response:
    """Values by name."""
    return FastResponse(strategies.strategy(name).parameters)


@router.put(
    "/{name:path}/parameters",
    operation_id="replace_strategy_parameters",
    summary="Replace a strategy's parameters",
    response_model=dict[str, Any],
    responses=answers(schemas.PARAMETERS_EXAMPLE, *CHANGE_CODES),
)
async def replace_strategy_parameters(
    name: StrategyName, body: Annotated[schemas.Setting, Body()], strategies: Strategies, caller: Trader
) -> Response:
    """Set them all; what is left out falls back to its default. A running strategy has them from its next callback on.

    422 where a name is unknown or a value does not fit: then nothing was changed. 409 while it is initialising.
    """
    return FastResponse((await strategies.edit(name, body, merge=False, by=caller.name)).parameters)


@router.patch(
    "/{name:path}/parameters",
    operation_id="change_strategy_parameters",
    summary="Change some of a strategy's parameters",
    response_model=dict[str, Any],
    responses=answers(schemas.PARAMETERS_EXAMPLE, *CHANGE_CODES),
)
async def change_strategy_parameters(
    name: StrategyName, body: Annotated[schemas.Setting, Body()], strategies: Strategies, caller: Trader
) -> Response:
    """As PUT, but what is left out stays as it is. All parameters come back."""
    return FastResponse((await strategies.edit(name, body, merge=True, by=caller.name)).parameters)


@router.get(
    "/{name:path}/variables",
    operation_id="get_strategy_variables",
    summary="Get a strategy's variables",
    dependencies=VIEWER,
    response_model=dict[str, Any],
    responses=answers(schemas.VARIABLES_EXAMPLE, *READ_CODES),
)
async def get_strategy_variables(name: StrategyName, strategies: Strategies) -> Response:
    """Values by name, as it last showed them; what JSON cannot hold stands here as text or a list."""
    return FastResponse(strategies.strategy(name).variables)


@router.get(
    "/{name:path}/orders",
    operation_id="list_strategy_orders",
    summary="List a strategy's orders",
    dependencies=VIEWER,
    response_model=page_model(Order),
    responses=answers(page_of(schemas.ORDER_EXAMPLE), *READ_CODES, headers=INCOMPLETE_HEADER),
)
async def list_strategy_orders(
    name: StrategyName, query: Annotated[schemas.OrdersQuery, Query()], strategies: Strategies
) -> Response:
    """As `GET /trading/orders?strategy_name=…`, which also has those of strategies that were removed."""
    return _history(await strategies.orders(name, query.orders(), _after(query), query.limit))


@router.get(
    "/{name:path}/trades",
    operation_id="list_strategy_trades",
    summary="List a strategy's trades",
    dependencies=VIEWER,
    response_model=page_model(Trade),
    responses=answers(page_of(schemas.TRADE_EXAMPLE), *READ_CODES, headers=INCOMPLETE_HEADER),
)
async def list_strategy_trades(
    name: StrategyName, query: Annotated[schemas.TradesQuery, Query()], strategies: Strategies
) -> Response:
    """As `GET /trading/trades?strategy_name=…`, which also has those of strategies that were removed."""
    return _history(await strategies.trades(name, query.trades(), _after(query), query.limit))


@router.get(
    "/{name:path}/logs",
    operation_id="list_strategy_logs",
    summary="List a strategy's last log lines",
    dependencies=VIEWER,
    response_model=page_model(StrategyLogLine),
    responses=answers(page_of(schemas.LOG_EXAMPLE), *READ_CODES),
)
async def list_strategy_logs(
    name: StrategyName, query: Annotated[schemas.LogsQuery, Query()], strategies: Strategies
) -> Response:
    """What it wrote and what was written about it, of the last 1,000 lines since the start of the service.

    The first page has the newest lines, each next page older ones; within a page the newest is the last.
    """
    before = decode_cursor(query.cursor, int) if query.cursor else None
    lines = strategies.logs(name, level=query.level, before=before, limit=query.limit + 1)
    more = len(lines) > query.limit
    items = lines[1:] if more else lines
    return FastResponse({"items": items, "next_cursor": encode_cursor(items[0].number) if more else None})


@router.get(
    "/{name:path}/pnl",
    operation_id="get_strategy_pnl",
    summary="Get a strategy's profit and loss",
    dependencies=VIEWER,
    response_model=wire_model(Pnl),
    responses=answers(schemas.PNL_EXAMPLE, *READ_CODES),
)
async def get_strategy_pnl(
    name: StrategyName, query: Annotated[schemas.DaysQuery, Query()], strategies: Strategies
) -> Response:
    """By its fills and the last ticks, in quote currency, since it began; and day by day. Read again, it has moved."""
    return FastResponse(await strategies.pnl(name, query.start, query.end))


@router.get(
    "/{name:path}/equity",
    operation_id="get_strategy_equity",
    summary="Get a strategy's equity curve",
    dependencies=VIEWER,
    response_model=wire_model(Equity),
    responses=answers(schemas.EQUITY_EXAMPLE, *READ_CODES),
)
async def get_strategy_equity(
    name: StrategyName, query: Annotated[schemas.EquityQuery, Query()], strategies: Strategies
) -> Response:
    """Its net profit at the end of each trading day, or after each fill, and how far that is below its highest."""
    return FastResponse(await strategies.equity(name, query.resolution, query.start, query.end))


@router.get(
    "/{name:path}",
    operation_id="get_strategy",
    summary="Get a strategy",
    dependencies=VIEWER,
    response_model=wire_model(StrategyUpdate),
    responses=answers(schemas.STRATEGY_EXAMPLE, *READ_CODES),
)
async def get_strategy(name: StrategyName, strategies: Strategies) -> Response:
    """The strategy as it is now. FAILED has the reason in `error`."""
    return FastResponse(strategies.strategy(name))


@router.patch(
    "/{name:path}",
    operation_id="change_strategy",
    summary="Change whether a strategy starts with the service",
    response_model=wire_model(StrategyUpdate),
    responses=answers(schemas.STRATEGY_EXAMPLE, *CHANGE_CODES),
)
async def change_strategy(
    name: StrategyName, body: schemas.ChangeBody, strategies: Strategies, caller: Trader
) -> Response:
    """From now on this holds, whatever `service.toml` says of it. It changes nothing about the present run."""
    return FastResponse(await strategies.set_auto_start(name, body.auto_start, by=caller.name))


@router.delete(
    "/{name:path}",
    operation_id="remove_strategy",
    summary="Remove a strategy",
    status_code=204,
    responses=responses(*CHANGE_CODES),
)
async def remove_strategy(name: StrategyName, strategies: Strategies, caller: Trader) -> Response:
    """Forget it, its parameters and variables. Its orders and trades stay on record, and positions as they are.

    409 while it trades or is initialising.
    """
    await strategies.remove(name, by=caller.name)
    return Response(status_code=204)


def _class_name(each: StrategyClass) -> str:
    return each.class_name


def _strategy_name(strategy: StrategyUpdate) -> str:
    return strategy.strategy_name


def _stop_key(stop: StopOrderUpdate) -> tuple[int, str]:
    """By age: CtaEngine counts them up, as `STOP.7`."""
    number = stop.stop_orderid.rpartition(".")[2]
    return (int(number) if number.isdecimal() else 0, stop.stop_orderid)


def _after(query: schemas.TradesQuery) -> SeqKey:
    cursor: SeqKey = decode_cursor(query.cursor, tuple[int, str]) if query.cursor else (0, "")
    return max(cursor, query.first())


def _history(found: HistoryPage[Any]) -> Response:
    cursor = None if found.next_key is None else encode_cursor(found.next_key)
    headers = INCOMPLETE if found.incomplete else None
    return FastResponse({"items": found.items, "next_cursor": cursor}, headers=headers)


def _all(outcomes: list[Outcome], request: Request) -> Response:
    items = [
        schemas.AllItem(
            strategy_name=outcome.strategy_name,
            state=outcome.state,
            problem=problem(outcome.error, request_id(request.scope)) if outcome.error else None,
        )
        for outcome in outcomes
    ]
    return FastResponse(schemas.AllAnswer(items))
