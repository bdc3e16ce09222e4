"""The message bus in Redis: a stream for each epoch, and channels.

Keys, after `vnpy_core:<node>:` — `events:<epoch>` the stream (id `<seq>-0`, field `event`), `epoch` the current one,
`writer` who writes now. Channels: `vnpy_core:<node>:<topic>`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec
from redis.exceptions import ResponseError

from vnpy_core.adapters.broker.settings import LEAST, BrokerSettings
from vnpy_core.domain.errors import BrokerUnavailable, StreamMoved
from vnpy_core.kit.redis import PREFIX, RedisSettings, close, connect, unavailable_as
from vnpy_core.ports.broker import Entry, Signal

FORMER_EXPIRES_S = 3 * 24 * 3600
"""How long the streams of former epochs stay, seconds."""
WRITER_S = 10.0
"""How long after its last word a core still counts as the one that writes, seconds."""
FIELD = b"event"
BATCH = 500
"""Messages that a listener gets at once, at most."""

_LAST_OF = """
local function last_of(stream)
  if redis.call('EXISTS', stream) == 0 then return nil end
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    -- a consumer group that was there before the first entry makes an empty stream
    if info[i] == 'last-generated-id' and info[i + 1] ~= '0-0' then return info[i + 1] end
  end
end
"""
_BEGIN = (
    _LAST_OF
    + """
-- KEYS: epoch, writer. ARGV: epoch, owner, lease (ms), streams' prefix, seconds until a former stream expires, anew
local writer = redis.call('GET', KEYS[2])
if writer and writer ~= ARGV[2] then return {'taken', writer} end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
local former = redis.call('GET', KEYS[1])
if former and former ~= ARGV[1] then redis.call('EXPIRE', ARGV[4] .. former, ARGV[5]) end
if former ~= ARGV[1] then redis.call('SET', KEYS[1], ARGV[1]) end
local stream = ARGV[4] .. ARGV[1]
if ARGV[6] == '1' then redis.call('UNLINK', stream) else redis.call('PERSIST', stream) end
return {'ok', last_of(stream)}
"""
)
_APPEND = (
    _LAST_OF
    + """
-- KEYS: stream, epoch, writer. ARGV: epoch, owner, lease (ms), id before the first, whether there is a stream already,
-- length, id to keep from, how many stay anyway; then id, envelope, id, envelope, ...
local writer = redis.call('GET', KEYS[3])
if writer and writer ~= ARGV[2] then return {'taken', writer} end
local epoch = redis.call('GET', KEYS[2])
if epoch ~= ARGV[1] then return {'epoch', epoch} end
local last = last_of(KEYS[1])
if last and last ~= ARGV[4] then return {'last', last} end
if not last and ARGV[5] == '1' then return {'lost'} end
redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
for i = 9, #ARGV, 2 do
  redis.call('XADD', KEYS[1], ARGV[i], 'event', ARGV[i + 1])
end
redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', ARGV[6])
if ARGV[7] ~= '0-0' then
  local more = redis.call('XLEN', KEYS[1]) - tonumber(ARGV[8])
  if more > 0 then redis.call('XTRIM', KEYS[1], 'MINID', '~', ARGV[7], 'LIMIT', more) end
end
return {'ok'}
"""
)
_PUBLISH = """
-- ARGV: channel, envelope, channel, envelope, ...
for i = 1, #ARGV, 2 do redis.call('PUBLISH', ARGV[i], ARGV[i + 1]) end
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""


class _Place(msgspec.Struct):
    """What of an envelope the stream's reader looks at."""

    prev_seq: int


_places = msgspec.json.Decoder(_Place)


class RedisBroker:
    """Implements `ports.broker.Broker`."""

    def __init__(
        self, redis: RedisSettings, node: str, settings: BrokerSettings | None = None, *, owner: str = ""
    ) -> None:
        """`node`: the core's name; `owner`: who this core is, the same after each of its restarts and no other's.

        Raises ValueError for a wrong URL.
        """
        self._timeout_s = redis.timeout_s
        self._client = connect(redis)
        self._settings = settings or BrokerSettings()
        self._node = node
        self._owner = owner or node
        self._prefix = f"{PREFIX}:{node}:"
        self._streams = f"{self._prefix}events:"
        self._epoch_key = f"{self._prefix}epoch"
        self._writer_key = f"{self._prefix}writer"
        self._begin = self._client.register_script(_BEGIN)
        self._append = self._client.register_script(_APPEND)
        self._publish = self._client.register_script(_PUBLISH)
        self._release = self._client.register_script(_RELEASE)
        self._exists = False
        """Whether the stream is there, as far as this one knows: where it is not, it was lost."""
        self._writes = False

    async def open(self) -> None:
        """See whether the server answers."""
        with unavailable_as(BrokerUnavailable):
            await self._client.ping()

    async def close(self) -> None:
        """Let another core write under this name at once, and close all connections but those that listen."""
        try:
            if self._writes:
                with unavailable_as(BrokerUnavailable):
                    await self._release(keys=[self._writer_key], args=[self._owner])
        except BrokerUnavailable:
            pass  # it lapses by itself
        finally:
            self._writes = False
            await close(self._client)

    # --- the core's side ---

    async def begin(self, epoch: str, *, anew: bool = False) -> int | None:
        """Make `epoch` the current one; say so again now and then, so that no other core takes the name."""
        keys = [self._epoch_key, self._writer_key]
        lease = int(WRITER_S * 1000)
        args: list[str | int] = [epoch, self._owner, lease, self._streams, FORMER_EXPIRES_S, int(anew)]
        with unavailable_as(BrokerUnavailable):
            answer = await self._begin(keys=keys, args=args)
        self._check(answer)
        self._writes = True
        last = _seq_of(answer[1]) if len(answer) > 1 else None
        self._exists = last is not None
        return last

    async def append(self, epoch: str, entries: Sequence[Entry], *, keep_from: int = 0) -> None:
        """Add entries by one script, which looks first whether they belong there."""
        if not entries:
            return
        args: list[Any] = [
            epoch, self._owner, int(WRITER_S * 1000), f"{entries[0].prev_seq}-0", int(self._exists),
            self._settings.length, f"{keep_from}-0", LEAST,
        ]  # fmt: skip
        for entry in entries:
            args += (f"{entry.seq}-0", entry.envelope)
        with unavailable_as(BrokerUnavailable):
            answer = await self._append(keys=[self._streams + epoch, self._epoch_key, self._writer_key], args=args)
        self._check(answer)
        self._exists = True

    async def publish(self, signals: Sequence[Signal]) -> None:
        """All by one script: it has one answer, where a pipeline has one for each."""
        if not signals:
            return
        with unavailable_as(BrokerUnavailable):
            await self._publish(args=[part for topic, text in signals for part in (self._prefix + topic, text)])

    # --- the readers' side ---

    async def epoch(self) -> str | None:
        """The current epoch."""
        with unavailable_as(BrokerUnavailable):
            epoch: Any = await self._client.get(self._epoch_key)
        return epoch.decode() if epoch else None

    async def last(self, epoch: str) -> int | None:
        """The seq of the stream's last entry, also of one that was trimmed since."""
        with unavailable_as(BrokerUnavailable):
            try:
                info = await self._client.xinfo_stream(self._streams + epoch)
            except ResponseError as error:
                if "no such key" in str(error):
                    return None
                raise
        return _seq_of(info["last-generated-id"]) or None

    async def tail(self, epoch: str, limit: int) -> list[Entry]:
        """The newest entries, oldest first."""
        with unavailable_as(BrokerUnavailable):
            found: Any = await self._client.xrevrange(self._streams + epoch, count=limit)
        return [_entry(*each) for each in reversed(found)]

    async def read(self, epoch: str, after: int, limit: int, wait_s: float) -> list[Entry]:
        """Waits in short turns, so that a server that hangs is noticed within two timeouts."""
        time = asyncio.get_running_loop().time
        deadline = time() + wait_s
        while True:
            turn = min(deadline - time(), self._timeout_s / 2)
            block = max(1, int(turn * 1000)) if turn > 0 else None
            with unavailable_as(BrokerUnavailable):
                found: Any = await self._client.xread({self._streams + epoch: f"{after}-0"}, count=limit, block=block)
            if found:
                return [_entry(*each) for each in found[0][1]]
            if block is None:
                return []

    @asynccontextmanager
    async def listen(self, patterns: Sequence[str]) -> AsyncIterator[AsyncIterator[list[Signal]]]:
        """By a connection of its own."""
        pool: Any = self._client.connection_pool  # untyped, as its connections are
        connection = pool.make_connection()
        try:
            with unavailable_as(BrokerUnavailable):
                await connection.connect()
                early = await self._subscribe(connection, patterns)
            async with aclosing(self._hear(connection, early)) as batches:
                yield batches
        finally:
            await connection.disconnect(nowait=True)

    async def _subscribe(self, connection: Any, patterns: Sequence[str]) -> list[Any]:
        """Returns what was published meanwhile."""
        beginnings = {pattern[:-1] for pattern in patterns if pattern.endswith("*")}
        # What two subscriptions match would be heard twice.
        widest = [each for each in beginnings if not any(each != b and each.startswith(b) for b in beginnings)]
        exact = [each for each in set(patterns) if not each.endswith("*") and not each.startswith(tuple(widest))]
        if widest:
            await connection.send_command("PSUBSCRIBE", *(_literally(self._prefix + each) + "*" for each in widest))
        if exact:
            await connection.send_command("SUBSCRIBE", *(self._prefix + each for each in exact))
        early = []
        due = len(widest) + len(exact)
        while due:
            heard = await connection.read_response(disable_decoding=True)
            if heard[0] in (b"subscribe", b"psubscribe"):
                due -= 1
            else:
                early.append(heard)
        return early

    async def _hear(self, connection: Any, early: list[Any]) -> AsyncGenerator[list[Signal], None]:
        skip = len(self._prefix.encode())
        if batch := _signals(early, skip):
            yield batch
        asked = False
        while True:
            with unavailable_as(BrokerUnavailable):
                first = await connection.read_response(disable_decoding=True, timeout=self._timeout_s / 2)
                if first is None:
                    if asked:
                        raise BrokerUnavailable(f"Redis: no answer within {self._timeout_s} s")
                    await connection.send_command("PING")
                    asked = True
                    continue
                asked = False
                heard = [first]
                while len(heard) < BATCH and await connection.can_read():
                    heard.append(await connection.read_response(disable_decoding=True))
            if batch := _signals(heard, skip):
                yield batch
            if len(heard) == BATCH:
                await asyncio.sleep(0)  # there is more in the buffer, and others want the loop too

    def _check(self, answer: list[Any]) -> None:
        """Raises StreamMoved where a script refused."""
        verdict = answer[0].decode()
        found = answer[1].decode() if len(answer) > 1 and answer[1] else "none"
        match verdict:
            case "taken":
                detail = f"another core calls itself {self._node!r} in this Redis, and publishes: {found}"
                raise StreamMoved(detail, by_other=True)
            case "epoch":
                raise StreamMoved(f"the epoch in Redis is {found}: it was lost, or another core is {self._node!r} too")
            case "last":
                raise StreamMoved(f"the stream ends at {found}: another core is {self._node!r} too, or it was changed")
            case "lost":
                raise StreamMoved("Redis lost the stream")
            case _:
                pass


def _seq_of(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])


def _entry(entry_id: bytes, fields: dict[bytes, bytes]) -> Entry:
    envelope = fields.get(FIELD, b"")
    try:
        prev_seq = _places.decode(envelope).prev_seq
    except msgspec.DecodeError:
        prev_seq = 0  # a stranger's: readers leave out what they cannot decode, and must get past it
    return Entry(_seq_of(entry_id), prev_seq, envelope)


def _signals(heard: list[Any], skip: int) -> list[Signal]:
    """Messages have their channel and their text last; what is no message is left out."""
    return [
        (each[-2][skip:].decode(), each[-1])
        for each in heard
        if type(each) is list and each[0] in (b"message", b"pmessage")
    ]


def _literally(text: str) -> str:
    return re.sub(r"([*?\[\]\\^])", r"\\\1", text)
