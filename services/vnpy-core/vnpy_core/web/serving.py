"""How a process of ours listens and serves: what a core and an edge have in common."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import uvicorn
from fastapi import FastAPI

from vnpy_core.domain.errors import ConfigurationError

GRACE_S = 3
"""How long requests under way may take at the end, seconds."""

T = TypeVar("T")
Announce = Callable[[str], None]


@contextmanager
def listen(host: str, port: int, *, setting: str = "server.port") -> Iterator[socket.socket]:
    """A socket, taken before anything slow starts; `setting` names what to change where it cannot be had.

    Raises ConfigurationError.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sends small answers at once (TCP_NODELAY) only where it is.
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {host}:{port}: {error.strerror}; stop what uses it or set {setting}"
            ) from error
        yield listener


def address(listener: socket.socket) -> str:
    """The URL of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn without its own signal handlers: what it serves comes to rest before the sockets close."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them to whoever serves."""
        yield


def server(api: FastAPI, **settings: Any) -> Server:
    """A server of `api`; `settings` are uvicorn's."""
    return Server(
        uvicorn.Config(
            api, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=GRACE_S, **settings
        )
    )


async def serve_until(
    stop: asyncio.Event, server: Server, listener: socket.socket, on_ready: Announce
) -> asyncio.Task[None]:
    """Serve on `listener`; returns when `stop` is set, or serving ends by itself, with the task that serves.

    It goes on until its server's `should_exit` is set. `on_ready` gets the address once requests are answered.
    """
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    serving.add_done_callback(lambda _: stop.set())  # nobody is served any more
    while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    on_ready(address(listener))
    await stop.wait()
    return serving


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Run `work` in the loop that uvicorn prefers, with as many open files as the system lets this process have."""
    # Many systems begin with 1,024, which is fewer than the clients that may come.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    async def main() -> T:
        return await work()

    factory = uvicorn.Config(lambda: None, loop="auto", log_config=None).get_loop_factory()
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


def on_signals(request_stop: Callable[[], None]) -> None:
    """Call `request_stop` at SIGTERM and SIGINT, from the running loop."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, request_stop)
