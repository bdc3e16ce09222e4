from __future__ import annotations

import subprocess
import sys

FEW = """
import resource
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))
from vnpy_core.web import serving

async def look():
    return resource.getrlimit(resource.RLIMIT_NOFILE) == (most, most)

print(serving.run(look))
"""


def test_a_process_may_have_as_many_connections_as_the_system_lets_it() -> None:
    ran = subprocess.run([sys.executable, "-c", FEW], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == "True"
