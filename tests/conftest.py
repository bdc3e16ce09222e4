"""A private VnPy home for this process, prepared before anything imports vnpy: its folder is fixed at first import."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
import structlog

TESTS = Path(__file__).resolve().parent
REPOSITORY = TESTS.parent
SHARED_DATA = REPOSITORY.parent / "shared" / "data"

_home = Path(tempfile.mkdtemp(prefix="vnpy-core-tests-"))
atexit.register(shutil.rmtree, _home, ignore_errors=True)
assert "vnpy.trader.utility" not in sys.modules, "vnpy was imported before the tests prepared its home"
(_home / ".vntrader").mkdir()
(_home / "strategies").symlink_to(TESTS / "testkit" / "strategies", target_is_directory=True)
os.environ["LANGUAGE"] = "zh_CN"
# Not by chdir, which would lose pytest its way to the tests: VnPy falls back to HOME.
os.environ["HOME"] = str(_home)


# structlog's default draws tracebacks with all locals, which takes seconds each.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(),
    ]
)


@pytest.fixture(scope="session")
def vnpy_home() -> Path:
    """VnPy's folder of this process, with its settings loaded as the service loads them."""
    from vnpy_core.engine.home import prepare_home

    prepare_home(_home, TESTS / "testkit" / "strategies")
    return _home


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The recorded market data that lies beside the checkout; tests that need it skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no recorded market data at {SHARED_DATA}")
    return SHARED_DATA
