"""What a cache tells besides its counters: give ``configure(on_event=...)`` a function of one event.

The function is called in the thread that noticed, one event at a time and in the order in which things happened.
It should be quick; what it raises is logged once and disturbs nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

__all__ = ["BreakerClosed", "BreakerOpened", "Event", "EventHook", "NearUntracked"]


@dataclass(frozen=True, slots=True)
class BreakerOpened:
    """The server does not answer: from now on calls run their functions without asking it.

    Attributes:
        server: Which one, without user and password.
        reason: What happened.
    """

    server: str
    reason: str


@dataclass(frozen=True, slots=True)
class BreakerClosed:
    """The server answers again, and is used again.

    Attributes:
        server: Which one, without user and password.
        seconds: How long it was not asked.
    """

    server: str
    seconds: float


@dataclass(frozen=True, slots=True)
class NearUntracked:
    """The server does not let a client hear of changes: what ``near=`` keeps ends by its age alone.

    Attributes:
        server: Which one, without user and password.
        reason: What it answered.
        seconds: How old something kept may become.
    """

    server: str
    reason: str
    seconds: float


Event: TypeAlias = BreakerOpened | BreakerClosed | NearUntracked
"""What the function is given."""


class EventHook(Protocol):
    """What ``on_event=`` takes: any callable of one event.

    Kinds of events may be added; ignore what you do not know.
    """

    def __call__(self, event: Event, /) -> object:
        """Note the event; what is returned is ignored."""
