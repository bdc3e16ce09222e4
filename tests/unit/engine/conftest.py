import pytest


@pytest.fixture(autouse=True)
def _home(vnpy_home):
    """Everything here imports vnpy."""
