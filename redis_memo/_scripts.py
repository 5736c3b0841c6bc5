"""The Lua scripts: each is its file in ``lua/``, behind what it needs of the functions that several have in common.

Those functions are made anew by each run of a script: all of them would be a third of what the server does for a lease.
"""

from __future__ import annotations

import functools
import hashlib
import re
from importlib import resources
from typing import NamedTuple

__all__ = [
    "ACQUIRE", "COUNT", "DROP", "DROP_MATCHING", "ENROLL", "FILL", "INSPECT", "KEYS", "MEND", "MOVE_KEY", "PUT",
    "RELEASE", "RENEW", "REVOKE", "SEIZE", "STRIKE", "TIDY", "TOUCH", "TRIM", "USAGE", "Script",
]  # fmt: skip

_IN_COMMON = ("entry", "uses", "index")
_NAMES = re.compile(r"local (?:function )?(\w+(?:, \w+)*)")


class Script:
    """One script: its text, and the name by which the server knows it."""

    def __init__(self, name: str) -> None:
        own = _read(name)
        wanted = _words(own)
        needed = []
        for part in reversed(_parts()):  # what one needs stands before it
            if part.names & wanted:
                needed.append(part.text)
                wanted |= part.words
        self.text = "".join((*reversed(needed), own)).encode()
        self.sha = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()


class _Part(NamedTuple):
    """A function, or a line of constants, that scripts have in common."""

    text: str
    names: frozenset[str]
    words: frozenset[str]


def _read(name: str) -> str:
    """A file without its comments, which the server need not be sent."""
    text = (resources.files(__package__) / "lua" / f"{name}.lua").read_text()
    return re.sub(r"(?m)^\s*--.*\n|\s+-- .*$", "", text)


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text))


@functools.cache
def _parts() -> tuple[_Part, ...]:
    found = []
    for text in re.split(r"(?m)^(?=local )", "".join(map(_read, _IN_COMMON))):
        names = _NAMES.match(text)
        if names is not None:
            found.append(_Part(text, frozenset(names[1].split(", ")), _words(text)))
    return tuple(found)


ACQUIRE, SEIZE, FILL, PUT, RELEASE, RENEW = map(Script, ("acquire", "seize", "fill", "put", "release", "renew"))
DROP, DROP_MATCHING, REVOKE = map(Script, ("drop", "dropmatching", "revoke"))
COUNT, TIDY, INSPECT, KEYS, MOVE_KEY = map(Script, ("count", "tidy", "inspect", "keys", "movekey"))
TOUCH, MEND, USAGE, TRIM = map(Script, ("touch", "mend", "usage", "trim"))
ENROLL, STRIKE = map(Script, ("enroll", "strike"))
