"""Who may import whom: the contracts of pyproject.toml, by import-linter."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_floors_hold():
    linter = Path(sys.executable).with_name("lint-imports")
    outcome = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_the_command_line_helps_without_vnpy_and_the_web():
    code = "import sys, vnpy_core.__main__; print(*{m.partition('.')[0] for m in sys.modules} & {'vnpy', 'fastapi'})"
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert outcome.stdout.strip() == ""


def test_a_headless_service_imports_no_qt(tmp_path):
    (tmp_path / ".vntrader").mkdir()  # so that vnpy makes its home here
    code = "import sys, vnpy_core.app, vnpy_core.engine.host; print(*{m.partition('.')[0] for m in sys.modules})"
    command = [sys.executable, "-c", code]
    outcome = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
    assert not {"PySide6", "shiboken6", "pyqtgraph", "qdarkstyle"} & set(outcome.stdout.split())
