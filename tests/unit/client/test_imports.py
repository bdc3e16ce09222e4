"""The client is for programs that have neither VnPy nor the service's other parts."""

from __future__ import annotations

import subprocess
import sys

from vnpy_core.bus import topics
from vnpy_core.bus.envelope import _TYPES
from vnpy_core.client import messages

ALLOWED = {
    "anyio", "certifi", "h11", "h2", "hpack", "httpcore2", "httpx2", "hyperframe", "idna", "msgspec", "sniffio",
    "truststore", "typing_extensions", "vnpy_core", "websockets",
}  # fmt: skip


def test_it_imports_neither_vnpy_nor_the_services_rooms():
    code = (
        "import sys; standard = set(sys.stdlib_module_names); before = set(sys.modules)\n"
        "import vnpy_core.client\n"
        "print(*sorted({m.partition('.')[0] for m in set(sys.modules) - before} - standard))\n"
        "print(*sorted({m.split('.')[1] for m in sys.modules if m.startswith('vnpy_core.')}))"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    packages, rooms = outcome.stdout.splitlines()
    assert {name for name in packages.split() if not name.startswith("_")} <= ALLOWED
    assert set(rooms.split()) == {"client", "domain", "kit"}


def test_it_knows_the_services_topics_and_their_types():
    assert messages.TYPES == _TYPES
    assert set(messages.TYPES) == set(topics.FIXED_TOPICS)
    lossless = {name for name, kind in topics.FIXED_TOPICS.items() if kind is topics.DataClass.LOSSLESS}
    assert set(messages.LOSSLESS) == lossless
    assert messages.TICK == topics.TICK_PREFIX
