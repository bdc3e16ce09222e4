"""Credit: how a replay that runs as fast as possible waits for its slowest consumer."""

from collections.abc import Callable
from typing import Protocol


class Flow(Protocol):
    """Any thread may call. Consumers hold the flow while they are behind; a feed asks before each step."""

    @property
    def open(self) -> bool:
        """Whether no consumer is behind."""
        ...

    def hold(self, consumer: str) -> None:
        """`consumer` is behind: a fast replay pauses."""
        ...

    def release(self, consumer: str) -> None:
        """`consumer` caught up (or went away); the last one to do so resumes the waiting feeds."""
        ...

    def when_open(self, resume: Callable[[], None]) -> None:
        """Call `resume` once, from the releasing thread, as soon as the flow is open (at once if it is)."""
        ...
