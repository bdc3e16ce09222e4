"""`vnpy-core init`: a folder with a commented configuration and a demo strategy."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.kit.files import write_atomic

SERVICE_TOML = Path("vnpy_config/service.toml")
FILES = {
    SERVICE_TOML: "service.toml",
    Path("vnpy_config/contracts.toml"): "contracts.toml",
    # Not a .py inside the package: it is a user's file, which imports vnpy and is no module of ours.
    Path("strategies/demo_strategy.py"): "demo_strategy.py.txt",
}
"""Where each file goes -> the template it is."""


def template(name: str) -> str:
    """The text of a template that ships with the package."""
    return (files("vnpy_core") / "templates" / name).read_text(encoding="utf-8")


def initialise(folder: Path, *, force: bool = False) -> list[Path]:
    """Write the files below `folder` and return their paths. Raises ConfigurationError where one exists."""
    present = [str(folder / path) for path in FILES if (folder / path).exists()]
    if present and not force:
        raise ConfigurationError(f"there already: {', '.join(present)}; --force writes over them")
    for path, name in FILES.items():
        write_atomic(folder / path, template(name).encode())
    return [folder / path for path in FILES]
