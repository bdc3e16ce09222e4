"""The same ticks through vnpy_webtrader, as its window starts it, in an environment made here and removed after.

Its trader's half publishes over ZeroMQ, its web server is a process of its own. Where a part of it does not run, the
last words of that part stand in the table.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import stream_latency
from stream_kit import BENCHMARKS, REPOSITORY, TICKS, Child, Row, cpu_s, free_port, median, reader, say, service

PACKAGE = "vnpy_webtrader"
AS_ITS_WINDOW = ["-m", "uvicorn", "vnpy_webtrader.web:app", "--host=127.0.0.1"]
INSIDE_THE_LOOP = ["-c", "import sys, uvicorn; uvicorn.Server(uvicorn.Config('vnpy_webtrader.web:app', port=int("
                   "sys.argv[1].removeprefix('--port=')))).run()"]  # fmt: skip
"""It posts to the loop it sees when it is imported. Newer versions of uvicorn's command import an application before
their loop runs, so that nothing is ever sent; a `Server` imports it inside."""
RATES = (500, 5_000)
"""Ticks a second: one that it may be made for, and ours."""
START_S = 30
# As in pyproject.toml: Qt, which a web server does not need.
EXCLUDED = ["pyside6", "pyside6-addons", "pyside6-essentials", "shiboken6", "pyqtgraph", "qdarkstyle", "qtpy"]


class DoesNotRun(Exception):
    """With its last words."""


def rows(folder: Path, rounds: int) -> list[Row]:
    try:
        version = install(folder)
    except DoesNotRun as error:
        return [Row(f"{PACKAGE}, its environment", "", str(error))]
    start, found = AS_ITS_WINDOW, []
    try:
        of_webtrader(folder, folder, RATES[0], start)
    except DoesNotRun as error:
        what = f"{PACKAGE} {version} as its window starts it"
        found.append(Row(what, "", f"{error}; below, imported by uvicorn inside its running loop"))
        start = INSIDE_THE_LOOP
    for rate in RATES:
        ours, theirs = [], []
        try:
            for number in range(max(1, rounds - 1)):
                place = folder / f"{rate}-{number}"
                place.mkdir()
                ours.append(of_service(place, rate))
                theirs.append(of_webtrader(folder, place, rate, start))
                say(f"webtrader: {stream_latency.told(theirs[-1])}")
                say(f"     ours: {stream_latency.told(ours[-1])}")
        except DoesNotRun as error:
            found.append(Row(f"{PACKAGE} {version}, {rate:,} ticks/s", "", str(error)))
            continue
        what = f"{rate:,} ticks/s to {stream_latency.SUBSCRIBERS}, beside {PACKAGE} {version}"
        found += [
            Row(f"{what}: frames/s", *both(ours, theirs, "rate", ",.0f", "share")),
            Row(f"{what}: latency", *both(ours, theirs, "p50", ".2f", "p99")),
        ]
    return found


def both(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], name: str, form: str, more: str) -> list[str]:
    """Two cells: medians of ours, and of theirs with the ratio."""
    mine, its = (median([one[name] for one in found]) for found in (ours, theirs))
    texts = []
    for found, first in ((ours, mine), (theirs, its)):
        second = median([one[more] for one in found])
        rest = f"{second:.1%} of what was sent" if more == "share" else f"p99 {second:.2f} ms"
        text = f"{first:{form}}, {rest}" if more == "share" else f"p50 {first:{form}}, {rest}"
        texts.append(f"{text}, CPU {median([one['service'] for one in found]):.0f} %")
    return [texts[0], f"{texts[1]}; ratio {mine / its:.2f}" if its else texts[1]]


def of_service(folder: Path, rate: int) -> dict[str, Any]:
    with service(folder, TICKS.format(rate=rate, folder=folder)) as core:
        return stream_latency.streamed(core, stream_latency.SUBSCRIBERS)


def of_webtrader(environment: Path, folder: Path, rate: int, start: list[str]) -> dict[str, Any]:
    with webtrader(environment, folder, rate, start) as (port, trader, server):
        token = login(port)
        clients = stream_latency.SUBSCRIBERS
        try:
            child = reader(port, clients, path=f"/ws/?token={token}")
        except EOFError as error:
            raise DoesNotRun(str(error).splitlines()[-1]) from error
        with child:
            time.sleep(stream_latency.WARM_S)
            used = cpu_s(server)
            found = stream_latency.window(child, folder, trader, clients)
            found["service"] += (cpu_s(server) - used) / found["seconds"] * 100  # both of its processes
            if "p50" not in found:
                raise DoesNotRun(f"no tick comes in {found['seconds']:.0f} s, and no error")
            return found


@contextmanager
def webtrader(environment: Path, folder: Path, rate: int, start: list[str]) -> Iterator[tuple[int, int, int]]:
    """Both processes: the web server's port, and their ids. Raises DoesNotRun."""
    python = str(environment / "env" / "bin" / "python")
    request, publish = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    home = folder / ".vntrader"
    home.mkdir()
    (home / "vt_setting.json").write_text('{"log.active": false, "log.console": false, "log.file": false}')
    setting = {"username": "bench", "password": "bench", "req_address": request, "sub_address": publish}
    (home / "web_trader_setting.json").write_text(json.dumps(setting))
    own = {**os.environ, "HOME": str(folder)}
    half = [python, str(BENCHMARKS / "stream_plain.py"), str(rate), str(folder / "stats.json"), request, publish]
    port = free_port()
    with contextlib.ExitStack() as stack:
        try:
            trader = stack.enter_context(Child(half, cwd=folder, env=own))
        except EOFError as error:
            raise DoesNotRun(str(error)) from error
        log = folder / "web.log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                [python, *start, f"--port={port}"], cwd=folder, env=own, stdout=output, stderr=output
            )
        stack.callback(server.wait)
        stack.callback(server.kill)
        deadline = time.monotonic() + START_S
        while "Uvicorn running" not in (said := log.read_text()):
            if server.poll() is not None or time.monotonic() > deadline:
                raise DoesNotRun(" / ".join(said.strip().splitlines()[-3:]))
            time.sleep(0.1)
        yield port, trader.pid, server.pid


def login(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/token", "username=bench&password=bench", form)
        answer = connection.getresponse()
        content = answer.read()
    if answer.status != 200:
        raise DoesNotRun(f"POST /token: {answer.status} {content[:200]!r}")
    token: str = json.loads(content)["access_token"]
    return token


def install(folder: Path) -> str:
    """The newest version, without Qt; its number. Raises DoesNotRun."""
    say(f"installing {PACKAGE} into an environment of its own")
    uv = str(REPOSITORY / ".venv" / "bin" / "uv")
    settings = folder / "uv.toml"
    settings.write_text(f"exclude-dependencies = {json.dumps(EXCLUDED)}\n")
    environment = folder / "env"
    own = {**os.environ, "VIRTUAL_ENV": str(environment)}
    # uv does not read pip's configuration; a mirror that is set there is meant for both, as in scripts/install.
    mirror = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False
    ).stdout.strip()
    if mirror and not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & own.keys():
        own["UV_DEFAULT_INDEX"] = mirror
    install_it = [uv, "pip", "install", "--quiet", "--config-file", str(settings), PACKAGE]
    for command in ([uv, "venv", "--quiet", "--python", sys.executable, str(environment)], install_it):
        done = subprocess.run(command, env=own, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode and command is install_it:
            done = subprocess.run([*command, "--offline"], env=own, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DoesNotRun(" / ".join(done.stderr.strip().splitlines()[-3:]))
    ask = "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))"
    told = subprocess.run(
        [str(environment / "bin" / "python"), "-c", ask, PACKAGE], capture_output=True, text=True, check=False
    )
    return told.stdout.strip()
