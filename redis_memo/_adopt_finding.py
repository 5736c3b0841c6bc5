"""What `adopt` reports: one private cache, what it would become, and what is to be known before."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ._adopt_judge import Confidence, Risk, is_market_data, judge, lowest
from ._adopt_uses import Uses

if TYPE_CHECKING:
    import ast
    from collections.abc import Mapping

    from ._adopt_source import Function, Source

__all__ = ["LEFT_ALONE", "Finding", "Lifetime", "Project", "Replace", "namespace_of", "no_expiry", "proposal"]


LEFT_ALONE: Final = "nothing: it is left alone"


class Lifetime(NamedTuple):
    """How long results are to live.

    Attributes:
        text: As it is written into the code: ``300``, ``"1d"``, ``CACHE_TTL``.
        chosen: Whether the code or the user said it; if not, it is a guess that is marked as one.
    """

    text: str
    chosen: bool


class Replace(NamedTuple):
    """What of the tree gives way to a call of ``redis_cached``, and the name it went by."""

    node: ast.expr
    old: ast.expr
    options: str
    lifetime: Lifetime


@dataclass(frozen=True, slots=True)
class Project:
    """A code base: its files, and what holds for all of them.

    Attributes:
        sources: In the order of their paths.
        modules: The same by module name.
        lifetime: Of caches that state none.
        holders: Classes that hold entries, by dotted name: what reports call them, and the argument that is the expiry.
        uses: How functions are used, by name.
    """

    sources: list[Source]
    modules: dict[str, Source]
    lifetime: Lifetime
    holders: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    uses: dict[str, Uses] = field(default_factory=dict)

    def judge(self, source: Source, function: Function, name: str | None = None) -> list[Risk]:
        """What is to be known of a function before its cache moves, its uses under ``name`` included."""
        return judge(source, function, self.modules, self.uses.get(name or "", Uses()))

    def follow(self, target: str) -> str:
        """Where a dotted name is defined, as far as packages here hand it on."""
        for _ in range(8):
            module, _, name = target.rpartition(".")
            source = self.modules.get(module)
            if source is None or name not in source.imported or source.assigned.get(name):
                break
            target = min(source.imported[name])
        return target

    def meaning(self, source: Source, node: ast.AST) -> str | None:
        """As `Source.resolve`, through the packages of the code base."""
        found = source.resolve(node)
        return None if found is None else self.follow(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One private cache.

    Attributes:
        source: The file.
        line: Where it stands.
        last: The last line of what makes it one.
        kind: ``lru_cache``, ``dict cache``, ``file cache`` ...
        name: The function or the object.
        holder: What keeps the values and where that is made, if it is not the function.
        becomes: The line to write in its place.
        risks: What is to be known before.
        base: How sure the pattern alone is.
        replace: What `adopt` can replace by itself, where it can.
        also: Further lines on which ``# redis-memo: keep`` means this one.
        decorator: Name of the code base's own decorator that it is.
    """

    source: Source
    line: int
    last: int
    kind: str
    name: str
    becomes: str
    risks: tuple[Risk, ...] = ()
    holder: str | None = None
    base: Confidence = "sure"
    replace: Replace | None = field(default=None, repr=False)
    also: tuple[int, ...] = ()
    decorator: str | None = None

    def settled(self) -> Finding:
        """The same; for one that is left alone, without what would be written, and when that would expire."""
        if self.confidence != "alone":
            return self
        return dataclasses.replace(
            self, becomes=LEFT_ALONE, risks=tuple(each for each in self.risks if each.code != "no-expiry")
        )

    @property
    def confidence(self) -> Confidence:
        """How sure it is: what nothing can be replaced in is never surer than likely."""
        found = lowest(self.risks, self.base)
        return "likely" if found == "sure" and self.replace is None else found

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "file": self.source.shown,
            "line": self.line,
            "kind": self.kind,
            "name": self.name,
            "holder": self.holder,
            "confidence": self.confidence,
            "becomes": self.becomes,
            "risks": [{"code": risk.code, "text": risk.text} for risk in self.risks],
        }


def namespace_of(source: Source) -> str:
    """Namespace that is proposed for a file's functions: its module's name."""
    name = source.module.removesuffix(".__main__")
    return name or "app"


def no_expiry(lifetime: Lifetime) -> Risk:
    """Say that no expiry was found, and where the proposed one comes from."""
    chosen = (
        f"ttl={lifetime.text} is what you chose" if lifetime.chosen else f"ttl={lifetime.text} is a guess: choose one"
    )
    return Risk("no-expiry", f"no expiry was found, and here every entry has one; {chosen}")


def proposal(
    source: Source, function: Function | None, lifetime: Lifetime, options: Mapping[str, str] | None = None
) -> tuple[str, str]:
    """Spell the arguments of ``redis_cached``, and the line that a report shows."""
    parts = {"namespace": f'"{namespace_of(source)}"', "ttl": lifetime.text, **(options or {})}
    written = ", ".join(f"{name}={value}" for name, value in parts.items())
    remark = "" if lifetime.chosen else "  # ttl to be chosen"
    if function is not None and not lifetime.chosen and is_market_data(function):
        remark += "; market_aware() ends it with the session"
    return written, f"@redis_cached({written}){remark}"
