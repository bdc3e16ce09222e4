import pytest


@pytest.fixture(autouse=True)
def _home(vnpy_home):
    """Some of these import vnpy."""
