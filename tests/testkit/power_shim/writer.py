"""A journal's life, told on standard output line by line as each step is acknowledged; run under the shim.

python writer.py PATH DURABILITY CHECKPOINT_PAGES [LAST WORDS]

The power fails when the last words have been said, or at the end.
"""

import ctypes
import os
import sys
from pathlib import Path

from vnpy_core.adapters.journal.settings import JournalSettings
from vnpy_core.adapters.journal.sqlite import SqliteJournal
from vnpy_core.ports.journal import Row


def row(seq):
    return Row(
        seq, "epoch", "run", seq, "order.updated", f"key-{seq}", b'{"n":%d,"x":"%s"}' % (seq, b"x" * (seq % 700))
    )


def acknowledge(*words):
    line = " ".join(map(str, words))
    os.write(1, f"{line}\n".encode())
    if line == " ".join(sys.argv[4:]):
        ctypes.CDLL(None).power_cut()


def open_journal(path, durability, checkpoint_pages, epoch):
    return SqliteJournal(
        path,
        settings=JournalSettings(durability=durability, reserve_mb=1),
        boot_id="boot",
        run_id="run",
        new_epoch=lambda: epoch,
        checkpoint_pages=checkpoint_pages,
    )


def append(journal, count):
    first = journal.state().last_seq + 1
    journal.append([row(seq) for seq in range(first, first + count)])
    acknowledge("seq", first + count - 1)


def live(path, durability, checkpoint_pages):
    journal = open_journal(path, durability, checkpoint_pages, "1")
    for count in (1, 1, 5, 1, 20, 1, 3, 40, 1, 1):
        append(journal, count)
    journal.mark_undurable(True)
    acknowledge("mark 1")
    append(journal, 2)
    # From here on the mark may be gone or not, whenever the power fails, until its removal is acknowledged.
    acknowledge("mark leaving")
    journal.mark_undurable(False)
    acknowledge("mark 0")
    journal.cut(7, 28)
    acknowledge("cut 7")
    for count in (1, 9, 2):
        append(journal, count)
    journal.close()
    journal = open_journal(path, durability, checkpoint_pages, "2")
    for count in (1, 30, 1):
        append(journal, count)
    journal._make_epoch = lambda: "3"
    journal.new_epoch()
    acknowledge("epoch 3")
    for count in (1, 2, 1):
        append(journal, count)


if __name__ == "__main__":
    live(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    shim = ctypes.CDLL(None)
    acknowledge("operations", shim.power_operations())
    shim.power_cut()
