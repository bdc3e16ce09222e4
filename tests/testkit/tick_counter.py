"""A client process that asks for every tick and counts them: `python tick_counter.py ws://… token`.

Prints `subscribed` once it is, then one JSON line when the replay has ended and a second passed without a tick.
"""

import json
import sys
import time

from websockets.sync.client import connect


def main(url: str, token: str) -> None:
    last: dict[str, int] = {}
    counted = gaps = repeats = 0
    order_seqs: list[int] = []
    with connect(url, additional_headers={"Authorization": f"Bearer {token}"}, max_size=None, max_queue=1024) as socket:
        topics = ["log", "order.updated", "trade.executed"]
        socket.send(json.dumps({"op": "subscribe", "id": 1, "topics": topics}))
        socket.send(json.dumps({"op": "subscribe", "id": 2, "topics": ["tick.*"], "conflate": False}))
        ended, started = False, time.monotonic()
        while True:
            try:
                message = json.loads(socket.recv(timeout=1 if ended else 120))
            except TimeoutError:
                break
            if message.get("op") == "subscribed" and message["id"] == 2:
                print("subscribed", flush=True)
            elif message.get("op") == "gap":
                gaps += 1
            topic = message.get("topic", "")
            if topic.startswith("tick.") and not message.get("snapshot"):
                seq = message["data"]["tick_seq"]
                before = last.get(topic, 0)
                counted += 1
                gaps += seq > before + 1
                repeats += seq <= before
                last[topic] = max(seq, before)
                if counted == 1:
                    started = time.monotonic()
                finished = time.monotonic()
            elif topic in ("order.updated", "trade.executed") and not message.get("snapshot"):
                order_seqs.append(message["seq"])
            elif topic == "log" and "replay finished" in message["data"]["msg"]:
                ended = True
    rising = order_seqs == sorted(set(order_seqs))
    seconds = finished - started if counted else 0.0
    summary = {"ticks": counted, "gaps": gaps, "repeats": repeats, "orders_rising": rising, "seconds": seconds}
    print(json.dumps({**summary, "order_messages": len(order_seqs)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
