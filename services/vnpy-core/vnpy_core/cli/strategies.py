"""`vnpy-core strategies …`: the CTA strategies of a running service."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from vnpy_core.cli.connecting import DEFAULT_URL, Token, User, client_of, endings, printable
from vnpy_core.cli.tables import table
from vnpy_core.domain.enums import LogLevel, StrategyState
from vnpy_core.domain.errors import Conflict, FieldError, ValidationFailed

if TYPE_CHECKING:
    from vnpy_core.client import Client
    from vnpy_core.client.strategies import StrategyOutcome
    from vnpy_core.domain.events import StrategyUpdate

T = TypeVar("T")

ALL = "all"
POLL_S = 0.5
TIMEOUT_S = 90.0
"""Longer than the longest wait that the service allows."""
SHOWN_ERROR = 60
"""Characters of an error that a table shows."""
ENDED = ("DONE", "INCOMPLETE", "FAILED")

app = typer.Typer(name="strategies", help="The CTA strategies of a running service.", no_args_is_help=True)

Url = Annotated[str, typer.Option(help="Of the service.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
Name = Annotated[str, typer.Argument(help="The strategy's.")]
NameOrAll = Annotated[str, typer.Argument(metavar="NAME|all", help="The strategy's, or all of them.")]
VtSymbol = Annotated[str, typer.Argument(metavar="VT_SYMBOL", help="As rb2701.SHFE.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="NAME=VALUE", help="A parameter, as JSON or plain text; again for more."),
]


@app.command("list")
def list_(
    url: Url = DEFAULT_URL,
    token: Token = "",
    user: User = "",
    state: Annotated[StrategyState | None, typer.Option(case_sensitive=False, help="Only those.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the strategies and how they are."""

    async def work(client: Client) -> list[StrategyUpdate]:
        return [each async for each in client.strategies.all(state=state)]

    with endings():
        _show(_ask(url, token, user, work), _strategy_lines, as_json)


@app.command()
def show(name: Name, url: Url = DEFAULT_URL, token: Token = "", user: User = "", as_json: AsJson = False) -> None:
    """Show one strategy with its parameters and variables."""
    with endings():
        _show(_ask(url, token, user, lambda client: client.strategies.get(name)), _all_of_it, as_json)


@app.command()
def classes(url: Url = DEFAULT_URL, token: Token = "", user: User = "", as_json: AsJson = False) -> None:
    """Show what strategies may be made of, and the files that could not be loaded."""
    with endings():
        found = _ask(url, token, user, lambda client: client.strategies.classes())
        if as_json:
            _print_json({"items": found.items, "failed": found.failed})
            return
        rows = [
            (each.class_name, each.file, ", ".join(f"{p.name}={p.default}" for p in each.parameters), _last(each.error))
            for each in found.items
        ]
        _print(table(("CLASS", "FILE", "PARAMETERS", "ERROR"), rows))
        _print(f"{failed.file}: {failed.error}" for failed in found.failed)


@app.command()
def reload(url: Url = DEFAULT_URL, token: Token = "", user: User = "", as_json: AsJson = False) -> None:
    """Load all strategy files again; 1 where one of them failed. Strategies that exist keep their code."""
    with endings():
        reloaded = _ask(url, token, user, lambda client: client.strategies.reload())
        if as_json:
            _print_json(reloaded)
        else:
            _print([f"{len(reloaded.loaded)} classes"])
            for word, names in (("changed", reloaded.changed), ("removed", reloaded.removed), ("kept", reloaded.kept)):
                _print([f"{word}: {', '.join(names)}"] if names else [])
        _print((f"vnpy-core: {failed.file}: {failed.error}" for failed in reloaded.failed), err=True)
    if reloaded.failed:
        raise typer.Exit(1)


@app.command()
def add(
    class_name: Annotated[str, typer.Argument(metavar="CLASS", help="As `classes` shows it.")],
    name: Name,
    vt_symbol: VtSymbol,
    setting: Set = None,
    auto_start: Annotated[bool, typer.Option("--auto-start", help="Each start of the service starts it.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
    user: User = "",
    as_json: AsJson = False,
) -> None:
    """Make a strategy; `init` and `start` let it trade."""
    with endings():
        given = _setting(setting)
        _show(
            _ask(
                url,
                token,
                user,
                lambda client: client.strategies.add(class_name, name, vt_symbol, given, auto_start=auto_start),
            ),
            _in_a_word,
            as_json,
        )


@app.command()
def init(
    name: NameOrAll,
    wait: Annotated[float, typer.Option(min=0, max=60, help="For the end of on_init, seconds.")] = 60.0,
    url: Url = DEFAULT_URL,
    token: Token = "",
    user: User = "",
    as_json: AsJson = False,
) -> None:
    """Initialise a strategy, or all that are not, and wait; 1 where one has not ended well by then."""
    with endings():
        if name == ALL:
            _show_all(_ask(url, token, user, lambda client: _init_all(client, wait)), as_json)
            return
        strategy = _ask(url, token, user, lambda client: client.strategies.init(name, wait_s=wait))
        _show(strategy, _in_a_word, as_json)
        if strategy.state is StrategyState.INITIALISING:
            raise Conflict(f"{name} has not come to an end of its on_init in {wait:g} s")


@app.command()
def start(name: NameOrAll, url: Url = DEFAULT_URL, token: Token = "", user: User = "", as_json: AsJson = False) -> None:
    """Let a strategy trade, or all of them; 1 where one does not."""
    with endings():
        if name == ALL:
            _show_all(_ask(url, token, user, lambda client: client.strategies.start_all()), as_json)
        else:
            _show(_ask(url, token, user, lambda client: client.strategies.start(name)), _in_a_word, as_json)


@app.command()
def stop(name: NameOrAll, url: Url = DEFAULT_URL, token: Token = "", user: User = "", as_json: AsJson = False) -> None:
    """Let a strategy trade no more, or none of them; their orders are asked to cancel."""
    with endings():
        if name == ALL:
            _show_all(_ask(url, token, user, lambda client: client.strategies.stop_all()), as_json)
        else:
            _show(_ask(url, token, user, lambda client: client.strategies.stop(name)), _in_a_word, as_json)


@app.command()
def edit(
    name: Name,
    setting: Set = None,
    replace: Annotated[bool, typer.Option("--replace", help="Others go back to their defaults.")] = False,
    auto_start: Annotated[
        bool | None, typer.Option("--auto-start/--no-auto-start", help="Whether each start of the service starts it.")
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = "",
    user: User = "",
    as_json: AsJson = False,
) -> None:
    """Set parameters; a running strategy has them from its next callback on."""

    async def work(client: Client) -> StrategyUpdate:
        if replace:
            await client.strategies.set_parameters(name, given)
        elif given:
            await client.strategies.change_parameters(name, given)
        if auto_start is not None:
            await client.strategies.set_auto_start(name, auto_start)
        return await client.strategies.get(name)

    with endings():
        given = _setting(setting)
        if not given and not replace and auto_start is None:
            raise ValidationFailed("nothing to set: give --set NAME=VALUE or --auto-start")
        _show(_ask(url, token, user, work), _all_of_it, as_json)


@app.command()
def remove(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
    user: User = "",
) -> None:
    """Forget a strategy and its variables. Its orders and trades stay on record, and what it holds in the account."""
    with endings():
        if not yes:
            pos = _ask(url, token, user, lambda client: client.strategies.get(name)).pos
            held = f" (its pos of {pos:g} stays in the account, and is nobody's then)" if pos else ""
            typer.confirm(f"forget {name} and its variables{held}?", abort=True, err=True)
        _ask(url, token, user, lambda client: client.strategies.remove(name))
        typer.echo(f"{name} is removed")


@app.command()
def logs(
    name: Name,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=1000, help="The newest ones.")] = 100,
    level: Annotated[LogLevel, typer.Option(case_sensitive=False, help="This one and above.")] = LogLevel.DEBUG,
    url: Url = DEFAULT_URL,
    token: Token = "",
    user: User = "",
    as_json: AsJson = False,
) -> None:
    """Show the last lines of a strategy's log; `vnpy-core watch strategy.log` goes on with what comes."""
    with endings():
        found = _ask(url, token, user, lambda client: client.strategies.logs(name, level=level, lines=lines))
        if as_json:
            _print_json(found)
        else:
            _print(f"{line.datetime.astimezone():%Y-%m-%d %H:%M:%S} {line.level:<8} {line.msg}" for line in found)


@app.command()
def pnl(
    name: Name,
    days: Annotated[int, typer.Option("--days", "-n", min=0, help="The last ones to show.")] = 10,
    url: Url = DEFAULT_URL,
    token: Token = "",
    user: User = "",
    as_json: AsJson = False,
) -> None:
    """Show what a strategy has earned since it began, and day by day."""
    with endings():
        found = _ask(url, token, user, lambda client: client.strategies.pnl(name))
        if as_json:
            _print_json(found)
            return
        rows: list[tuple[str, object]] = [
            ("net", f"{found.net:.2f}"),
            ("realised", f"{found.realised:.2f}"),
            ("unrealised", f"{found.unrealised:.2f}"),
            ("fees", f"{found.fees:.2f}"),
            ("pos", found.pos),
            ("trades", found.trades),
            ("round trips", found.round_trips),
            ("won", "" if found.win_rate is None else f"{found.win_rate:.1%}"),
            ("max drawdown", f"{found.max_drawdown:.2f}"),
            ("sharpe", "" if found.sharpe is None else f"{found.sharpe:.2f}"),
        ]
        _print(table((name, ""), rows, right=(1,)))
        if days and found.days:
            shown = [(d.day, f"{d.net:.2f}", f"{d.fees:.2f}", d.trades, f"{d.equity:.2f}") for d in found.days[-days:]]
            _print(["", *table(("DAY", "NET", "FEES", "TRADES", "EQUITY"), shown, right=(1, 2, 3, 4))])
        if not found.complete:
            typer.echo("vnpy-core: some of it could not be read, so these are not all days", err=True)


@app.command()
def rollover(
    from_vt_symbol: Annotated[str, typer.Argument(metavar="FROM", help="The old contract, as rb2701.SHFE.")],
    to_vt_symbol: Annotated[str, typer.Argument(metavar="TO", help="The new one.")],
    strategy: Annotated[
        list[str] | None, typer.Option("--strategy", "-s", help="Only this one; again for more. Default: all of FROM.")
    ] = None,
    payup: Annotated[int, typer.Option(min=0, help="Ticks beyond the opposite best price.")] = 5,
    max_volume: Annotated[float, typer.Option(min=0, help="Lots of one order.")] = 100.0,
    timeout: Annotated[float, typer.Option(min=1, help="How long it may take, seconds.")] = 30.0,
    go: Annotated[bool, typer.Option("--go", help="Trade; without it only the plan is shown.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
    user: User = "",
    as_json: AsJson = False,
) -> None:
    """Take strategies' lots from one contract to the next, and the strategies with them. Shows the plan unless --go."""
    limits = {"payup": payup, "max_volume": max_volume, "timeout_s": timeout}

    async def work(client: Client) -> dict[str, Any]:
        if not go:
            return await client.strategies.plan_rollover(from_vt_symbol, to_vt_symbol, strategy, **limits)
        record = await client.strategies.roll_over(from_vt_symbol, to_vt_symbol, strategy, **limits)
        while record["state"] not in ENDED:
            await asyncio.sleep(POLL_S)
            record = await client.strategies.rollover(record["id"])
        return record

    with endings():
        found = _ask(url, token, user, work)
        _show(found, _rollover_lines if go else _plan_lines, as_json)
    if (go and found["state"] != "DONE") or found.get("problems"):
        raise typer.Exit(1)


# Asking


def _ask(url: str, token: str, user: str, work: Callable[[Client], Awaitable[T]]) -> T:
    """Raises CoreError."""

    async def main() -> T:
        async with client_of(url, token, user, timeout_s=TIMEOUT_S) as client:
            return await work(client)

    return asyncio.run(main())


async def _init_all(client: Client, wait_s: float) -> list[StrategyOutcome]:
    """Begin, and wait until none is under way."""
    from vnpy_core.client.strategies import StrategyOutcome

    problems = {outcome.strategy_name: outcome.problem for outcome in await client.strategies.init_all()}
    end = time.monotonic() + wait_s
    while True:
        now = [each async for each in client.strategies.all()]
        if time.monotonic() >= end or all(each.state is not StrategyState.INITIALISING for each in now):
            return [
                StrategyOutcome(n.strategy_name, n.state, problems.get(n.strategy_name) or _trouble(n)) for n in now
            ]
        await asyncio.sleep(POLL_S)


def _trouble(strategy: StrategyUpdate) -> dict[str, Any] | None:
    if strategy.state is StrategyState.INITIALISING:
        return {"detail": "its on_init has not come to an end"}
    return {"detail": strategy.error or ""} if strategy.state is StrategyState.FAILED else None


def _setting(given: list[str] | None) -> dict[str, Any]:
    """Raises ValidationFailed."""
    import msgspec

    setting: dict[str, Any] = {}
    for each in given or ():
        name, is_there, value = each.partition("=")
        if not is_there or not name:
            message = f"{each!r} is not NAME=VALUE"
            raise ValidationFailed(message, errors=[FieldError("--set", message)])
        try:
            setting[name] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            setting[name] = value
    return setting


# Showing


def _show(found: T, lines: Callable[[T], Iterable[str]], as_json: bool) -> None:
    if as_json:
        _print_json(found)
    else:
        _print(lines(found))


def _show_all(outcomes: list[StrategyOutcome], as_json: bool) -> None:
    rows = [(each.strategy_name, each.state, _last((each.problem or {}).get("detail"), 200)) for each in outcomes]
    _show(outcomes, lambda _: table(("STRATEGY", "STATE", "PROBLEM"), rows), as_json)
    if any(each.problem for each in outcomes):
        raise typer.Exit(1)


def _print(lines: Iterable[str], *, err: bool = False) -> None:
    """Further lines of one text stand below it, set in, so that none of them looks like another text."""
    for line in lines:
        first, *further = line.split("\n")
        for part in (first, *(f"    {each}" for each in further)):
            typer.echo(printable(part), err=err)


def _print_json(found: object) -> None:
    import msgspec

    typer.echo(msgspec.json.encode(found).decode())


def _strategy_lines(found: list[StrategyUpdate]) -> list[str]:
    rows = [
        (each.strategy_name, each.class_name, each.vt_symbol, each.state, each.pos, each.auto_start, _last(each.error))
        for each in found
    ]
    return table(("STRATEGY", "CLASS", "CONTRACT", "STATE", "POS", "AUTO", "ERROR"), rows, right=(4,))


def _all_of_it(strategy: StrategyUpdate) -> list[str]:
    lines = [*_in_a_word(strategy), *_worth_knowing(strategy), ""]
    for title, values in (("PARAMETER", strategy.parameters), ("VARIABLE", strategy.variables)):
        lines += table((title, ""), list(values.items()))
    return [*lines, "", *(strategy.error or "").splitlines()] if strategy.error else lines


def _worth_knowing(strategy: StrategyUpdate) -> Iterator[str]:
    if strategy.class_is_old:
        yield f"it runs older code than {strategy.class_file} has now"
    if not math.isclose(strategy.pos, strategy.attributed_pos, abs_tol=1e-9):
        yield f"its pos is {strategy.pos:g}, the sum of its fills {strategy.attributed_pos:g}"


def _in_a_word(strategy: StrategyUpdate) -> list[str]:
    return [f"{strategy.strategy_name} ({strategy.class_name}, {strategy.vt_symbol}) is {strategy.state}"]


def _plan_lines(plan: dict[str, Any]) -> list[str]:
    rows = [
        (part["strategy_name"], part["pos"], o["vt_symbol"], o["direction"], o["offset"], o["volume"], o["price"])
        for part in plan["strategies"]
        for o in part["orders"]
    ]
    return [
        *table(("STRATEGY", "POS", "CONTRACT", "SIDE", "OFFSET", "VOLUME", "PRICE"), rows, right=(1, 5, 6)),
        *(f"warning: {words}" for words in plan["warnings"]),
        *(f"problem: {words}" for words in plan["problems"]),
    ]


def _rollover_lines(record: dict[str, Any]) -> list[str]:
    rows = [
        (part["strategy_name"], part["closed"], part["opened"], part["moved"], _last(part["problem"], 200))
        for part in record["strategies"]
    ]
    return [
        *table(("STRATEGY", "CLOSED", "OPENED", "MOVED", "PROBLEM"), rows, right=(1, 2)),
        f"{record['id']} is {record['state']}",
    ]


def _last(text: str | None, longest: int = SHOWN_ERROR) -> str:
    """The last line of a traceback, which says what was wrong."""
    words = (text or "").strip().rpartition("\n")[2].strip()
    return words if len(words) <= longest else f"{words[: longest - 1]}…"
