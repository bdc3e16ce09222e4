"""Follow a core: every order, fill and position in order; stopped and started again, it goes on where it was.

python redis_reader.py redis://127.0.0.1:6379/0 core place.json
"""

import json, pathlib, sys, time  # noqa: E401, I001 - twenty lines
import redis

server, node, place = redis.Redis.from_url(sys.argv[1], decode_responses=True), sys.argv[2], pathlib.Path(sys.argv[3])
epoch, last = json.loads(place.read_text()) if place.exists() else (None, None)
while True:
    found = []
    try:
        current = server.get(f"vnpy_core:{node}:epoch")
        if current is not None and current != epoch:  # the first time, or the core's journal was restored: start anew
            epoch, last = current, None
        if current is not None:  # else no core has published yet, or Redis was emptied a moment ago
            stream = f"vnpy_core:{node}:events:{epoch}"
            found = server.xread({stream: f"{last or 0}-0"}, count=500, block=1000) or []
    except redis.RedisError as error:  # away or hanging: ask again from the same place
        print(f"Redis: {error}", file=sys.stderr, flush=True)
    for _, entries in found:
        for _, fields in entries:
            event = json.loads(fields["event"])
            if last is not None and event["prev_seq"] > last:
                print("GAP", last, event["prev_seq"], flush=True)  # trimmed meanwhile: read the state from the cache
            print(event["seq"], event["topic"], json.dumps(event["data"]), flush=True)  # do your work here
            last = event["seq"]
        place.write_text(json.dumps([epoch, last]))
    if not found:
        time.sleep(0.1)
