"""Share a core's events among workers: each is handled by one of them, and again by another where that one died.

python redis_group.py redis://127.0.0.1:6379/0 core accounting worker-1
"""

import json
import sys
import time

import redis

IDLE_MS = 500
"""A worker that has not acknowledged for so long is taken for dead; minutes, where work takes long."""

server = redis.Redis.from_url(sys.argv[1], decode_responses=True)
node, group, worker = sys.argv[2:5]


def handle(event: dict) -> None:
    """Your work; an event may come twice (the worker before died in between), so let its seq name what you write."""
    print(event["seq"], event["topic"], flush=True)


def work_on(stream: str) -> None:
    """What a dead worker left, then what is new."""
    _, left, *_ = server.xautoclaim(stream, group, worker, IDLE_MS, "0-0", count=100)
    new = server.xreadgroup(group, worker, {stream: ">"}, count=100, block=500) or []
    for entry_id, fields in [*left, *(entry for _, entries in new for entry in entries)]:
        if fields:  # none: trimmed meanwhile
            handle(json.loads(fields["event"]))
        server.xack(stream, group, entry_id)


while True:
    try:
        epoch = server.get(f"vnpy_core:{node}:epoch")
        if epoch is None:
            time.sleep(0.1)
            continue
        stream = f"vnpy_core:{node}:events:{epoch}"
        try:
            work_on(stream)
        except redis.ResponseError as error:
            if not str(error).startswith(("NOGROUP", "UNBLOCKED")):  # UNBLOCKED: emptied while we waited
                raise
            # The first time, after a new epoch, and after Redis was emptied: then the events in it come again.
            server.xgroup_create(stream, group, id="0", mkstream=True)
    except redis.RedisError as error:  # away or hanging: ask again
        if not str(error).startswith("BUSYGROUP"):  # another worker was quicker
            print(f"Redis: {error}", file=sys.stderr, flush=True)
            time.sleep(0.1)
