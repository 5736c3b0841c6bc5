"""Caches in files: read where the file is there, computed and written where it is not.

What makes one is that a function reads and writes one path and asks whether it is there, or goes on when it is not.
Where reading and writing are functions of their own, names and paths that speak of a cache tell; so does a file of
metadata such as ``cache_metadata.json``.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ._adopt_age import enclosed, lifetime_in
from ._adopt_body import is_method
from ._adopt_finding import Finding, Project, no_expiry, proposal
from ._adopt_judge import Confidence, Risk
from ._adopt_patterns import decorates, decorator_around
from ._adopt_source import Function, Source, dotted, text_of
from ._adopt_words import LIKE_A_CACHE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["find_files"]

# By the last part of a call's name: which format. Readers take the path first; writers too, or second.
_READERS: Final[dict[str, str]] = {
    "read_csv": "CSV", "read_pickle": "pickle", "read_parquet": "Parquet", "read_feather": "Feather", "read_json":
    "JSON",
    "read_hdf": "HDF", "read_excel": "Excel", "read_text": "text", "read_bytes": "bytes", "loadtxt": "text",
    "scan_parquet": "Parquet",
    "scan_csv": "CSV", "load_model": "model", "read_table": "table",
}  # fmt: skip
_WRITERS: Final[dict[str, str]] = {
    "to_csv": "CSV", "to_pickle": "pickle", "to_parquet": "Parquet", "to_feather": "Feather", "to_json": "JSON",
    "to_hdf": "HDF",
    "to_excel": "Excel", "write_text": "text", "write_bytes": "bytes", "savetxt": "text", "save": "array",
    "savez": "array",
    "savez_compressed": "array", "write_csv": "CSV", "write_parquet": "Parquet", "urlretrieve": "download",
    "write_table": "Parquet",
}  # fmt: skip
_ARCHIVES = {
    "joblib.load": "joblib", "joblib.dump": "joblib", "numpy.load": "array", "torch.load": "torch", "torch.save":
    "torch",
    "numpy.save": "array", "numpy.savez": "array", "numpy.savez_compressed": "array",
}  # fmt: skip
_STREAMS = {
    "pickle": "pickle", "json": "JSON", "cloudpickle": "pickle", "dill": "pickle", "csv": "CSV", "yaml": "YAML",
    "marshal": "marshal", "orjson": "JSON", "ujson": "JSON", "msgpack": "msgpack", "_pickle": "pickle", "toml": "TOML",
}  # fmt: skip
_ASKS = frozenset(
    {
        "os.path.exists",
        "os.path.isfile",
        "os.path.getmtime",
        "os.path.getsize",
        "os.stat",
        "os.access",
        "pathlib.Path.exists",
    }
)
_ASKING_METHODS = frozenset({"exists", "is_file", "stat"})
_ABSENT = frozenset({"FileNotFoundError", "OSError", "IOError", "Exception", "EnvironmentError", "BaseException"})
_OPENERS = frozenset({"open", "gzip.open", "bz2.open", "lzma.open", "io.open", "aiofiles.open", "codecs.open"})
_TRUSTED_LESS = frozenset({"pickle", "joblib", "model", "torch", "marshal"})
_NAMED = re.compile(
    r"(?i)cache[\w\-]*\.(?:json|pkl|pickle|csv|parquet|feather|joblib|db|sqlite3?|h5|txt|npz?)$|cache_metadata"
)


@dataclass(slots=True)
class _Use:
    """What a function does with one path."""

    asked: ast.AST | None = None
    read: ast.AST | None = None
    written: ast.AST | None = None
    formats: set[str] = field(default_factory=set)


def find_files(source: Source, project: Project) -> Iterator[Finding]:
    """Every cache in files that a file of source has."""
    claimed: list[tuple[int, int]] = []
    split: list[tuple[Function, dict[str, _Use]]] = []
    for node in source.nodes:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        uses = _uses(source, node)
        whole = next((item for item in uses.items() if item[1].read and item[1].written), None)
        if whole is not None and (
            whole[1].asked is not None or _goes_on(source, whole[1].read) or _is_like(node, uses)
        ):
            base: Confidence = "likely" if _early(source, node, whole[1]) or _is_like(node, uses) else "look"
            claimed.append((node.lineno, node.end_lineno or node.lineno))
            yield _found(source, project, node, whole[0], whole[1], base=base)
        elif (kept := next((i for i in uses.items() if _is_kept_file(node, *i)), None)) is not None:
            claimed.append((node.lineno, node.end_lineno or node.lineno))
            yield _found(source, project, node, kept[0], kept[1], base="look", half="keeps")
        elif _is_like(node, uses) and uses:
            split.append((node, uses))
    for function, uses in split:
        path, use = next(((p, u) for p, u in uses.items() if u.read), next(iter(uses.items())))
        if use.read is None and use.written is None:
            continue
        claimed.append((function.lineno, function.end_lineno or function.lineno))
        yield _found(source, project, function, path, use, base="look", half="reads" if use.read else "writes")
    yield from _metadata(source, project, claimed)


def _uses(source: Source, function: Function) -> dict[str, _Use]:
    found: dict[str, _Use] = {}
    handles: dict[str, tuple[str, bool]] = {}

    def use(path: str) -> _Use:
        return found.setdefault(path, _Use())

    nodes = sorted((n for n in enclosed(function) if isinstance(n, ast.Call)), key=lambda n: (n.lineno, n.col_offset))
    for node in nodes:
        opened = _opened(source, node)
        if opened is not None:
            path, writes = opened
            if writes:
                use(path).written = use(path).written or node
            else:
                use(path).read = use(path).read or node
            handle = _handle(source, node)
            if handle:
                handles[handle] = path, writes
            inner = _stream(source, source.parents.get(node))
            if inner:
                use(path).formats.add(inner)
            continue
        _call(source, node, use, handles)
    return {path: each for path, each in found.items() if each.read or each.written or each.asked}


def _call(source: Source, node: ast.Call, at: Callable[[str], _Use], handles: dict[str, tuple[str, bool]]) -> None:
    meant = source.resolve(node.func) or dotted(node.func) or ""
    last = node.func.attr if isinstance(node.func, ast.Attribute) else meant.rpartition(".")[2]
    first = node.args[0] if node.args else next((k.value for k in node.keywords), None)
    if meant in _ASKS and first is not None:
        at(_path(first)).asked = node
    elif last in _ASKING_METHODS and isinstance(node.func, ast.Attribute):
        at(_path(node.func.value)).asked = node
    elif meant in _ARCHIVES and node.args:
        writes = last in ("dump", "save", "savez", "savez_compressed")
        target = (
            node.args[1]
            if writes and last != "savez" and meant.startswith(("joblib", "torch")) and len(node.args) > 1
            else node.args[0]
        )
        _note(at(_path(target)), node, _ARCHIVES[meant], writes=writes)
    elif last in _READERS and first is not None and last not in ("read_text", "read_bytes"):
        where = at(_path(first))
        _note(where, node, _READERS[last], writes=False)
    elif last in ("read_text", "read_bytes") and isinstance(node.func, ast.Attribute):
        where = at(_path(node.func.value))
        _note(where, node, _READERS[last], writes=False)
    elif last in ("write_text", "write_bytes") and isinstance(node.func, ast.Attribute):
        where = at(_path(node.func.value))
        _note(where, node, _WRITERS[last], writes=True)
    elif last in _WRITERS and first is not None and last != "save":
        target = node.args[1] if last in ("urlretrieve", "write_table") and len(node.args) > 1 else first
        where = at(_path(target))
        _note(where, node, _WRITERS[last], writes=True)
    elif meant in ("os.replace", "os.rename", "shutil.move") and len(node.args) > 1:
        _moved(at, node, node.args[0], node.args[1])
    elif last in ("replace", "rename") and isinstance(node.func, ast.Attribute) and len(node.args) == 1:
        _moved(at, node, node.func.value, node.args[0])
    elif (kind := _stream(source, node)) is not None:
        for argument in node.args:
            handle = handles.get(dotted(argument) or "")
            if handle is not None:
                at(handle[0]).formats.add(kind)


def _moved(at: Callable[[str], _Use], node: ast.Call, old: ast.expr, new: ast.expr) -> None:
    """A file that was written under another name first."""
    before = at(_path(old))
    if before.written is not None:
        after = at(_path(new))
        after.written = after.written or node
        after.formats |= before.formats


def _note(use: _Use, node: ast.AST, kind: str, *, writes: bool) -> None:
    use.formats.add(kind)
    if writes:
        use.written = use.written or node
    else:
        use.read = use.read or node


def _path(value: ast.expr) -> str:
    """Spell a path so that ``str(path)``, ``Path(path)`` and ``path`` are one; an opened handle by what was opened."""
    while True:
        if (
            isinstance(value, ast.Call)
            and (dotted(value.func) or "").rpartition(".")[2] in ("str", "Path", "PurePath", "fspath")
            and value.args
        ):
            value = value.args[0]
        elif (
            isinstance(value, ast.Call)
            and isinstance(value.func, ast.Attribute)
            and value.func.attr in ("resolve", "expanduser", "absolute", "as_posix")
        ):
            value = value.func.value
        else:
            return text_of(value)


def _opened(source: Source, node: ast.Call) -> tuple[str, bool] | None:
    """Path and direction of an ``open``."""
    meant = source.resolve(node.func) or dotted(node.func) or ""
    if meant in _OPENERS and node.args:
        value, rest = node.args[0], node.args[1:]
    elif (
        isinstance(node.func, ast.Attribute)
        and node.func.attr == "open"
        and meant not in ("os.open", "webbrowser.open", "Image.open", "PIL.Image.open")
    ):
        value, rest = node.func.value, node.args
    else:
        return None
    mode = rest[0] if rest else next((k.value for k in node.keywords if k.arg == "mode"), None)
    writes = isinstance(mode, ast.Constant) and isinstance(mode.value, str) and bool(set(mode.value) & set("wax+"))
    return _path(value), writes


def _handle(source: Source, node: ast.Call) -> str | None:
    above = source.parents.get(node)
    if isinstance(above, ast.withitem) and above.optional_vars is not None:
        return dotted(above.optional_vars)
    if isinstance(above, ast.Assign):
        return dotted(above.targets[0])
    return None


def _stream(source: Source, node: ast.AST | None) -> str | None:
    if not isinstance(node, ast.Call):
        return None
    meant = source.resolve(node.func) or dotted(node.func) or ""
    root, _, last = meant.rpartition(".")
    return (
        _STREAMS.get(root.partition(".")[0])
        if last in ("load", "dump", "loads", "dumps", "reader", "writer", "DictReader", "DictWriter", "safe_load")
        else None
    )


def _goes_on(source: Source, node: ast.AST | None) -> bool:
    """Whether a read stands in a ``try`` that goes on where there is no file."""
    if node is None:
        return False
    for above in source.ancestors(node):
        if isinstance(above, ast.Try):
            for handler in above.handlers:
                types = (
                    handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type] if handler.type else []
                )
                if handler.type is None or any((dotted(t) or "").rpartition(".")[2] in _ABSENT for t in types):
                    return True
        if isinstance(above, (ast.FunctionDef, ast.AsyncFunctionDef)):
            break
    return False


def _is_kept_file(function: Function, path: str, use: _Use) -> bool:
    """Whether a function makes a file unless it is there, and hands out where it is: a download that is kept."""
    if use.asked is None or use.written is None or use.read is not None:
        return False
    returned = [n.value for n in enclosed(function) if isinstance(n, ast.Return) and n.value is not None]
    return any(text_of(each) == path for value in returned for each in ast.walk(value) if isinstance(each, ast.expr))


def _is_like(function: Function, uses: dict[str, _Use]) -> bool:
    """Whether its name or a path of it speaks of a cache."""
    if LIKE_A_CACHE.search(function.name):
        return True
    return any((use.read or use.written) and LIKE_A_CACHE.search(path) for path, use in uses.items())


def _early(source: Source, function: Function, use: _Use) -> bool:
    """Whether what was read is returned without writing: the hit of a cache, and not the update of a file."""
    assert use.read is not None
    for above in source.ancestors(use.read):
        if isinstance(above, (ast.If, ast.Try)):
            branches = (
                [above.body, above.orelse]
                if isinstance(above, ast.If)
                else [above.body, [each for handler in above.handlers for each in handler.body]]
            )
            for branch in branches:
                inside = [n for each in branch for n in ast.walk(each)]
                if not any(n is use.read for n in inside) or any(n is use.written for n in inside):
                    continue
                other = [n for each in branches if each is not branch for part in each for n in ast.walk(part)]
                if any(n is use.written for n in other):
                    return True
                if any(isinstance(n, ast.Return) and n.value is not None for n in inside):
                    return True
        if above is function:
            break
    return False


def _found(
    source: Source,
    project: Project,
    function: Function,
    path: str,
    use: _Use,
    *,
    base: Confidence,
    half: str | None = None,
) -> Finding:
    formats = " and ".join(sorted(use.formats)) or "plain"
    nodes = [n for n in (use.asked, use.read, use.written) if n is not None]
    line = min(getattr(n, "lineno", function.lineno) for n in nodes)
    last = max(getattr(n, "end_lineno", function.lineno) for n in nodes)
    lifetime = lifetime_in(source, function)
    risks: list[Risk] = []
    if lifetime is None:
        lifetime = project.lifetime
        risks.append(no_expiry(lifetime))
    if half is not None:
        risks.append(
            Risk(
                "body",
                "it hands out where the file is, and not what is in it: cache what reads it instead"
                if half == "keeps"
                else f"it only {half} the file: look for the function that computes, which is to be decorated",
                "look",
            )
        )
    else:
        risks.append(Risk("body", "asking, reading and writing go, and the computation stays", "likely"))
    if use.formats & _TRUSTED_LESS:
        risks.append(
            Risk(
                "result-type", "what it keeps by pickle is stored in Redis only where a secret is configured", "likely"
            )
        )
    risks.append(Risk("files", "the files that are there stay behind: `redis-memo migrate` can bring them along"))
    kept = {
        "method-identity",
        "unkeyable-argument",
        "time-dependent",
        "account",
        "generator",
        "mutable-result",
    }
    outer = decorator_around(source, function) if half is None else None
    if outer is not None:
        risks.append(Risk("shared-reference", decorates(project, outer.name), "likely"))
    elif half is None:
        risks += [risk for risk in project.judge(source, function) if risk.code in kept]
    if is_method(source, function):
        risks = [Risk(r.code, r.text, "likely") if r.code == "method-identity" else r for r in risks]
    written, becomes = proposal(source, function, lifetime)
    if half is not None or outer is not None:
        becomes = f"@redis_cached({written}) on the function that computes"
    return Finding(
        source=source,
        line=line,
        last=last,
        kind=f"file cache ({formats})",
        name=source.qualified(function) if outer is None else outer.name,
        holder=path[:120],
        becomes=becomes,
        risks=tuple(risks),
        base=base,
        decorator=outer.name if outer is not None else None,
        also=(function.lineno,),
    )


def _metadata(source: Source, project: Project, claimed: list[tuple[int, int]]) -> Iterator[Finding]:
    """Names of files that speak of a cache, where nothing else was found around them."""
    seen: set[str] = set()
    written, _ = proposal(source, None, project.lifetime)
    for node in source.nodes:
        if (
            not (isinstance(node, ast.Constant) and isinstance(node.value, str))
            or len(node.value) > 200
            or "\n" in node.value
        ):
            continue
        if not _NAMED.search(node.value) or node.value in seen or isinstance(source.parents.get(node), ast.Expr):
            continue
        if any(first <= node.lineno <= last for first, last in claimed):
            continue
        seen.add(node.value)
        yield Finding(
            source=source,
            line=node.lineno,
            last=node.end_lineno or node.lineno,
            kind="file named a cache",
            name=node.value,
            base="look",
            becomes=f"@redis_cached({written}) on the function that fills it",
            risks=(Risk("body", "only its name was found: see who reads and who writes it", "look"),),
        )
