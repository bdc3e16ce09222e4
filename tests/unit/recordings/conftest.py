import pytest


@pytest.fixture
def write(tmp_path):
    """Put a text or bytes into a file; returns its path."""

    def write(content: str | bytes, name: str = "ticks.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write
