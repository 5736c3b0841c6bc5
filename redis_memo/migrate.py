"""Bring along what a process has in a dict, an LRU or a ``TTLCache``; files and stores: ``redis-memo migrate``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._clock import now
from ._migrate_calls import Target, arguments_of
from ._migrate_fields import Unfit
from ._migrate_items import Content, Item, Mark
from ._migrate_journal import Journal
from ._migrate_plan import Outcome
from ._migrate_rules import Rules
from ._migrate_run import Report, migrate
from ._migrate_sources import Source
from ._migrate_undo import roll_back

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Outcome", "Report", "migrate_mapping", "rollback"]


def migrate_mapping(
    mapping: Mapping[Any, Any],
    *,
    into: Any,
    key: Callable[[Any], object],
    value: Callable[[Any], object] | None = None,
    created: Callable[[Any], float] | None = None,
    dry_run: bool = False,
    manifest: str | os.PathLike[str] | None = None,
) -> Report:
    """Store what a mapping holds as results of a decorated function, which then hits.

    The mapping is left as it is. What Redis already has of a call, and is newer or equal, stays. Each entry is read
    back and compared.

    Args:
        mapping: A dict, an ``OrderedDict``, a ``cachetools.TTLCache`` (whose entries keep their age), or any other.
        into: The decorated function; for a method, one that is bound to its object.
        key: From a key of the mapping to the arguments of the call: a dict by name, a tuple by position, a tuple and a
            dict, or one argument alone; None leaves the entry out.
        value: From what the mapping holds to what the function returns, as ``lambda held: held[0]`` of
            ``(frame, metadata)``.
        created: From what the mapping holds to when it was computed, in seconds since 1970. Left out: now.
        dry_run: Only say what would be done.
        manifest: A file by which `rollback` can put Redis back; made where there is none.

    Returns:
        What became of each item, in the order of their age; an item is called by its position and the type of its
        key. ``report.failed`` is empty where all is well.

    Raises:
        ConfigurationError: ``into`` is not decorated, or the manifest is another migration's.
        StoreError: Redis cannot be asked.
    """
    target = _target(into)
    outcomes: list[Outcome] = []
    items: list[Item] = []
    for number, held in enumerate(list(mapping)):
        name = f"item {number} ({type(held).__name__})"
        try:
            item = _item(mapping, held, name, key=key, value=value, created=created)
        except Unfit as error:
            outcomes.append(Outcome(name, "failed", str(error)))
            continue
        if item is None:
            outcomes.append(Outcome(name, "skipped", "key= leaves it out"))
        else:
            items.append(item)
    source = Source("mapping", type(mapping).__name__, items)
    with nullcontext() if manifest is None or dry_run else Journal(Path(manifest), create=True) as journal:
        report = migrate(source, target, Rules(), journal, workers=1, dry=dry_run)
    return Report(outcomes + report.outcomes)


def rollback(manifest: str | os.PathLike[str], *, into: Any) -> Report:
    """Put Redis, and files that a clean-up moved, back to where they were; as ``redis-memo migrate rollback``.

    An entry that the function has computed anew since is its own, and stays.

    Args:
        manifest: Of `migrate_mapping`, or of the command.
        into: The decorated function.

    Returns:
        What became of each key and file: ``"deleted"``, ``"restored"``, ``"left"`` or ``"failed"``. Where nothing
        failed, the manifest is gone.

    Raises:
        ConfigurationError: There is no such manifest, or ``into`` is not decorated.
    """
    with Journal(Path(manifest), create=False) as journal:
        return roll_back(journal, _target(into))


def _target(into: Any) -> Target:
    name = getattr(into, "__qualname__", type(into).__name__)
    return Target(into, f"{getattr(into, '__module__', '')}:{name}")


def _item(
    mapping: Mapping[Any, Any],
    held: Any,
    name: str,
    *,
    key: Callable[[Any], object],
    value: Callable[[Any], object] | None,
    created: Callable[[Any], float] | None,
) -> Item | None:
    try:
        found = mapping[held]
    except KeyError:
        raise Unfit("is gone: it expired meanwhile") from None
    try:
        arguments = key(held)
        result = found if value is None else value(found)
        made = None if created is None else float(created(found))
    except Exception as error:
        raise Unfit(f"key=, value= or created= raised {type(error).__name__}") from error
    if arguments is None:
        return None
    made, expires = (made, None) if made is not None else _age(mapping, held)
    mark = Mark(os.urandom(16).hex(), 0)  # nothing tells a live object from another's that had its place in memory
    return Item(
        name=name, kind="object", read=lambda: Content(result, mark), created=made, expires=expires,
        call=arguments_of(arguments),
    )  # fmt: skip


def _age(mapping: Mapping[Any, Any], held: Any) -> tuple[float | None, float | None]:
    """When an entry of a ``cachetools.TTLCache`` was made, and when it ends; it says so only within."""
    links = getattr(mapping, "_TTLCache__links", None)
    ttl, timer = getattr(mapping, "ttl", None), getattr(mapping, "timer", None)
    if not isinstance(links, Mapping) or held not in links or not callable(timer) or not isinstance(ttl, (int, float)):
        return None, None
    left = links[held].expires - timer()
    at = now()
    return at + left - ttl, at + left
