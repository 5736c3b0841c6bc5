"""Edits of a project's files that change what they are to change and no other byte.

Each takes a file's text and returns it changed, or as it is where it says so already. A place is found by the file's
own grammar (Python's syntax tree, TOML's tokens), and the result is read again: where it does not say exactly what the
old text said and the addition, the edit is refused, and the user told what to write by hand.
"""

from __future__ import annotations

import ast
import io
import itertools
import re
import tokenize
import tomllib
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["settings_by_name", "with_cache_section", "with_dependency", "with_requirement"]

_SECTION = re.compile(r"(.*_)?(cache|caching)(_(config|configuration|settings|options))?", re.IGNORECASE)
_KIND = ("backend", "type", "engine", "provider", "cache_backend", "cache_type", "cache_engine", "cache_provider")
_FLAT = re.compile(r"cache_(backend|type|engine|provider|ttl|timeout|default_timeout|enabled)", re.IGNORECASE)
_TOML = re.compile(
    r'"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|\#[^\n]*|\r?\n|[^\S\n]+|[\[\]{},=]|[^\s\[\]{},=#"\']+',
    re.DOTALL,
)


def _newline(text: str) -> str:
    return "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"


def _project_name(requirement: str) -> str:
    """The normalized name in a requirement; PEP 503."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", requirement.strip(), maxsplit=1)[0]).lower()


# ------------------------------------------------------------------------------------------------------ requirements


def with_requirement(text: str, requirement: str) -> str:
    """A requirements.txt with a requirement, on a line of its own at the end.

    Raises:
        ConfigurationError: The file locks its requirements by hash.
    """
    wanted = _project_name(requirement)
    lines = [line.strip() for line in text.removeprefix("\ufeff").splitlines()]
    if any(_project_name(line) == wanted for line in lines if line and line[0] not in "#-"):
        return text
    if "--hash" in text:
        raise ConfigurationError(
            f"it locks its requirements by hash: add {requirement} to the file that it is made from, and lock again"
        )
    newline = _newline(text)
    if text.endswith("\n") or not text.removeprefix("\ufeff"):
        return f"{text}{requirement}{newline}"
    return f"{text}{newline}{requirement}"


# -------------------------------------------------------------------------------------------------------- insertions


def _inserted(text: str, item: str, *, ends: int, comma: bool, closes: int, indent: str) -> str:
    """A list or dict with an item more: behind the last one, which ends at ``ends`` (its comma included)."""
    separator = "" if comma else ","
    if "\n" in text[ends:closes]:
        line = text.rfind("\n", 0, closes) + 1
        final = "," if comma else ""
        return f"{text[:ends]}{separator}{text[ends:line]}{indent}{item}{final}{_newline(text)}{text[line:]}"
    return f"{text[:ends]}{separator} {item}{',' if comma else ''}{text[ends:]}"


def _indent(text: str, at: int) -> str:
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip())]


# -------------------------------------------------------------------------------------------------------------- TOML


class _Entry(NamedTuple):
    table: str
    key: str
    tokens: list[tuple[str, int]]


def _toml_entries(text: str) -> tuple[list[_Entry], dict[str, int]]:
    """Every entry of a document with the tokens of its value, and where each table's header ends."""
    tokens = [(found[0], found.start()) for found in _TOML.finditer(text)]
    entries: list[_Entry] = []
    headers: dict[str, int] = {"": 0}
    table, at = "", 0
    while at < len(tokens):
        line: list[tuple[str, int]] = []
        depth = 0
        while at < len(tokens):
            piece, start = tokens[at]
            at += 1
            if piece in "[{":
                depth += 1
            elif piece in "]}":
                depth -= 1
            elif piece in ("\n", "\r\n") and depth == 0:
                break
            if piece.strip() and piece[0] != "#":
                line.append((piece, start))
        if not line:
            continue
        if line[0][0] == "[":
            table = "".join(piece for piece, _ in line).strip("[]").replace('"', "").replace("'", "")
            headers[table] = line[-1][1] + 1
        elif len(line) > 2 and line[1][0] == "=":
            entries.append(_Entry(table, line[0][0].strip("\"'"), line[2:]))
    return entries, headers


def with_dependency(text: str, requirement: str) -> str:
    """A pyproject.toml with a dependency: of ``[project]``, else of ``[tool.poetry.dependencies]``.

    Raises:
        ConfigurationError: The document is not TOML, has no place for it, or cannot be changed safely.
    """
    body = text.removeprefix("\ufeff")
    try:
        before = tomllib.loads(body)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"it is not valid TOML: {error}") from error
    wanted = _project_name(requirement)
    project = before.get("project")
    poetry = before.get("tool", {}).get("poetry", {}).get("dependencies")
    entries, headers = _toml_entries(body)
    if isinstance(project, dict):
        if "dependencies" in project.get("dynamic", []):
            raise ConfigurationError("its dependencies are dynamic: they stand in another file")
        listed = project.get("dependencies", [])
        if any(_project_name(each) == wanted for each in listed):
            return text
        found = [e for e in entries if (e.table, e.key) in (("project", "dependencies"), ("", "project.dependencies"))]
        if found:
            changed = _longer_array(body, found[0].tokens, requirement)
        elif "project" in headers:
            at = headers["project"]
            changed = f'{body[:at]}{_newline(body)}dependencies = ["{requirement}"]{body[at:]}'
        else:
            raise _by_hand(requirement)
        project["dependencies"] = [*listed, requirement]
    elif isinstance(poetry, dict):
        if any(_project_name(name) == wanted for name in poetry):
            return text
        name, version = re.match(r"[A-Za-z0-9._-]+", requirement)[0], re.sub(r"^[A-Za-z0-9._-]+", "", requirement)  # type: ignore[index]
        if "tool.poetry.dependencies" not in headers:
            raise _by_hand(requirement)
        mine = [entry for entry in entries if entry.table == "tool.poetry.dependencies"]
        at = max([_token_end(entry.tokens) for entry in mine] or [headers["tool.poetry.dependencies"]])
        line = body.find("\n", at)
        at = len(body) if line < 0 else line - (body[line - 1] == "\r")
        changed = f'{body[:at]}{_newline(body)}{name} = "{version or "*"}"{body[at:]}'
        poetry[name] = version or "*"
    else:
        raise ConfigurationError("it has no [project] and no [tool.poetry.dependencies]: no project's dependencies")
    try:
        same = tomllib.loads(changed) == before
    except tomllib.TOMLDecodeError:
        same = False
    if not same:
        raise _by_hand(requirement)
    return text[: len(text) - len(body)] + changed


def _token_end(tokens: Sequence[tuple[str, int]]) -> int:
    """Where the last of some tokens ends."""
    return tokens[-1][1] + len(tokens[-1][0])


def _longer_array(body: str, tokens: list[tuple[str, int]], requirement: str) -> str:
    last = tokens[-2][0] if len(tokens) > 1 else ""
    if tokens[0][0] != "[" or tokens[-1][0] != "]":
        raise _by_hand(requirement)
    closes = tokens[-1][1]
    if last == "[":
        opens = tokens[0][1] + 1
        return f'{body[:opens]}"{requirement}"{body[opens:]}'
    ends = _token_end(tokens[:-1])
    item = next(start for piece, start in reversed(tokens[:-1]) if piece != ",")
    quote = "'" if body[item] == "'" else '"'
    return _inserted(
        body, f"{quote}{requirement}{quote}", ends=ends, comma=last == ",", closes=closes, indent=_indent(body, item)
    )


def _by_hand(requirement: str) -> ConfigurationError:
    return ConfigurationError(f"its layout is not one that can be changed safely: add {requirement!r} by hand")


# ------------------------------------------------------------------------------------------------------------ Python


class _Section(NamedTuple):
    """Settings of a cache: a dict, literal or by ``dict(...)``.

    Attributes:
        path: Names and keys that lead to it.
        node: It.
        prefix: Of its names, where they stand among others: ``cache_`` in ``{"debug": True, "cache_ttl": 300}``.
    """

    path: tuple[str, ...]
    node: ast.Dict | ast.Call
    prefix: str = ""


def _items(node: ast.Dict | ast.Call) -> list[tuple[object, ast.expr | ast.keyword | None, ast.expr]]:
    """Name, place and value of what a dict says; the name is None where it is computed or unpacked."""
    if isinstance(node, ast.Call):
        return [(each.arg, each, each.value) for each in node.keywords]
    pairs = zip(node.keys, node.values, strict=True)
    return [(key.value if isinstance(key, ast.Constant) else None, key, value) for key, value in pairs]


def _is_dict(node: ast.AST) -> bool:
    """A dict whose items stand there: a literal, or ``dict(a=1)``."""
    made = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict"
    return isinstance(node, ast.Dict) or (made and not node.args)  # type: ignore[attr-defined]


def _sections(tree: ast.Module, environments: Sequence[str]) -> list[_Section]:
    """Dicts that are settings of a cache, by the name or key that they stand under (the outermost), or by their own.

    ``_cache = {}`` and ``self.cache = {}`` are caches, no settings of one: a name counts outside of functions only, and
    for a dict that says something.
    """
    found: list[_Section] = []

    def look(node: Any, path: tuple[str, ...], *, keyed: bool, inside: bool) -> None:
        if _is_dict(node):
            meant = (keyed or not inside) and (not environments or {*environments} & {*path})
            if path and _SECTION.fullmatch(path[-1]) and _is_settings(node, empty=keyed and not inside):
                if meant:
                    found.append(_Section(path, node))
                return
            prefix = _prefix(node)
            if prefix and meant and not inside:
                found.append(_Section(path, node, prefix))
            for name, _, value in _items(node):
                look(value, (*path, name if isinstance(name, str) else ""), keyed=True, inside=inside)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            name = target.id if isinstance(target, ast.Name) and target.id[0] != "_" else ""
            if node.value is not None:
                look(node.value, (*path, name), keyed=False, inside=inside)
        elif isinstance(node, ast.Call):
            for keyword in node.keywords:
                look(keyword.value, (*path, keyword.arg or ""), keyed=True, inside=inside)
        else:
            named = isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            within = inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            for child in ast.iter_child_nodes(node):
                look(child, (*path, node.name) if named else path, keyed=False, inside=within)

    look(tree, (), keyed=False, inside=False)
    return found


def _is_settings(node: ast.Dict | ast.Call, *, empty: bool) -> bool:
    named = [isinstance(name, str) for name, place, _ in _items(node) if place is not None]
    return all(named) if named else empty and not _items(node)


def _prefix(node: ast.Dict | ast.Call) -> str:
    """What settings of a cache begin with that stand in a dict among others; empty if there are none."""
    names = [name for name, _, _ in _items(node) if isinstance(name, str)]
    if any(_SECTION.fullmatch(name) for name in names):
        return ""  # it has a section for them
    return next((name[:6] for name in names if _FLAT.fullmatch(name)), "")


def settings_by_name(text: str) -> list[str]:
    """Settings of a cache that are variables or class attributes, such as ``CACHE_TYPE``."""
    found = []
    for node in ast.walk(_parsed(text.removeprefix("\ufeff"))):
        if isinstance(node, (ast.Module, ast.ClassDef)):
            for each in node.body:
                target = each.targets[0] if isinstance(each, ast.Assign) else getattr(each, "target", None)
                if isinstance(target, ast.Name) and target.id.lower() in _KIND[4:]:
                    found.append(f"{node.name}.{target.id}" if isinstance(node, ast.ClassDef) else target.id)
    return found


def _wanted(section: _Section, entries: Mapping[str, object]) -> dict[str, object]:
    """The entries by the names that this section has for them."""
    names = [name for name, _, _ in _items(section.node) if isinstance(name, str)]
    prefix = section.prefix
    kinds = _KIND[4:] if prefix else _KIND
    kind = next((name for name in names if name.lower() in kinds), f"{prefix}backend")
    wanted = {kind if name == "backend" else prefix + name: value for name, value in entries.items()}
    return {name.upper(): value for name, value in wanted.items()} if prefix.isupper() else wanted


def with_cache_section(
    text: str, entries: Mapping[str, object], environments: Sequence[str] = ()
) -> tuple[str, list[str], list[str]]:
    """A Python module whose cache sections have certain entries.

    Args:
        text: The module.
        entries: What each section is to say: strings, numbers, booleans or None. ``backend`` stands for whatever the
            section calls it (``type``, ``cache_type``, ``engine``).
        environments: Only in sections under one of these keys or names; empty for all of them.

    Returns:
        The module, the sections that say so now (``CONFIG.production.cache``), and what was left as it is and why.

    Raises:
        ConfigurationError: It is not Python, or cannot be changed safely.
    """
    body = text.removeprefix("\ufeff")
    sections: list[str] = []
    left = [
        f"no cache section is named {each!r}, nor anything that one stands in"
        for each in environments
        if not _sections(_parsed(body), [each])
    ]
    changed = body
    for number in range(len(_sections(_parsed(body), environments))):
        # Anew for each: positions move.
        section = _sections(_parsed(changed), environments)[number]
        name = ".".join(part for part in section.path if part)
        for key, value in _wanted(section, entries).items():
            section = _sections(_parsed(changed), environments)[number]
            items = _items(section.node)
            standing = [v for name, _, v in items if name == key]
            first = next((place for _, place, _ in items if place is not None), None)
            quote = changed[_span(changed, first)[0]] if first is not None else '"'
            if not standing:
                changed = _with_item(changed, section.node, _item(section.node, key, value, quote))
            elif not isinstance(standing[-1], ast.Constant):
                left.append(f"{name}.{key} is computed: set it to {value!r} by hand")
            elif (type(standing[-1].value), standing[-1].value) != (type(value), value):
                start, end = _span(changed, standing[-1])
                changed = changed[:start] + _literal(value, changed[start]) + changed[end:]
        sections.append(name)
    if _without(body, entries, environments) != _without(changed, entries, environments):
        raise ConfigurationError("its cache section cannot be changed safely: change it by hand")
    return text[: len(text) - len(body)] + changed, sections, left


def _parsed(body: str) -> ast.Module:
    try:
        return ast.parse(body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigurationError(f"it is not valid Python: {type(error).__name__}") from error


def _without(body: str, entries: Mapping[str, object], environments: Sequence[str]) -> str:
    """All that a module says but for these entries of its cache sections."""
    tree = _parsed(body)
    for section in _sections(tree, environments):
        names = {*_wanted(section, entries)}
        kept = [not (name in names and isinstance(value, ast.Constant)) for name, _, value in _items(section.node)]
        if isinstance(section.node, ast.Call):
            section.node.keywords = [*itertools.compress(section.node.keywords, kept)]
        else:
            section.node.keys = [*itertools.compress(section.node.keys, kept)]
            section.node.values = [*itertools.compress(section.node.values, kept)]
    return ast.dump(tree)


def _item(node: ast.Dict | ast.Call, key: str, value: object, quote: str) -> str:
    if isinstance(node, ast.Call):
        return f"{key}={_literal(value, chr(34))}"
    return f"{_literal(key, quote)}: {_literal(value, quote)}"


def _literal(value: object, quote: str) -> str:
    """A literal in the quotes that its neighbours have."""
    said = repr(value)
    if isinstance(value, str) and quote != "'" and '"' not in said and "\\" not in said:
        return f'"{value}"'
    return said


def _starts(body: str) -> list[int]:
    return [0, *(found.end() for found in re.finditer(r"\r\n|\r|\n", body))]


def _offset(body: str, row: int, column: int) -> int:
    """Where a position of a syntax tree lies; its columns count bytes."""
    starts = _starts(body)
    line = body[starts[row - 1] : starts[row] if row < len(starts) else len(body)]
    return starts[row - 1] + len(line.encode()[:column].decode())


def _span(body: str, node: Any) -> tuple[int, int]:
    return _offset(body, node.lineno, node.col_offset), _offset(body, node.end_lineno, node.end_col_offset)


def _with_item(body: str, node: ast.Dict | ast.Call, item: str) -> str:
    opens, closes = _span(body, node)
    closes -= 1
    if isinstance(node, ast.Call):
        opens = body.index("(", _span(body, node.func)[1])
    starts = _starts(body)
    ends, last = opens + 1, "{"
    for token in tokenize.generate_tokens(io.StringIO(body, newline="").readline):
        at = starts[token.start[0] - 1] + token.start[1]
        if at >= closes:
            break
        if at > opens and token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE):
            ends, last = starts[token.end[0] - 1] + token.end[1], token.string
    items = _items(node)
    if not items and "\n" in body[ends:closes]:
        line = body.rfind("\n", 0, closes) + 1
        return f"{body[:line]}{_indent(body, closes)}    {item},{_newline(body)}{body[line:]}"
    if not items:
        return f"{body[:ends]}{item}{body[ends:]}"
    first = items[-1][1] or items[-1][2]
    indent = _indent(body, _span(body, first)[0])
    return _inserted(body, item, ends=ends, comma=last == ",", closes=closes, indent=indent)
