from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from vnpy_core.cli.edge import as_edge
from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.settings import load_settings


def settings(tmp_path: Path, text: str = "", **environ: str):
    path = tmp_path / "service.toml"
    path.write_text(text)
    return load_settings(path, environ)


def test_it_stands_beside_its_core(tmp_path):
    edge = as_edge(settings(tmp_path, '[server]\nport = 9000\n[log]\nfile = "core.log"\n'))
    assert edge.server.port == 9001
    assert edge.log.file is not None
    assert edge.log.file.name == "core-edge-9001.log"
    assert edge.node.name == "core"


def test_what_is_said_counts(tmp_path):
    edge = as_edge(settings(tmp_path), port=0, host="0.0.0.0", core="desk")
    assert (edge.server.port, edge.server.host, edge.node.name) == (0, "0.0.0.0", "desk")


def test_all_else_is_the_cores(tmp_path):
    core = settings(
        tmp_path,
        "[streaming]\nheartbeat_s = 3.0\n",
        VNPYCORE__REDIS__URL="redis://h:1/2",
        VNPYCORE__EDGE__JWT_SECRET="x",
    )
    edge = as_edge(core)
    assert edge.streaming.heartbeat_s == 3.0
    assert edge.redis.url == SecretStr("redis://h:1/2")
    assert edge.edge.jwt_secret == SecretStr("x")
    assert edge.paths == core.paths


def test_a_wrong_name_of_a_core_is_refused(tmp_path):
    with pytest.raises(ConfigurationError):
        as_edge(settings(tmp_path), core="no good name")
