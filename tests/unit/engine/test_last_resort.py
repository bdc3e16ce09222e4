import subprocess
import sys
from pathlib import Path

from vnpy_core.engine.last_resort import LastResort, was_running

FROZEN = """
import sys, time
from pathlib import Path
from vnpy_core.engine.last_resort import LastResort
resort = LastResort(Path(sys.argv[1]), 0.5)
def lively():
    for _ in range(20):
        resort.put_off()
        time.sleep(0.05)
def frozen():
    sum(range(10**13))
lively()
print("lived", flush=True)
frozen()
"""


def test_a_process_that_keeps_the_interpreter_is_ended_and_leaves_its_stack(tmp_path):
    script = tmp_path / "策略.py"
    script.write_text(FROZEN)
    data = tmp_path / "data"
    process = subprocess.run([sys.executable, script, data], check=False, capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stdout) == (1, "lived\n"), process.stderr
    resort = LastResort(data, 60)
    try:
        words = resort.last_words
        assert " in frozen" in words
        assert was_running(words, script)
        assert not was_running(words, tmp_path / "other.py")
        resort.forget()
        again = LastResort(data, 60)
        assert again.last_words == ""
        again.close()
    finally:
        resort.close()


def test_one_that_was_closed_ends_nothing(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from vnpy_core.engine.last_resort import LastResort\n"
        "resort = LastResort(Path(sys.argv[1]), 0.1); resort.put_off(); resort.close(); resort.close(); time.sleep(0.4)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False, timeout=60).returncode == 0


def test_a_file_is_told_from_another_of_the_same_name():
    words = 'Thread 0x1 (most recent call first):\n  File "/a/strategies/grid.py", line 7 in on_tick\n'
    assert was_running(words, Path("/a/strategies/grid.py"))
    assert not was_running(words, Path("/b/strategies/grid.py"))
    assert not was_running(words, Path("/a/strategies/grid.pyc"))
