"""Whatever fails on the way up or down, the files of a service are closed at its end."""

import pytest

from vnpy_core.adapters.journal.sqlite import SqliteJournal
from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.settings import load_settings


@pytest.fixture
def settings(vnpy_home, tmp_path):
    made = load_settings(None)
    return made.model_copy(update={"paths": made.paths.model_copy(update={"data": tmp_path / "data"})})


@pytest.fixture
def closed(monkeypatch):
    calls, close = [], SqliteJournal.close
    monkeypatch.setattr(SqliteJournal, "close", lambda self, **how: (calls.append(how), close(self, **how))[1])
    return calls


async def test_an_undo_that_raises_does_not_leave_the_journal_open(settings, closed):
    from vnpy_core.app import Service

    service = Service(settings)
    await service.start()
    service.engine._undo.callback(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await service.stop()
    service._credentials.close()
    assert closed == [{"clean": True}]


async def test_a_store_that_cannot_be_made_does_not_leave_the_journal_open(settings, closed, monkeypatch):
    from vnpy_core import app

    def refuse(*_):
        raise ConfigurationError("no such driver")

    monkeypatch.setattr(app, "store_url", refuse)
    with pytest.raises(ConfigurationError):
        app.Service(settings)
    assert closed == [{}]
