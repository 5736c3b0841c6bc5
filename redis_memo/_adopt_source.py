"""One source file as `adopt` reads it: its bytes, its syntax tree, and what its names mean.

Edits are made to the decoded text and encoded again, so byte order mark, encoding cookie, line ends, tabs and all that
stands outside of an edit stay as they are. A file that would not come back byte for byte is not read at all.
"""

from __future__ import annotations

import ast
import codecs
import contextlib
import io
import re
import sys
import tokenize
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["MUTATORS", "Edit", "Function", "Source", "dotted", "edited", "is_kept", "read", "text_of"]

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

MUTATORS: Final = frozenset(
    [
        "append",
        "extend",
        "insert",
        "remove",
        "pop",
        "clear",
        "sort",
        "reverse",
        "add",
        "discard",
        "update",
        "setdefault",
        "popitem",
        "appendleft",
        "popleft",
        "move_to_end",
        "intersection_update",
        "difference_update",
    ]
)
"""Methods that change what they are called on."""

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")
_KEEP = re.compile(r"#\s*redis-memo:\s*keep\b", re.IGNORECASE)
# What a star import of these brings along, as far as it matters here.
_STARS = {
    "functools": ("lru_cache", "cache", "cached_property"),
    "cachetools": ("cached", "cachedmethod", "TTLCache", "LRUCache", "LFUCache"),
}


class Edit(NamedTuple):
    """Characters ``start`` to ``end`` of the text give way to ``new``."""

    start: int
    end: int
    new: str


@dataclass(frozen=True, slots=True)
class Source:
    """A file that could be parsed.

    Attributes:
        path: Where it is.
        shown: How reports name it: relative to what was searched, with slashes.
        module: Dotted name, as far as the folders around it are packages.
        raw: Its bytes.
        text: The same, decoded, without byte order mark, line ends as they are.
        encoding: Name of the codec.
        bom: Whether a byte order mark stood before the text.
        starts: Index into ``text`` of each line's first character.
        tree: The syntax tree.
        parents: Of each node the one around it.
        imported: What a name stands for by imports, in any scope: ``{"lru": {"functools.lru_cache"}}``.
        assigned: Names that anything but an import binds, in any scope, with how often.
        global_names: The same of the module's own scope: a local variable of some function is none of its names.
        kept: Lines that a comment ``# redis-memo: keep`` stands on.
        nodes: All nodes of the tree, outer ones first.
        functions: All functions, outer ones first.
        bound: Statements that give a name or attribute a value, by its dotted name: ``self.cache``.
        tops: Functions and classes at the top of the file, by name.
        changed: Dotted names of what some statement or method changes in place.
    """

    path: Path
    shown: str
    module: str
    raw: bytes
    text: str
    encoding: str
    bom: bool
    starts: tuple[int, ...]
    tree: ast.Module
    parents: dict[ast.AST, ast.AST] = field(repr=False)
    imported: dict[str, set[str]] = field(repr=False)
    assigned: dict[str, int] = field(repr=False)
    global_names: dict[str, int] = field(repr=False)
    kept: frozenset[int] = field(repr=False)
    nodes: tuple[ast.AST, ...] = field(repr=False)
    functions: tuple[Function, ...] = field(repr=False)
    bound: dict[str, list[ast.Assign | ast.AnnAssign]] = field(repr=False)
    tops: dict[str, Function | ast.ClassDef] = field(repr=False)
    changed: frozenset[str] = field(repr=False)

    def offset(self, line: int, column: int) -> int:
        """Turn a position of the syntax tree, whose columns count bytes of UTF-8, into an index into the text."""
        start = self.starts[line - 1]
        end = self.starts[line] if line < len(self.starts) else len(self.text)
        return start + len(
            self.text[start:end].encode("utf-8", "surrogatepass")[:column].decode("utf-8", "surrogatepass")
        )

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Where a node stands in the text."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.offset(node.lineno, node.col_offset), self.offset(node.end_lineno, node.end_col_offset)

    def line_end(self, at: int) -> int:
        """Index of the line end (or of the text's end) that follows ``at``."""
        found = re.compile(r"\r|\n").search(self.text, at)
        return found.start() if found else len(self.text)

    def newline(self) -> str:
        """The line end that the file uses; that of its first line."""
        found = re.search(r"\r\n|\r|\n", self.text)
        return found[0] if found else "\n"

    def ancestors(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes around one, inner first."""
        while (above := self.parents.get(node)) is not None:
            yield above
            node = above

    def function_of(self, node: ast.AST) -> Function | None:
        """The function in whose body a node stands."""
        return next((n for n in self.ancestors(node) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))), None)

    def owner(self, node: ast.AST) -> str:
        """Name of the class around a node, with those around it; empty at the top of a file."""
        found = next((each for each in self.ancestors(node) if isinstance(each, ast.ClassDef)), None)
        return "" if found is None else self.qualified(found)

    def qualified(self, node: ast.AST) -> str:
        """Name of a function or class with those around it: ``Client.fetch``."""
        named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        names = [each.name for each in (node, *self.ancestors(node)) if isinstance(each, named)]
        return ".".join(reversed(names))

    def resolve(self, node: ast.AST) -> str | None:
        """What a name or attribute stands for by this file's imports: ``functools.lru_cache``; None if unknown."""
        path = dotted(node)
        if path is None:
            return None
        head, _, rest = path.partition(".")
        targets = self.imported.get(head)
        if not targets:
            return None
        target = min(targets)
        return f"{target}.{rest}" if rest else target

    def certain(self, node: ast.AST) -> bool:
        """Whether the name in front can stand for nothing but the one import that `resolve` went by."""
        head = (dotted(node) or "").partition(".")[0]
        inside = any(isinstance(above, ast.ClassDef) for above in self.ancestors(node))
        return len(self.imported.get(head, ())) == 1 and not (self.assigned if inside else self.global_names).get(head)


def dotted(node: ast.AST) -> str | None:
    """``a.b.c`` for a chain of names; None for anything else."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])


def text_of(node: ast.AST) -> str:
    """Spell an expression in one way, so that equal texts are equal expressions."""
    return ast.unparse(node)


def is_kept(source: Source, first: int, last: int) -> bool:
    """Whether ``# redis-memo: keep`` stands on one of the lines, or alone on the line before."""
    if any(line in source.kept for line in range(first, last + 1)):
        return True
    if first - 1 not in source.kept:
        return False
    start = source.starts[first - 2]
    return source.text[start : source.starts[first - 1]].lstrip().startswith("#")


def edited(source: Source, edits: Iterable[Edit]) -> bytes:
    """The file's bytes after edits, which must not overlap."""
    parts, at = [], 0
    for edit in sorted(edits):
        assert edit.start >= at, "edits overlap"
        parts += [source.text[at : edit.start], edit.new]
        at = edit.end
    parts.append(source.text[at:])
    return (codecs.BOM_UTF8 if source.bom else b"") + "".join(parts).encode(source.encoding)


def read(path: Path, shown: str, module: str) -> Source | str:
    """Read and parse a file.

    Returns:
        The source; or why it could not be read, in words that name neither the file nor what is in it.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        return error.strerror or "it cannot be read"
    try:
        lines = iter(raw.splitlines(keepends=True))  # at a lone carriage return, too
        encoding, _ = tokenize.detect_encoding(lambda: next(lines, b""))
        bom = raw.startswith(codecs.BOM_UTF8)
        encoding = "utf-8" if encoding == "utf-8-sig" else encoding
        body = raw[len(codecs.BOM_UTF8) :] if bom else raw
        text = body.decode(encoding)
        if text.encode(encoding) != body:
            return f"its encoding, {encoding}, does not give back the same bytes"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in strings: theirs, and not our business
            tree = ast.parse(text)
    except SyntaxError as error:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return f"it is not valid Python {version}: {error.msg}, line {error.lineno}"
    except (ValueError, LookupError):
        return "it cannot be decoded"
    except (RecursionError, MemoryError):
        return "it is nested too deeply"
    starts = [found.start() for found in _LINE.finditer(text)] or [0]
    parents: dict[ast.AST, ast.AST] = {}
    waiting: list[ast.AST] = [tree]
    for node in waiting:  # it grows meanwhile
        children = [*ast.iter_child_nodes(node)]
        parents.update(dict.fromkeys(children, node))
        waiting += children
    nodes = tuple(waiting)
    imported, assigned = _bindings(nodes, module, is_package=path.name == "__init__.py")
    definitions = [
        node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    ]
    return Source(
        path=path,
        shown=shown,
        module=module,
        raw=raw,
        text=text,
        encoding=encoding,
        bom=bom,
        starts=tuple(starts),
        tree=tree,
        parents=parents,
        imported=imported,
        assigned=assigned,
        global_names=_global_names(tree, nodes),
        kept=_kept(text),
        nodes=nodes,
        functions=tuple(node for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))),
        bound=_bound(nodes),
        tops={node.name: node for node in definitions},
        changed=_changed(nodes),
    )


def _bound(nodes: Iterable[ast.AST]) -> dict[str, list[ast.Assign | ast.AnnAssign]]:
    found: dict[str, list[ast.Assign | ast.AnnAssign]] = {}
    for node in nodes:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if path := dotted(target):
                    found.setdefault(path, []).append(node)
    return found


def _changed(nodes: Iterable[ast.AST]) -> frozenset[str]:
    found = set()
    for node in nodes:
        if isinstance(node, (ast.Subscript, ast.Attribute)) and not isinstance(node.ctx, ast.Load):
            found.add(dotted(node.value))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            found.add(dotted(node.func.value))
    return frozenset(name for name in found if name)


def _kept(text: str) -> frozenset[int]:
    if not _KEEP.search(text):
        return frozenset()
    lines = io.StringIO(text, newline=None)
    with contextlib.suppress(tokenize.TokenError, SyntaxError):
        tokens = tokenize.generate_tokens(lines.readline)
        return frozenset(t.start[0] for t in tokens if t.type == tokenize.COMMENT and _KEEP.search(t.string))
    return frozenset()


def _bindings(nodes: Iterable[ast.AST], module: str, *, is_package: bool) -> tuple[dict[str, set[str]], dict[str, int]]:
    imported: dict[str, set[str]] = {}
    assigned: dict[str, int] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name if alias.asname else alias.name.partition(".")[0]
                imported.setdefault(alias.asname or top, set()).add(top)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, module, is_package=is_package)
            for alias in node.names:
                names = _STARS.get(base, ()) if alias.name == "*" else (alias.name,)
                for name in names:
                    imported.setdefault(alias.asname or name, set()).add(f"{base}.{name}")
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            assigned[node.name] = assigned.get(node.name, 0) + 1
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            assigned[node.id] = assigned.get(node.id, 0) + 1
        elif isinstance(node, ast.arg):
            assigned[node.arg] = assigned.get(node.arg, 0) + 1
        elif isinstance(node, ast.ExceptHandler) and node.name:
            assigned[node.name] = assigned.get(node.name, 0) + 1
    return imported, assigned


def _global_names(tree: ast.Module, nodes: Iterable[ast.AST]) -> dict[str, int]:
    found: dict[str, int] = {}
    waiting: list[ast.AST] = [*tree.body]
    while waiting:
        node = waiting.pop()
        name = None
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler)):
            name = node.name
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            name = node.id
        if name:
            found[name] = found.get(name, 0) + 1
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            waiting.extend(ast.iter_child_nodes(node))
    for node in nodes:
        if isinstance(node, ast.Global):
            for name in node.names:
                found[name] = found.get(name, 0) + 1
    return found


def _absolute(node: ast.ImportFrom, module: str, *, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    above = module.split(".") if is_package else module.split(".")[:-1]
    above = above[: len(above) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])
