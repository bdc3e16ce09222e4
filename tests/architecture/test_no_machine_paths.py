"""What is kept names no package registry, no place of the machine it was made on, and no secret."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BINARY = {".gz", ".zip", ".parquet", ".ico", ".png", ".sqlite"}

# In pieces, so that this file is not its own first finding.
REGISTRY = re.compile("|".join((r"https?://\S*py" + "pi", "python" + "hosted", r"(?:extra-)?index" + r"[-_]url\s*=")))
MACHINE = re.compile(r"(?<![\w.<>}/])/(?:" + "work|root|home|Users" + r")/\w|file:" + r"///\w")
SECRET = re.compile(
    r"\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_\w{30,}|\beyJ[\w-]{15,}\.eyJ[\w-]{15,}\.[\w-]{15,}"
    "|-----BEGIN [A-Z ]*PRIVATE" + " KEY"
)


def kept_files():
    """All that git tracks or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"not a git checkout: {error}")
    paths = [ROOT / name for name in listed if name]
    return [path for path in paths if path.is_file() and path.suffix not in BINARY]


def findings(pattern):
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip():.100}"
        for path in kept_files()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_file_says_where_packages_come_from():
    assert findings(REGISTRY) == []


def test_no_file_names_a_place_of_this_machine():
    assert findings(MACHINE) == []
    if len(ROOT.parts) > 2:
        assert findings(re.compile(re.escape(str(ROOT)) + r"\b")) == []


def test_no_file_holds_a_secret():
    assert findings(SECRET) == []


def test_run_time_state_and_the_environment_are_ignored():
    names = ["vnpy_data/x", ".venv/x", "service.log"]
    outcome = subprocess.run(["git", "check-ignore", *names], cwd=ROOT, capture_output=True, text=True, check=False)
    if outcome.returncode == 128:
        pytest.skip("not a git checkout")
    assert outcome.stdout.split() == names
