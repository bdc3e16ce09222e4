"""Killing the service: a warm parent that forks it quickly, a load over REST, and what must hold afterwards.

The venue is a process of its own and never killed. One data folder serves all kills of a run, as it does in life. The
parent has imported everything and forks a service for each start, so that a start costs a second and not five.
"""

from __future__ import annotations

import gc
import http.client
import importlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from testkit import invariants
from testkit.load import Listener, Load, Loop, Market, ask, eventually
from testkit.venue import BTC, VenueProcess
from vnpy_core.adapters.journal.file import FILE_NAME

TESTS = Path(__file__).resolve().parents[1]
PACKAGE = TESTS.parent / "services" / "vnpy-core" / "vnpy_core"
PASSWORD = "canary-admin-password-4711"  # planted: it must appear nowhere
GATEWAY_SECRET = "canary-setting-over-rest-4713"
STRATEGY_NAME = "killed"
OF_STRATEGY = "CtaStrategy_"
SIGNS = {"LONG": 1, "SHORT": -1}
TINY = 1e-9
READY_S = 30.0
WARM = ("uvicorn", "uvicorn.loops.auto", "uvicorn.protocols.http.auto", "uvicorn.protocols.websockets.auto",
        "vnpy_core.app", "vnpy_core.engine.host", "vnpy_core.gateways.paper.remote", "vnpy_core.adapters.store.sql",
        "aiosqlite", "vnpy_ctastrategy.engine", "vnpy_riskmanager.engine", "vnpy_algotrading.engine",
        "vnpy_datamanager.engine", "vnpy_sqlite", "strategies.kill_strategy")  # fmt: skip

CONFIG = """
[log]
format = "json"
level = "INFO"

[streaming]
heartbeat_s = 5.0

[journal]
durability = "{durability}"
reserve_mb = 1
retain_days = {retain_days}

[gateways.PAPER]
class = "vnpy_core.gateways.paper.remote:RemotePaperGateway"
auto_connect = true

[gateways.PAPER.setting]
socket = "{socket}"
timeout_s = 5.0

[gateways.LOCKED]
class = "testkit.gateways:PlainGateway"

[gateways.LOCKED.setting]
user = "canary-user"
password = "canary-gateway-password-4712"
"""

STRATEGY_CONFIG = """
[strategies.{name}]
class_name = "KillStrategy"
vt_symbol = "{symbol}"
auto_start = true
"""

STRATEGY = '''
"""Trades at the market, rests orders and keeps local stop orders, a step at each tick; counts its fills."""

from vnpy_ctastrategy import CtaTemplate


class KillStrategy(CtaTemplate):
    author = "tests"
    ticks = 0
    fills = 0
    low = float("inf")
    variables = ["ticks", "fills", "low", "trail", "sides", "by_side"]

    def __init__(self, cta_engine, strategy_name, vt_symbol, setting):
        super().__init__(cta_engine, strategy_name, vt_symbol, setting)
        self.trail, self.sides, self.by_side = [], set(), {}

    def on_init(self):
        pass

    def on_trade(self, trade):
        side = trade.direction.name
        self.fills += 1
        self.trail.append(self.fills)
        del self.trail[:-5]
        self.sides.add(side)
        self.by_side[side] = self.by_side.get(side, 0) + 1
        if self.fills > 20:
            self.low = min(self.low, trade.price)

    def on_tick(self, tick):
        if not tick.bid_price_1 or not tick.ask_price_1:
            return
        self.ticks += 1
        step = self.ticks % 6
        if step == 1:
            self.trade(tick)
        elif step == 2:
            self.rest(tick)
        elif step == 4:
            self.keep_stops(tick)

    def trade(self, tick):
        if self.pos > 0:
            self.short(tick.bid_price_1, 0.001 * (1 + self.ticks % 7))
        else:
            self.buy(tick.ask_price_1, 0.001 * (1 + self.ticks % 5))

    def rest(self, tick):
        if self.ticks % 24 == 2:
            for name in sorted(n for n in self.cta_engine.strategy_orderid_map[self.strategy_name] if "STOP" not in n):
                self.cancel_order(name)
        self.buy(round(tick.bid_price_1 - 30 - self.ticks % 20, 1), 0.002)

    def keep_stops(self, tick):
        mine = [s for s in self.cta_engine.stop_orders.values() if s.strategy_name == self.strategy_name]
        if len(mine) < 3:
            # Soon triggered, or there until it is cancelled.
            reach = 2 + self.ticks % 9 if self.ticks % 12 == 4 else 900
            # Its volume says which it is, so that one which is sent twice is seen at the venue.
            number = self.cta_engine.stop_order_count + 1
            self.buy(round(tick.ask_price_1 + reach, 1), round(1 + number * 0.001, 3), stop=True)
        elif self.ticks % 30 == 4:
            self.cancel_order(min(mine, key=lambda s: int(s.stop_orderid.rpartition(".")[2])).stop_orderid)
'''


Constants = dict[str, dict[str, Any]]


def failpoints() -> list[str]:
    """Every name that the package hits, so that a new one is killed at without being listed."""
    found = {name for path in PACKAGE.rglob("*.py") for name in re.findall(r'\bhit\("([^"]+)"\)', path.read_text())}
    return sorted(found)


# --- the service ---


def warm_parent(config: str) -> None:
    """In a process of its own: import all, then fork a service for each line on stdin, one at a time.

    A line is JSON: `failpoint`, and `constants` to set so that a test need not wait.
    """
    from vnpy_core.engine.home import prepare_home
    from vnpy_core.settings import load_settings

    settings = load_settings(Path(config))
    prepare_home(settings.paths.data, settings.paths.strategies, config_folder=settings.paths.config)
    for name in WARM:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    print("warm", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _serve(config, json.loads(line))
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _serve(config: str, wanted: dict[str, Any]) -> None:
    """The child: a service as `vnpy-core serve` makes it, whose output goes to its log."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        for module, constants in wanted.get("constants", {}).items():
            for name, value in constants.items():
                setattr(sys.modules[module], name, value)
        from vnpy_core.__main__ import _serve as serve
        from vnpy_core.kit import failpoints
        from vnpy_core.settings import load_settings

        failpoints.arm(wanted.get("failpoint", ""))
        serve(load_settings(Path(config)), hints=False)
        code = 0
    except BaseException as error:  # noqa: BLE001 - the child of a fork must not go on in the parent's frames
        sys.stderr.write(f"the service failed: {error!r}\n")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class KillableService:
    """A service that can be killed and started again on the same data folder and port. One thread."""

    def __init__(
        self,
        folder: Path,
        venue_socket: Path,
        *,
        store_url: str = "",
        durability: str = "power",
        more: str = "",
        retain_days: float = 0.00001,
        strategies: Iterable[str] = (STRATEGY_NAME,),
    ) -> None:
        self.folder = folder
        self.data = folder / "vnpy_data"
        self.log = folder / "service.log"
        self.store_url = store_url or f"sqlite+aiosqlite:///{self.data}/store.sqlite"
        self.port = _free_port()
        self.token = ""
        self.pid = 0
        self.ready_s = 0.0
        self.answers = folder / "answers.log"
        config = CONFIG.format(socket=venue_socket, durability=durability, retain_days=retain_days)
        config += "".join(STRATEGY_CONFIG.format(name=name, symbol=BTC) for name in strategies)
        _write_home(folder, config + more)
        self._parent = self._start_parent()
        assert self._line() == "warm", self.log.read_text()[-3000:]

    def fork(self, failpoint: str = "", *, constants: Constants | None = None) -> None:
        """Start it; returns at once. `constants` are set before: {"module": {"NAME": value}}."""
        assert not self.pid
        wanted = {"failpoint": failpoint, "constants": constants or {}}
        assert self._parent.stdin is not None
        self._parent.stdin.write(json.dumps(wanted) + "\n")
        self._parent.stdin.flush()
        self.pid = int(self._line())
        self._forked_at = time.monotonic()

    def kill(self) -> None:
        """As a power cut would for the process; again does nothing."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait_ended()

    def wait_ended(self) -> int:
        """Its exit code, or minus the signal that ended it."""
        status, self.pid = int(self._line()), 0
        return status

    def terminate(self) -> int:
        """Ask it to end, and wait."""
        os.kill(self.pid, signal.SIGTERM)
        return self.wait_ended()

    def is_alive(self) -> bool:
        """Whether the process still runs."""
        if not self.pid:
            return False
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):  # the latter where it ended between the open and the read
            return False
        return state.rpartition(")")[2].split()[0] not in "ZX"

    def wait_ready(self, *, reconciled: bool = True) -> None:
        """Until it answers, and its gateway may be traded through."""
        deadline = time.monotonic() + READY_S
        while self.get_status("/health/ready") != 200:
            self._require(deadline, "does not get ready")
        self.ready_s = time.monotonic() - self._forked_at
        while reconciled and not self._is_reconciled():
            self._require(deadline, "is not reconciled", self._differences)
            time.sleep(0.01)

    def close(self) -> None:
        """End everything."""
        self.kill()
        assert self._parent.stdin is not None
        self._parent.stdin.close()
        self._parent.wait(10)
        if self._parent.stdout is not None:
            self._parent.stdout.close()

    # --- asking ---

    def get_status(self, path: str) -> int:
        """Of a GET; 0 where nobody answers."""
        try:
            return self.request("GET", path)[0]
        except OSError:
            return 0

    def get(self, path: str) -> Any:
        """A GET that must succeed."""
        status, body = self.request("GET", path)
        if status == 401:
            self._log_in()
            status, body = self.request("GET", path)
        assert status == 200, (path, status, body)
        return body

    def get_all(self, path: str) -> list[dict[str, Any]]:
        """Every page of a list."""
        items: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = self.get(f"{path}{'&' if '?' in path else '?'}limit=1000{cursor}")
            items += page["items"]
            if page.get("next_cursor") is None:
                return items
            cursor = f"&cursor={page['next_cursor']}"

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request on a connection of its own; logs in first where a token is needed. Raises OSError."""
        if path.startswith("/api") and not self.token and "/auth/" not in path:
            self._log_in()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            return ask(connection, method, path, self.token, body, self.answers)
        finally:
            connection.close()

    def state(self) -> dict[str, list[dict[str, Any]]]:
        """What REST says."""
        names = ("orders", "trades", "positions", "accounts")
        return {name: self.get_all(f"/api/v1/trading/{name}") for name in names}

    def _log_in(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/api/v1/auth/token", f"username=admin&password={PASSWORD}", headers)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        self.token = answer["access_token"]

    def _is_reconciled(self) -> bool:
        try:
            reports = self.get("/api/v1/trading/reconciliation")["items"]
        except (OSError, http.client.HTTPException):
            return False
        return all(r["state"] == "RECONCILED" for r in reports if r["gateway_name"] == "PAPER") and bool(reports)

    def _differences(self) -> list[Any]:
        """What keeps orders from passing."""
        reports = self.get("/api/v1/trading/reconciliation")["items"]
        return [(r["state"], [d for d in r["differences"] if not d["resolved"]]) for r in reports]

    def _require(self, deadline: float, what: str, why: Callable[[], object] = lambda: "") -> None:
        assert self.is_alive(), f"the service ended:\n{self.log.read_text()[-4000:]}"
        assert time.monotonic() < deadline, f"the service {what}: {why()}\n{self.log.read_text()[-4000:]}"
        time.sleep(0.01)

    def _start_parent(self) -> subprocess.Popen[str]:
        code = "import sys; from testkit.kills import warm_parent; warm_parent(sys.argv[1])"
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("VNPYCORE")},
            "PYTHONPATH": os.pathsep.join([str(TESTS), str(PACKAGE.parent)]),
            "OPENBLAS_NUM_THREADS": "1",
            "VNPYCORE__SERVER__PORT": str(self.port),
            "VNPYCORE__AUTH__ADMIN_PASSWORD": PASSWORD,
            "VNPYCORE__STORE__URL": self.store_url,
        }
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", code, str(self.folder / "vnpy_config" / "service.toml")],
                cwd=self.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environ,
            )  # fmt: skip

    def _line(self) -> str:
        assert self._parent.stdout is not None
        line = self._parent.stdout.readline().strip()
        assert line, f"the warm parent ended:\n{self.log.read_text()[-3000:]}"
        return line


def _write_home(folder: Path, config: str) -> None:
    """Configuration, the strategy, and risk rules that leave the load alone."""
    (folder / "vnpy_config").mkdir(parents=True, exist_ok=True)
    (folder / "vnpy_config" / "service.toml").write_text(config)
    (folder / "strategies").mkdir()
    (folder / "strategies" / "kill_strategy.py").write_text(STRATEGY)
    rules = {
        "活动委托检查": {"active_order_limit": 10**9},
        "每日上限检查": dict.fromkeys(
            [f"{what}_{kind}_limit" for what in ("total", "contract") for kind in ("order", "cancel", "trade")], 10**9
        ),
        "重复报单检查": {"duplicate_order_limit": 10**9},
        "委托规模检查": {"order_volume_limit": 10**9, "order_value_limit": 10**15},
    }
    (folder / "vnpy_data" / ".vntrader").mkdir(parents=True, exist_ok=True)
    (folder / "vnpy_data" / ".vntrader" / "risk_manager_setting.json").write_text(json.dumps(rules))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# --- a run ---


class KillRun:
    """A venue, a service, its load, and the check after each kill: `with KillRun(folder, seed="7") as run:`."""

    def __init__(
        self,
        folder: Path,
        *,
        seed: str,
        store_url: str = "",
        durability: str = "power",
        loads: int = 2,
        pause_s: float = 0.01,
        more: str = "",
        retain_days: float = 0.00001,
        strategies: Sequence[str] = (STRATEGY_NAME,),
    ) -> None:
        """`pause_s` is between two requests of each load; `more` goes into service.toml."""
        self.seed = seed
        self.strategies = strategies
        self.random = random.Random(f"{seed} kills")
        self.venue = VenueProcess()
        self.service = KillableService(
            folder,
            self.venue.socket,
            store_url=store_url,
            durability=durability,
            more=more,
            retain_days=retain_days,
            strategies=strategies,
        )
        self.market = Market(self.venue, seed, pause_s=2 * pause_s)
        self.loads = [Load(self.service, seed, number, self.market, pause_s=pause_s) for number in range(loads)]
        self.listener = Listener(self.service)
        self.kills = 0
        self.ready: list[float] = []

    def __enter__(self) -> KillRun:
        self.venue.start()
        self.market.step()
        for loop in self._loops:
            loop.start()
        self.market.go()
        return self

    def __exit__(self, *_: object) -> None:
        for loop in self._loops:
            loop.end()
        for holder in (self.market, *self.loads, self.service):
            holder.close()
        self.venue.__exit__()

    def start(self, *, constants: Constants | None = None) -> None:
        """Fork, get ready, and let the load loose."""
        self.service.fork(constants=constants)
        self.service.wait_ready()
        self.ready.append(self.service.ready_s)
        self.service.get("/api/v1/trading/orders?limit=1")
        for loop in self._loops:
            loop.go()

    def kill_after(self, seconds: float) -> None:
        """Under load."""
        time.sleep(seconds)
        self.service.kill()
        self.kills += 1

    def rest(self) -> None:
        """Bring everything to rest on a service that runs."""
        self.market.pause()
        for load in self.loads:
            load.pause()
        for load in self.loads:
            load.settle()

    def check(self, within: float = 15.0) -> invariants.Observed:
        """Bring everything to rest on a service that runs, and look."""
        self.rest()
        found = invariants.check(
            self.venue.ledger,
            self.service.data / FILE_NAME,
            self.service.store_url,
            rest=self.service.state,
            stream=lambda: self.listener.state,
            within=within,
        )
        problems = [*self._unkept_promises(found), *self.listener.problems, *stop_order_problems(found)]
        problems += [*attribution_problems(found), *self._unlisted_intents(found), *variable_problems(found)]
        problems += self._restless_problems(found, within)
        assert not problems, f"seed {self.seed}: {invariants.report(problems)}"
        return found

    def die_at(self, failpoint: str, *, constants: Constants | None = None) -> None:
        """Start it, and wait under load until it kills itself there, be it during the start or later."""
        self.service.fork(failpoint, constants=constants)
        for loop in self._loops:
            loop.go()
        eventually(lambda: not self.service.is_alive(), READY_S, f"{failpoint} was not reached (seed {self.seed})")
        status = self.service.wait_ended()
        assert status == -signal.SIGKILL, f"{failpoint}: ended with {status}\n{self.service.log.read_text()[-3000:]}"
        self.kills += 1

    def resume(self) -> None:
        """Go on after a check."""
        for loop in self._loops:
            loop.go()

    def canaries(self) -> invariants.Canaries:
        """The secrets of this run, and where they may not be."""
        secrets = {
            "admin password": PASSWORD,
            "gateway password": "canary-gateway-password-4712",
            "gateway password over REST": GATEWAY_SECRET,
            "access token": self.service.token,
        }
        return invariants.Canaries(
            secrets, [self.service.folder], sql=self.service.store_url, but={"vnpy_config", "secrets", "strategies"}
        )

    def _restless_problems(self, found: invariants.Observed, within: float) -> list[str]:
        """What strategies save and show follows the fills: looked at again until it is right, `within` s at most."""
        deadline = time.monotonic() + within
        while True:
            rows, _ = invariants.read_journal(self.service.data / FILE_NAME)
            saved = {row.key: row.data for row in rows if row.kind == "strategy.data"}
            shown = {item["strategy_name"]: item for item in self.service.get_all("/api/v1/strategies")}
            problems = [*miscounted(found, self.strategies, saved), *misshown(self.strategies, saved, shown)]
            if not problems or time.monotonic() > deadline:
                return problems
            time.sleep(0.1)

    def _unlisted_intents(self, found: invariants.Observed) -> Iterable[str]:
        """An intent of which nobody knows what became must be shown to the operator."""
        settled = {row.key for row in found.rows("intent.outcome") if row.data["state"] != "UNKNOWN"}
        open_ones = {row.key for row in found.rows("intent.order")} - settled
        reports = self.service.get("/api/v1/trading/reconciliation")["items"]
        listed = {u["intent"]["client_order_id"] for report in reports for u in report["unknown_intents"]}
        yield from (f"intent {key} is neither settled nor listed" for key in sorted(open_ones - listed))
        yield from (f"intent {key} is listed but settled" for key in sorted(listed - open_ones))

    @property
    def _loops(self) -> list[Loop]:
        return [self.market, *self.loads, self.listener]

    def _unkept_promises(self, found: invariants.Observed) -> Iterator[str]:
        """What was answered to REST callers must be so."""
        sent: dict[str, list[str]] = defaultdict(list)
        for orderid, order in found.ledger_orders.items():
            sent[order["reference"]].append(f"{found.gateway}.{orderid}")
        journal = {row.data["vt_orderid"]: row.data["status"] for row in found.order_rows()}
        for load in self.loads:
            for key in load.bodies:
                yield from _broken_promises(load, key, sent[key], journal)


def _broken_promises(load: Load, key: str, sent: list[str], journal: Mapping[str, str]) -> Iterator[str]:
    """`sent` are the venue's orders that bear this key, `journal` the last status by vt_orderid."""
    told, statuses = load.answers.get(key, set()), load.acknowledged.get(key, set())
    if len(sent) > 1:
        yield f"REST key {key} was sent {len(sent)} times: {sent}"
    if len(told) > 1:
        yield f"REST key {key} was answered with different orders: {sorted(told)}"
    for name in told - set(sent):
        # Its request may have been lost on the way; then it was never more than sent, and it has ended.
        if name not in journal or sent or statuses - {"SUBMITTING", "CANCELLED"}:
            yield f"REST key {key} was answered {statuses} as {name}; venue {sent}, journal {journal.get(name)}"
    if key in load.denied and sent:
        yield f"REST key {key} was denied ({load.denied[key]}), but the venue has {sent}"


def owner(order: Mapping[str, Any]) -> str | None:
    """The strategy that a venue's order is of."""
    reference: str = order["reference"]
    return reference.removeprefix(OF_STRATEGY) if reference.startswith(OF_STRATEGY) else None


def attribution_problems(found: invariants.Observed) -> Iterable[str]:
    """Orders and fills of each strategy bear its name in journal and SQL, before and after each start."""
    owners = {f"{found.gateway}.{orderid}": owner(order) for orderid, order in found.ledger_orders.items()}
    journal = [row.data for row in found.rows("order.updated", "trade.executed")]
    for where, rows in (("journal", journal), ("SQL", [*found.sql_orders, *found.sql_trades])):
        for row in rows:
            if row["vt_orderid"] in owners and (row["strategy_name"] or None) != owners[row["vt_orderid"]]:
                name = row.get("vt_tradeid", row["vt_orderid"])
                yield f"{where}: {name} of order {row['vt_orderid']} is {row['strategy_name']}'s"


def positions(found: invariants.Observed) -> dict[str, float]:
    """What each strategy's fills at the venue add up to."""
    sums: dict[str, float] = defaultdict(float)
    for trade in found.ledger_trades.values():
        name = owner(found.ledger_orders[trade["orderid"]])
        if name is not None:
            sums[name] += SIGNS[trade["direction"]] * float(trade["volume"])
    return sums


def miscounted(
    found: invariants.Observed, strategies: Iterable[str], saved: Mapping[str, Mapping[str, Any]]
) -> Iterable[str]:
    """A strategy's own position, as it was saved last, is the sum of its fills at the venue."""
    truth = positions(found)
    for name in strategies:
        data = saved.get(name, {"variables": {}, "attributed_pos": 0})
        for what, pos in (("pos", data["variables"].get("pos", 0)), ("attributed_pos", data["attributed_pos"])):
            if abs(pos - truth.get(name, 0)) > TINY:
                yield f"{what} of {name} is {pos:.3f}, its fills at the venue add up to {truth.get(name, 0):.3f}"


def misshown(
    strategies: Iterable[str], saved: Mapping[str, Mapping[str, Any]], shown: Mapping[str, Mapping[str, Any]]
) -> Iterable[str]:
    """Each strategy trades again, with the variables that it saved last."""
    for name in strategies:
        item = shown.get(name)
        if item is None or item["state"] != "RUNNING":
            yield f"strategy {name} is {item and item['state']}: {item and item['error']}"
            continue
        variables = saved.get(name, {"variables": {}})["variables"]
        for what in variables.keys() & {"pos", "fills", "trail", "by_side"}:
            if variables[what] != item["variables"][what]:
                yield f"{what} of {name} is {item['variables'][what]}, saved was {variables[what]}"
        if item["variables"]["ticks"] < variables.get("ticks", 0):
            yield f"{name} has forgotten ticks: {item['variables']['ticks']} of {variables['ticks']}"


def variable_problems(found: invariants.Observed) -> Iterable[str]:
    """Each save of a strategy is whole, has exactly the fills before it, and forgets nothing that was saved before."""
    sums = _running_sums(found)
    before: dict[str, dict[str, Any]] = {}
    for row in found.rows("strategy.data"):
        variables, pos = row.data["variables"], row.data["variables"].get("pos", 0)
        where = f"row {row.seq} of {row.key}"
        if abs(pos - row.data["attributed_pos"]) > TINY:
            yield f"{where}: pos {pos}, attributed {row.data['attributed_pos']}"
        seqs, totals = sums.get(row.key, ([], []))
        total = totals[n - 1] if (n := bisect_right(seqs, row.data["counted_seq"])) else 0.0
        if not found.cut and abs(pos - total) > TINY:
            yield f"{where}: pos {pos}, its fills up to row {row.data['counted_seq']} add up to {total}"
        if variables and "fills" in variables and not _is_whole(variables):
            yield f"{where}: {variables}"
        last = before.get(row.key, {})
        if any(variables.get(name, 0) < last.get(name, 0) for name in ("ticks", "fills")):
            yield f"{where}: {variables} after {last}"
        before[row.key] = variables


def _running_sums(found: invariants.Observed) -> dict[str, tuple[list[int], list[float]]]:
    """strategy -> the rows of its fills, and what they add up to with each."""
    sums: dict[str, tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))
    for row in found.rows("trade.executed"):
        if row.data["strategy_name"] and not row.carried:
            seqs, totals = sums[row.data["strategy_name"]]
            seqs.append(row.seq)
            totals.append((totals[-1] if totals else 0.0) + SIGNS[row.data["direction"]] * row.data["volume"])
    return sums


def _is_whole(variables: Mapping[str, Any]) -> bool:
    """Whether a KillStrategy's variables fit together."""
    fills, trail, by_side = variables["fills"], variables["trail"], variables["by_side"]
    return (
        trail == list(range(max(1, fills - 4), fills + 1))
        and sum(by_side.values()) == fills
        and sorted(variables["sides"]["$set"]) == sorted(by_side)
    )


def outlived_starts(found: invariants.Observed) -> list[str]:
    """Local stop orders that began before a kill and ended after it."""
    born: dict[str, str] = {}
    found_ones = []
    for row in found.rows("stop_order.updated"):
        if born.setdefault(row.key, row.run_id) != row.run_id and row.data["status"] != "WAITING":
            found_ones.append(row.key)
    return found_ones


def stop_order_problems(found: invariants.Observed) -> Iterable[str]:
    """A local stop order keeps its id, its strategy and its content for life, and does not come back from its end."""
    first: dict[str, dict[str, Any]] = {}
    ended: dict[str, str] = {}
    lasting = ("vt_symbol", "direction", "offset", "price", "volume", "strategy_name")
    for row in found.rows("stop_order.updated"):
        known = first.setdefault(row.key, row.data)
        if any(known[name] != row.data[name] for name in lasting):
            yield f"stop order {row.key} is another one in row {row.seq}: {known} {row.data}"
        if row.key in ended and row.data["status"] != ended[row.key]:
            yield f"stop order {row.key} came back from {ended[row.key]} as {row.data['status']} in row {row.seq}"
        if row.data["status"] != "WAITING":
            ended[row.key] = row.data["status"]
    if not found.cut:
        yield from _sent_twice(found, first)


def _sent_twice(found: invariants.Observed, stops: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """The venue has at most one order for each local stop order; a KillStrategy's stops are known by their volumes."""
    meant = Counter((stop["strategy_name"], round(stop["volume"], 3)) for stop in stops.values())
    orders = Counter((owner(o), round(float(o["volume"]), 3)) for o in found.ledger_orders.values() if owner(o))
    for (name, volume), count in orders.items():
        if volume >= 1 and count > meant[name, volume]:
            yield f"{count} orders of {name} for {meant[name, volume]} stop orders of {volume}"
