"""The plugin's engine: the service on a loop in a thread of its own, attached to the host's MainEngine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from vnpy.event import EventEngine
from vnpy.trader.engine import BaseEngine, MainEngine
from vnpy.trader.utility import TEMP_DIR

from vnpy_core.domain.errors import ConfigurationError, describe
from vnpy_core.kit.lock import DataFolderLock
from vnpy_core.kit.logging import configure_logging
from vnpy_core.settings import Settings, load_settings

if TYPE_CHECKING:
    from vnpy_core.app import Service

APP_NAME = "VnpyCoreService"
FOLDER = "vnpy_core"
"""Below VnPy's own folder: service.toml (optional), the service's data and its log."""

_log = structlog.get_logger(__name__)


class CoreServiceEngine(BaseEngine):  # type: ignore[misc]
    """Made by `add_app` on the host's thread; `close` is called by MainEngine.close().

    A service that cannot start (its port is taken, its configuration wrong) logs why and leaves the host alone.
    """

    def __init__(self, main_engine: MainEngine, event_engine: EventEngine) -> None:
        super().__init__(main_engine, event_engine, APP_NAME)
        self.address = ""
        """Where the service answers, once it does."""
        self.error = ""
        """Why it does not."""
        self.ready = threading.Event()
        """Set when either is known."""
        self._service: Service | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vnpy-core-service", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take the wraps off and end the service's thread. Any thread, once or again."""
        self._closing.set()  # seen by a service that is still being made
        if self._service is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # its loop closed meanwhile
                self._service.request_stop()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        logging = contextlib.ExitStack()
        try:
            settings = plugin_settings(Path(TEMP_DIR) / FOLDER)
            if not structlog.is_configured():
                logging.callback(structlog.reset_defaults)
                log = settings.paths.data / "service.log"
                logging.callback(configure_logging(settings.log.level, "json", file=log))
            asyncio.run(self._serve(settings))
        except Exception as error:  # noqa: BLE001 - a guarded door: the host must not suffer from its guest
            self.error = describe(error)
            self.main_engine.write_log(f"vnpy_core: the service does not run: {self.error}", APP_NAME)
        finally:
            logging.close()
            self.ready.set()

    async def _serve(self, settings: Settings) -> None:
        # Not before: processes that only want VnPy's database come by here, and the web takes seconds to import.
        from vnpy_core.app import Service, stored_seq
        from vnpy_core.web.serving import listen

        server = settings.server
        with DataFolderLock(settings.paths.data), listen(server.host, server.port) as socket:
            if self._closing.is_set():
                return
            after = await stored_seq(settings)
            self._service = Service(settings, begin_after=after, main_engine=self.main_engine)
            if self._closing.is_set():
                self._service.request_stop()
            await self._service.run(socket, on_ready=self._on_ready)

    def _on_ready(self, address: str) -> None:
        self.address = address
        self.ready.set()
        self.main_engine.write_log(f"vnpy_core: the service answers at {address}", APP_NAME)


def plugin_settings(folder: Path) -> Settings:
    """`$VNPYCORE_CONFIG`, else `service.toml` of `folder`, else the defaults with `folder` for data.

    Raises ConfigurationError, also where a service.toml came later that leads away from the data that are in `folder`.
    """
    named = os.environ.get("VNPYCORE_CONFIG")
    path = Path(named) if named else folder / "service.toml"
    if path.exists() or named:
        settings = load_settings(path)
        if "data" not in settings.paths.model_fields_set and _has_data(folder) and not _has_data(settings.paths.data):
            raise ConfigurationError(
                f"the service's data are in {folder}, and {path} does not say so: give [paths] data = "
                f'"{"." if path.parent == folder else folder}", or move them to {settings.paths.data}'
            )
        return settings
    settings = load_settings(None)
    return settings.model_copy(update={"paths": settings.paths.model_copy(update={"data": folder})})


def _has_data(folder: Path) -> bool:
    return (folder / "journal.sqlite").exists()
