"""What a wrong address of Redis is answered with."""

from __future__ import annotations

import traceback

import pytest
from pydantic import SecretStr

from vnpy_core.kit.redis import RedisSettings, connect


@pytest.mark.parametrize("password", ["hunter#two", "hunter/two", "hunter?two", "hunter[two"])
def test_a_password_that_the_url_cannot_hold_is_not_told_to_anybody(password):
    with pytest.raises(ValueError, match="%23") as caught:
        connect(RedisSettings(url=SecretStr(f"redis://desk:{password}@127.0.0.1:6379/0")))
    told = "".join(traceback.format_exception(caught.value, chain=True))
    assert "hunter" not in told


@pytest.mark.parametrize("url", ["http://127.0.0.1:6379", "redis://127.0.0.1:6379/0?no_such_option=1"])
def test_what_is_no_redis_url_is_refused(url):
    with pytest.raises(ValueError, match="redis://user:password@host:6379/0"):
        connect(RedisSettings(url=SecretStr(url)))
