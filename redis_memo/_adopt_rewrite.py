"""Rewriting what is sure: edits at positions of the syntax tree, everything else byte for byte as it was.

The decorator's expression gives way to a call of ``redis_cached``; the import is added once; names of the old import
that nothing uses any more go. What was written is parsed again, and compared: if the tree differs in more than was
meant, the file is left as it is.
"""

from __future__ import annotations

import ast
import sys
from typing import TYPE_CHECKING

from ._adopt_source import Edit, Source, dotted, edited

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ._adopt_finding import Finding, Replace

__all__ = ["conflict", "rewritten"]


def conflict(source: Source) -> str | None:
    """Why ``redis_cached`` cannot be imported into a file; None if it can."""
    if _given_name(source) is not None:
        return None
    if source.assigned.get("redis_cached") or source.imported.get("redis_cached"):
        return "the name redis_cached means something else in this file"
    return None


def rewritten(
    source: Source, findings: Sequence[Finding], first_party: frozenset[str], handed_on: frozenset[str]
) -> bytes:
    """The file with caches replaced.

    Args:
        source: The file.
        findings: What is sure, each with a `Replace`.
        first_party: Names of the code base's own packages and modules at its top.
        handed_on: Dotted names that some file of the code base imports.

    Returns:
        Its new bytes; the old ones where there is nothing to replace, or where it cannot be done safely.
    """
    replaced = [finding.replace for finding in findings if finding.replace is not None]
    if not replaced or conflict(source) is not None:
        return source.raw
    name = _given_name(source)
    edits = [_call(source, each, name or "redis_cached") for each in replaced]
    edits += _remarks(source, replaced)
    edits += _imports(source, replaced, first_party, handed_on, add=name is None)
    new = edited(source, edits)
    return new if _as_meant(source, new, len(replaced)) else source.raw


def _given_name(source: Source) -> str | None:
    """What the file can already say for ``redis_cached``, by a plain import at its top."""
    for node in source.tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "redis_memo" and not node.level:
            for alias in node.names:
                name = alias.asname or alias.name
                if alias.name == "redis_cached" and not source.assigned.get(name) and len(source.imported[name]) == 1:
                    return name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name
                if alias.name == "redis_memo" and not source.assigned.get(name) and len(source.imported[name]) == 1:
                    return f"{name}.redis_cached"
    return None


def _call(source: Source, replace: Replace, name: str) -> Edit:
    start, end = source.span(replace.node)
    return Edit(start, end, f"{name}({replace.options})")


def _remarks(source: Source, replaced: Iterable[Replace]) -> list[Edit]:
    """Mark a lifetime that nobody chose, where the line has no comment yet."""
    edits = []
    for each in replaced:
        if each.lifetime.chosen:
            continue
        _, end = source.span(each.node)
        stop = source.line_end(end)
        rest = source.text[end:stop]
        if not rest.strip():
            edits.append(Edit(end, end, "  # ttl to be chosen"))
        elif rest.startswith("(") and "#" not in rest and rest.rstrip().endswith(")"):
            edits.append(Edit(end + len(rest.rstrip()), end + len(rest.rstrip()), "  # ttl to be chosen"))
    return edits


# ------------------------------------------------------------------------------------------------------------ imports


def _imports(
    source: Source, replaced: Sequence[Replace], first_party: frozenset[str], handed_on: frozenset[str], *, add: bool
) -> list[Edit]:
    gone = _unused(source, replaced, handed_on)
    edits: list[Edit] = []
    emptied: list[ast.stmt] = []
    for node in source.tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias for alias in node.names if (alias.asname or alias.name.partition(".")[0]) in gone]
            if len(names) == len(node.names):
                emptied.append(node)
            elif names:
                edits += _without(source, node, names)
    if add:
        added, instead = _added(source, emptied, first_party)
        edits.append(added)
        emptied = [node for node in emptied if node is not instead]
    for node in emptied:
        start, end = source.span(node)
        alone = _alone_on_lines(source, start, end)
        edits.append(Edit(start, end, "pass") if alone is None else Edit(*alone, ""))
    return edits


def _unused(source: Source, replaced: Sequence[Replace], handed_on: frozenset[str]) -> set[str]:
    """Names at the head of what is replaced that nothing else in the file uses."""
    removed = {id(n) for each in replaced for n in ast.walk(each.node)}
    heads = {
        (dotted(n) or "").partition(".")[0]
        for each in replaced
        for n in ast.walk(each.node)
        if isinstance(n, (ast.Name, ast.Attribute))
    }
    kept = {n.id for n in ast.walk(source.tree) if isinstance(n, ast.Name) and id(n) not in removed}
    for each in replaced:  # a lifetime goes on using its names
        kept |= {n.id for n in ast.walk(ast.parse(f"f({each.options})")) if isinstance(n, ast.Name)}
    texts = {n.value for n in ast.walk(source.tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    lines = source.text.splitlines()
    unused = set()
    for head in heads & source.imported.keys():
        if (
            head in kept
            or head in texts
            or f"{source.module}.{head}" in handed_on
            or any(head in text for text in texts if len(text) < 200 and head in text.split("."))
        ):
            continue
        statement = next(
            (
                n
                for n in source.tree.body
                if isinstance(n, (ast.Import, ast.ImportFrom))
                and any((a.asname or a.name.partition(".")[0]) == head for a in n.names)
            ),
            None,
        )
        if statement is None or (source.path.name == "__init__.py" and isinstance(statement, ast.ImportFrom)):
            continue  # a package may hand the name on
        covered = "\n".join(lines[statement.lineno - 1 : statement.end_lineno])
        if "noqa" in covered or "import as" in covered or any(a.asname == a.name for a in statement.names):
            continue
        unused.add(head)
    return unused


def _without(source: Source, node: ast.Import | ast.ImportFrom, names: Sequence[ast.alias]) -> list[Edit]:
    """Take names out of a list of imports, each with the comma that belongs to it."""
    edits = []
    at = {id(alias): number for number, alias in enumerate(node.names)}
    kept_before = False
    for alias in node.names:
        if alias not in names:
            kept_before = True
            continue
        number = at[id(alias)]
        start, end = _alias_span(source, alias)
        if number + 1 < len(node.names):
            following, _ = _alias_span(source, node.names[number + 1])
            between = source.text[end:following]
            if "#" in between or "\n" in between or "\r" in between:  # a name on a line of its own, with its comment
                comma = source.text.index(",", end) + 1
                edits.append(Edit(*(_alone_on_lines(source, start, comma) or (start, comma)), ""))
            else:
                edits.append(Edit(start, following, ""))
        elif kept_before and node.names[number - 1] not in names:
            _, before = _alias_span(source, node.names[number - 1])
            between = source.text[before:start]
            alone = _alone_on_lines(source, start, _past_comma(source, end))
            if alone is not None and ("\n" in between or "\r" in between):
                edits.append(Edit(*alone, ""))
            else:
                edits.append(Edit(before, end, ""))
        else:
            # Those before it go as well, each with the comma behind it: the one before the first of them has to go.
            first = next(n for n in range(number, -1, -1) if n == 0 or node.names[n - 1] not in names)
            _, before = _alias_span(source, node.names[first - 1])
            begin, _ = _alias_span(source, node.names[first])
            edits = [edit for edit in edits if edit.end <= begin]
            edits.append(Edit(before, end, ""))
    return edits


def _past_comma(source: Source, end: int) -> int:
    rest = source.text[end : source.line_end(end)]
    return end + rest.index(",") + 1 if rest.lstrip().startswith(",") else end


def _alias_span(source: Source, alias: ast.alias) -> tuple[int, int]:
    assert alias.end_lineno is not None
    assert alias.end_col_offset is not None
    return source.offset(alias.lineno, alias.col_offset), source.offset(alias.end_lineno, alias.end_col_offset)


def _alone_on_lines(source: Source, start: int, end: int) -> tuple[int, int] | None:
    """The whole lines from ``start`` to ``end``, line end included, if nothing but blanks stands beside."""
    line = max(begin for begin in source.starts if begin <= start)
    stop = source.line_end(end)
    if source.text[line:start].strip() or source.text[end:stop].strip():
        return None
    after = stop + (2 if source.text[stop : stop + 2] == "\r\n" else 1 if stop < len(source.text) else 0)
    return line, after


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _opening(source: Source) -> int:
    """How many statements come before any import: docstring and future imports."""
    body = source.tree.body
    count = 0
    if (
        body
        and isinstance(body[0], ast.Expr)
        and isinstance(body[0].value, ast.Constant)
        and isinstance(body[0].value.value, str)
    ):
        count = 1
    while count < len(body) and _is_future(body[count]):
        count += 1
    return count


def _section(node: ast.stmt, first_party: frozenset[str]) -> tuple[int, bool, str]:
    """Where an import stands in the usual order: standard library, others, own; ``import a`` before ``from a``."""
    assert isinstance(node, (ast.Import, ast.ImportFrom))
    name = (node.names[0].name if isinstance(node, ast.Import) else node.module or "").lower()
    top = name.partition(".")[0]
    if isinstance(node, ast.ImportFrom) and node.level:
        return 3, True, name
    kind = 2 if top in first_party else 0 if top in sys.stdlib_module_names else 1
    return kind, isinstance(node, ast.ImportFrom), name


def _added(source: Source, emptied: Sequence[ast.stmt], first_party: frozenset[str]) -> tuple[Edit, ast.stmt | None]:
    """Our import at its usual place among the first imports; and the import in whose place it stands, if so."""
    line, newline = "from redis_memo import redis_cached", source.newline()
    body = source.tree.body[_opening(source) :]
    while body and not isinstance(body[0], (ast.Import, ast.ImportFrom)):
        body = body[1:]
    block = []
    for node in body:
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            break
        block.append(node)
    left = [node for node in block if node not in emptied]
    third = [node for node in left if _section(node, first_party)[0] == 1]
    standard = [node for node in left if _section(node, first_party)[0] == 0]
    before = [node for node in third if _section(node, first_party) <= (1, True, "redis_memo")]
    if before:
        stop = source.line_end(source.span(before[-1])[1])
        return Edit(stop, stop, f"{newline}{line}"), None
    if third:
        start = source.starts[third[0].lineno - 1]
        return Edit(start, start, f"{line}{newline}"), None
    if standard:
        stop = source.line_end(source.span(standard[-1])[1])
        return Edit(stop, stop, f"{newline}{newline}{line}"), None
    instead = [node for node in block if node in emptied]
    if instead:
        return Edit(*source.span(instead[-1]), line), instead[-1]
    if left:
        start = source.starts[left[0].lineno - 1]
        return Edit(start, start, f"{line}{newline}{newline}"), None
    stop = source.line_end(source.span(source.tree.body[_opening(source) - 1])[1]) if _opening(source) else 0
    return Edit(stop, stop, f"{newline}{line}" if stop else f"{line}{newline}"), None


# -------------------------------------------------------------------------------------------------------------- check


def _as_meant(source: Source, new: bytes, count: int) -> bool:
    """Whether the new file has the old one's statements, but for imports and the replaced expressions."""
    try:
        text = new.removeprefix(b"\xef\xbb\xbf").decode(source.encoding)
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    old = [ast.dump(n) for n in source.tree.body if not isinstance(n, (ast.Import, ast.ImportFrom))]
    now = [ast.dump(n) for n in tree.body if not isinstance(n, (ast.Import, ast.ImportFrom, ast.Pass))]
    old = [
        each
        for each, n in zip(
            old, (n for n in source.tree.body if not isinstance(n, (ast.Import, ast.ImportFrom))), strict=True
        )
        if not isinstance(n, ast.Pass)
    ]
    differing = sum(a != b for a, b in zip(old, now, strict=False))
    return len(old) == len(now) and differing <= count
