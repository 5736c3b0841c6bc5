"""Tags: names under which results are found again, whatever their arguments were."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from blake3 import blake3

from .errors import ConfigurationError

if TYPE_CHECKING:
    from ._policy import Call

__all__ = ["Tags", "some_tags", "tag_tokens"]

Tags: TypeAlias = str | Iterable[str] | Callable[["Call"], str | Iterable[str] | None]
"""What ``tags=`` takes: one tag, several, or a function of the finished call that says them."""

MOST = 1000


def tag_tokens(tags: object) -> tuple[bytes, ...]:
    """Eight bytes for each tag, in an order of their own.

    Args:
        tags: One tag, or several.

    Raises:
        ConfigurationError: A tag is no string or empty, or there are more than 1,000. The tag itself is not in the
            message: it may have been made from the result.
    """
    given = (tags,) if isinstance(tags, str) else tags
    if not isinstance(given, Iterable) or isinstance(given, (bytes, bytearray, Mapping)):
        raise ConfigurationError(f"tags are strings, not a {type(tags).__name__}")
    tokens = set()
    for tag in given:
        if not isinstance(tag, str) or not tag:
            what = "an empty one" if isinstance(tag, str) else f"a {type(tag).__name__}"
            raise ConfigurationError(f"a tag is a string such as 'NIFTY50', not {what}")
        tokens.add(blake3(b"redis_memo tag 1 " + tag.encode("utf-8", "surrogatepass")).digest(8))
        if len(tokens) > MOST:
            raise ConfigurationError(f"one result has more than {MOST:,} tags")
    return tuple(sorted(tokens))


def some_tags(tags: tuple[str, ...]) -> tuple[bytes, ...]:
    """As `tag_tokens`, to invalidate: without any tag nothing is meant, which is hardly what was.

    Raises:
        TypeError: There is none.
    """
    if not tags:
        raise TypeError("invalidate_tags takes at least one tag; invalidate() without arguments takes everything")
    return tag_tokens(tags)
