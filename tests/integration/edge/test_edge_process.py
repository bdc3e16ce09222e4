"""`vnpy-core edge` as a process: what it loads, what it refuses, how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from testkit.edges import DEADLINE_S, SECRET
from testkit.servers import free_port

LOADED = """
import sys
import vnpy_core.edge
import vnpy_core.cli.edge
print(sorted(name for name in sys.modules if name.split(".")[0] in {"vnpy", "sqlalchemy", "duckdb", "pandas", "numpy"}
             or name.startswith(("vnpy_core.engine.host", "vnpy_core.gateways", "vnpy_core.app"))))
"""


def config(folder, url, *, kind="redis"):
    path = folder / "service.toml"
    path.write_text(
        f'[redis]\nurl = "{url}"\n[broker]\nkind = "{kind}"\n[cache]\nkind = "{kind}"\n[registry]\nkind = "{kind}"\n'
    )
    return path


def command(path, *more, secret=SECRET):
    environ = {name: value for name, value in os.environ.items() if not name.startswith("VNPYCORE")}
    if secret:
        environ["VNPYCORE__EDGE__JWT_SECRET"] = secret
    arguments = [sys.executable, "-m", "vnpy_core", "edge", "--config", str(path), *more]
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ, cwd=path.parent
    )


def test_it_needs_neither_vnpy_nor_the_engine():
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_asked_to_end(tmp_path, core, place, number):
    port = free_port()
    process = command(config(tmp_path, place.url), "--port", str(port), "--core", place.node)
    try:
        assert f"an edge of core {place.node} answers at http://127.0.0.1:{port}" in process.stdout.readline()
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live") as answer:
                    assert answer.status == 200
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        process.send_signal(number)
        _, log = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, log
        assert "Traceback" not in log
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("kind", "secret", "words"),
    [
        ("memory", SECRET, ["broker.kind", "cache.kind"]),
        ("redis", "", ["edge.jwt_secret", "copy the core's there", "VNPYCORE__EDGE__JWT_SECRET"]),
        ("redis", "short", ["edge.jwt_secret", "32 bytes"]),
        ("memory", "", ["broker.kind", "cache.kind", "edge.jwt_secret"]),
    ],
)
def test_it_refuses_in_words_what_cannot_work(tmp_path, kind, secret, words):
    process = command(config(tmp_path, "redis://127.0.0.1:1/0", kind=kind), secret=secret)
    _, said = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "Traceback" not in said
    for word in words:
        assert word in said


def test_it_refuses_an_address_of_redis_that_is_none(tmp_path):
    process = command(config(tmp_path, "http://127.0.0.1"), "--port", "0")
    _, said = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "redis.url" in said
    assert "Traceback" not in said
