"""What a function is called, and what its code says.

``code_digest`` reads the function's source through its syntax tree, so that comments, formatting, the docstring and
decorators do not count, and Python 3.11 to 3.14 agree. A tree is believed only where compiling it again gives the
bytecode that the function really runs: a file that was edited or redeployed after its import must not lend its new
digest to the old code. Where there is no source to believe (``exec``, a bare ``.pyc``), the digest is that of the
bytecode, and then holds for one minor version of Python.

``qualified_name`` and ``name_identifies`` say what a function is called and whether that name can mean only this
function. The answer depends on the source file and on the imported module, not on which function was called first,
so that every process that runs the same code agrees.
"""

from __future__ import annotations
import __future__

import ast
import functools
import inspect
import linecache
import sys
import threading
import types
import weakref
import zipimport
from importlib import machinery
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from blake3 import blake3

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "assignments_digest", "code_digest", "framed", "has_source", "in_its_module", "leads_to", "name_identifies",
    "qualified_name",
]  # fmt: skip

_Node: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_DEFS = (ast.FunctionDef, ast.AsyncFunctionDef)

_FUTURES = functools.reduce(
    int.__or__, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)
# Loaders that compile a file as it stands. Any other may rewrite it first, as pytest does with assertions.
_PLAIN_LOADERS = (machinery.SourceFileLoader, machinery.SourcelessFileLoader, zipimport.zipimporter)
# CO_HAS_DOCSTRING of Python 3.14; before it, the first constant of every ``def`` was its docstring or None.
_HAS_DOCSTRING = 0x4000000


# ---------------------------------------------------------------------------------------------- canonical bytes


def framed(tag: bytes, payload: bytes) -> bytes:
    """A payload with its tag and length, so that no two lists of them are the same bytes."""
    return b"%b%d:%b" % (tag, len(payload), payload)


def _text(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


def _constant(value: object) -> bytes:
    """Encode a constant of source or bytecode, with its type: ``1``, ``1.0``, ``True`` and ``"1"`` all differ."""
    if value is None or value is True or value is False or value is ...:
        return framed(b"k", repr(value).encode())
    if isinstance(value, int):
        return framed(b"i", b"%x" % value)  # not str(): decimal digits are limited to 4300
    if isinstance(value, float):
        return framed(b"f", value.hex().encode())
    if isinstance(value, complex):
        return framed(b"c", f"{value.real.hex()},{value.imag.hex()}".encode())
    if isinstance(value, str):
        return framed(b"s", _text(value))
    if isinstance(value, bytes):
        return framed(b"b", value)
    if isinstance(value, tuple):
        return framed(b"t", b"".join(map(_constant, value)))
    if isinstance(value, frozenset):  # its order follows PYTHONHASHSEED
        return framed(b"z", b"".join(sorted(map(_constant, value))))
    if isinstance(value, slice):  # a constant since 3.14
        return framed(b"l", _constant((value.start, value.stop, value.step)))
    if isinstance(value, types.CodeType):
        return framed(b"o", _bytecode(value))
    return framed(b"?", _text(type(value).__qualname__))  # the compiler makes nothing else


def _bytecode(code: types.CodeType) -> bytes:
    """Encode a code object without positions, docstring or file name.

    ``co_code`` is free of what the interpreter specialised or instrumented at run time.
    """
    consts = code.co_consts
    has_docstring = code.co_flags & _HAS_DOCSTRING if sys.version_info >= (3, 14) else not code.co_name.startswith("<")
    if has_docstring and consts and isinstance(consts[0], str):
        consts = (None, *consts[1:])
    return b"".join(
        (
            _constant(code.co_name),
            _constant(
                (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & ~_HAS_DOCSTRING)
            ),
            _constant(code.co_code),
            _constant(code.co_exceptiontable),
            _constant((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)),
            _constant(consts),
        )
    )


class _Raw(NamedTuple):
    data: bytes


def _canonical(root: ast.AST) -> bytes:
    """Encode a syntax tree the same under every Python version: class names and non-empty fields, no positions.

    Iterative, because a long chain of operators is a deep tree.
    """
    out: list[bytes] = []
    stack: list[object] = [root]
    while stack:
        item = stack.pop()
        if isinstance(item, _Raw):
            out.append(item.data)
        elif isinstance(item, ast.AST):
            fields = list(_fields(item, own=item is root))
            out.append(framed(b"N", type(item).__name__.encode()) + b"%d;" % len(fields))
            for name, value in reversed(fields):
                stack.append(value)
                stack.append(_Raw(framed(b"F", name.encode())))
        elif isinstance(item, list):
            out.append(b"L%d;" % len(item))
            stack.extend(reversed(item))
        else:
            out.append(_constant(item))
    return b"".join(out)


def _fields(node: ast.AST, *, own: bool) -> Iterator[tuple[str, object]]:
    if isinstance(node, ast.Constant | ast.MatchSingleton):
        yield "value", _Raw(_constant(node.value))
        return
    for name in node._fields:
        value = getattr(node, name, None)
        if name in ("ctx", "kind", "type_comment") or (own and name == "decorator_list"):
            continue
        if own and name == "body" and isinstance(node, _DEFS) and ast.get_docstring(node, clean=False) is not None:
            value = node.body[1:]
        elif isinstance(node, ast.JoinedStr):
            value = _joined(node.values)
        elif name == "format_spec" and isinstance(value, ast.JoinedStr) and not _joined(value.values):
            continue  # f"{x:}": an empty specification in one version, none in another
        if value is not None and value != []:
            yield name, value


def _joined(values: Iterable[ast.expr]) -> list[ast.expr]:
    """Merge neighbouring literal parts of an f-string: Python versions split them differently."""
    merged: list[ast.expr] = []
    for value in values:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            if not value.value:
                continue
            last = merged[-1] if merged else None
            if isinstance(last, ast.Constant) and isinstance(last.value, str):
                merged[-1] = ast.Constant(last.value + value.value)
                continue
        merged.append(value)
    return merged


# ------------------------------------------------------------------------------------- definitions in a source file


class _Definition(NamedTuple):
    node: _Node
    statement: ast.stmt  # the top-level statement it stands in: what has to be compiled to compile it
    qualname: str
    earlier: int  # how many definitions of this qualified name stand above it


def _decorated_with(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Attribute):
            yield decorator.attr
        elif isinstance(decorator, ast.Name):
            yield decorator.id


def _is_type_checking(node: ast.AST) -> bool:
    test = node.test if isinstance(node, ast.If) else None
    return getattr(test, "id", getattr(test, "attr", None)) == "TYPE_CHECKING"


@functools.lru_cache(maxsize=16)
def _definitions(source: str) -> Mapping[tuple[int, str], list[_Definition]]:
    """All functions of a source text by first line (a decorator's, if any) and name."""
    found: dict[tuple[int, str], list[_Definition]] = {}
    counts: dict[str, int] = {}
    tree = ast.parse(source)
    for statement in tree.body:
        stack: list[tuple[ast.AST, str, bool]] = [(statement, "", True)]
        while stack:
            node, scope, runs = stack.pop()
            inner = scope
            if isinstance(node, ast.Lambda):
                inner = f"{scope}<lambda>.<locals>."
                found.setdefault((node.lineno, "<lambda>"), []).append(
                    _Definition(node, statement, f"{scope}<lambda>", 0)
                )
            elif isinstance(node, _DEFS):
                qualname = scope + node.name
                inner = f"{qualname}.<locals>."
                line = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                earlier = counts.get(qualname, 0)
                found.setdefault((line, node.name), []).append(_Definition(node, statement, qualname, earlier))
                # What never stays under the name takes none of it: stubs, and a property's other accessors.
                if runs and not {"overload", "setter", "getter", "deleter"}.intersection(_decorated_with(node)):
                    counts[qualname] = earlier + 1
            elif isinstance(node, ast.ClassDef):
                inner = f"{scope}{node.name}."
            stub = _is_type_checking(node)
            for name, child in reversed(list(_children(node))):
                stack.append((child, inner if name == "body" else scope, runs and not (stub and name == "body")))
    return found


def _children(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else (value,):
            if isinstance(child, ast.AST):
                yield name, child


def _locate(function: types.FunctionType) -> _Definition | None:
    """Find where the function is defined, or None where no source says what the function really runs."""
    code = function.__code__
    text = ""
    for fresh in (False, True):
        if fresh:  # the cached lines were not the function's: perhaps the module was reloaded since
            linecache.checkcache(code.co_filename)
        before, text = text, "".join(linecache.getlines(code.co_filename, function.__globals__))
        if not text or text == before:
            continue
        try:
            candidates = _definitions(text).get((code.co_firstlineno, code.co_name), [])
            candidates = [found for found in candidates if _is_compiled_from(function, found, text)]
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        if len(candidates) > 1:
            candidates = _by_position(code, candidates)
        if candidates:
            return candidates[0]
    return None


def _is_compiled_from(function: types.FunctionType, found: _Definition, source: str) -> bool:
    code = function.__code__
    flags = code.co_flags & _FUTURES
    running = _bytecode(code)
    # How a call is compiled depends on the imports of its unit: that is the file, but a statement in IPython.
    compiled = _compiled(source, flags).get((code.co_firstlineno, code.co_name), [])
    if any(_bytecode(nested) == running for nested in compiled):
        return True
    alone = _functions_in(ast.Module(body=[found.statement], type_ignores=[]), flags)
    if any(_bytecode(nested) == running for nested in alone.get((code.co_firstlineno, code.co_name), [])):
        return True
    loader = getattr(function.__globals__.get("__spec__"), "loader", None)
    if loader is None or type(loader) in _PLAIN_LOADERS:
        return False
    # An import hook rewrote the tree: take it when all that the source names still is there.
    constants = set(map(_constant, code.co_consts))
    return any(
        nested.co_varnames[: nested.co_argcount + nested.co_kwonlyargcount]
        == code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        and set(nested.co_names) <= set(code.co_names)
        and all(_constant(c) in constants for c in nested.co_consts if not isinstance(c, types.CodeType))
        for nested in compiled
    )


@functools.lru_cache(maxsize=16)
def _compiled(source: str, flags: int) -> Mapping[tuple[int, str], list[types.CodeType]]:
    return _functions_in(ast.parse(source), flags)


def _functions_in(tree: ast.Module, flags: int) -> Mapping[tuple[int, str], list[types.CodeType]]:
    found: dict[tuple[int, str], list[types.CodeType]] = {}
    flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    for code in _nested(compile(tree, "<source>", "exec", flags=flags, dont_inherit=True)):
        found.setdefault((code.co_firstlineno, code.co_name), []).append(code)
    return found


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    stack = [code]
    while stack:
        code = stack.pop()
        yield code
        stack.extend(constant for constant in code.co_consts if isinstance(constant, types.CodeType))


def _by_position(code: types.CodeType, candidates: list[_Definition]) -> list[_Definition]:
    """Tell several lambdas on one line apart: the innermost whose body spans all of the code's instructions."""
    spans = [
        ((line, column), (end_line, end_column))
        for line, end_line, column, end_column in code.co_positions()
        if line is not None and end_line is not None and column is not None and end_column is not None
        if (line, column) != (end_line, end_column)  # RESUME and the like: they stand nowhere
    ]
    bodies = [(found.node.body, found) for found in candidates if isinstance(found.node, ast.Lambda)]
    around = [
        (body.lineno, body.col_offset, found)
        for body, found in bodies
        if all(
            (body.lineno, body.col_offset) <= start and end <= (body.end_lineno or 0, body.end_col_offset or 0)
            for start, end in spans
        )
    ]
    if spans and around:
        return [max(around, key=lambda item: item[:2])[2]]
    # No columns: -X no_debug_ranges, or nothing but a constant under 3.12. Left are those that say the same.
    same = [found for body, found in bodies if _says_the_same(code, found.node)]
    return same if len({_canonical(found.node) for found in same}) == 1 else []


def _says_the_same(code: types.CodeType, node: _Node) -> bool:
    if not isinstance(node, ast.Lambda):
        return False
    _, alone, *_ = _nested(compile(ast.Expression(node), "<source>", "eval", dont_inherit=True))
    return [_constant(part) for part in (code.co_code, code.co_names, code.co_consts)] == [
        _constant(part) for part in (alone.co_code, alone.co_names, alone.co_consts)
    ]


# ----------------------------------------------------------------------------------------------------------- digest

# By identity of the code object, not by its equality, which is slow and ignores what defaults a lambda has.
_digests: dict[int, tuple[weakref.ref[types.CodeType], bytes]] = {}
_digests_lock = threading.Lock()


def code_digest(function: types.FunctionType) -> bytes:
    """Digest a function's own code: 32 bytes.

    Comments, formatting, docstring and decorators do not count. The name, annotations and default expressions do.
    What the function calls does not. Python 3.11 to 3.14 agree where the source can be read; without source
    (``exec``, only a ``.pyc``) the digest is of the bytecode and belongs to one minor version of Python.
    """
    code = function.__code__
    known = _digests.get(id(code))
    if known is not None and known[0]() is code:
        return known[1]
    found = _locate(function)
    canonical = b"bytecode 1 " + _bytecode(code) if found is None else b"source 1 " + _canonical(found.node)
    digest = blake3(canonical).digest()

    def forget(dead: weakref.ref[types.CodeType], key: int = id(code)) -> None:
        entry = _digests.get(key)
        if entry is not None and entry[0] is dead:
            del _digests[key]

    with _digests_lock:
        _digests[id(code)] = (weakref.ref(code, forget), digest)
    return digest


def has_source(function: types.FunctionType) -> bool:
    """Tell whether there is source that says what the function really runs."""
    return _locate(function) is not None


def assignments_digest(function: types.FunctionType, name: str) -> bytes:
    """Digest the module-level statements of the function's file that assign ``name``; empty where they are unknown."""
    if _locate(function) is None:
        return b""
    source = "".join(linecache.getlines(function.__code__.co_filename, function.__globals__))
    hasher = blake3(b"assignments 1 ")
    for statement in ast.parse(source).body:
        stores = (
            node for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        )
        if not isinstance(statement, (*_DEFS, ast.ClassDef)) and any(node.id == name for node in stores):
            hasher.update(framed(b"S", _canonical(statement)))
    return hasher.digest()


# ------------------------------------------------------------------------------------------------------------- name


def _module_name(obj: Any) -> str | None:
    """Return the importable module name, ``"__main__"`` for a script or notebook, None where there is none."""
    module: object = getattr(obj, "__module__", None)
    if not isinstance(module, str) or not module:
        return None
    if module in ("__main__", "__mp_main__"):  # the second: a script's functions in a spawned child
        namespace = getattr(obj, "__globals__", None) or vars(sys.modules.get(module, types.SimpleNamespace()))
        name = getattr(namespace.get("__spec__"), "name", None)
        return name if isinstance(name, str) and name else "__main__"
    return module


def qualified_name(obj: Any) -> str:
    """Name a function or class as ``module.qualname``.

    ``__main__`` has its real name when it was started by ``python -m pkg.mod`` (``pkg.__main__`` for
    ``python -m pkg``), and is the same in a process that multiprocessing spawned.
    """
    qualname = getattr(obj, "__qualname__", None) or getattr(obj, "__name__", None) or type(obj).__qualname__
    return f"{_module_name(obj) or '<unknown>'}.{qualname}"


# Who took a plain name: name -> digest over the file and over the code outside of the named function.
_taken: dict[str, bytes] = {}


def name_identifies(function: types.FunctionType) -> bool:
    """Tell whether ``qualified_name(function)`` can mean only this function, in every process that runs this code.

    It does not for lambdas, functions made in functions, ``__main__`` without a module name, and all but the first
    (in file order) of several definitions of one name in one file. Overload stubs and blocks under ``TYPE_CHECKING``
    are no definitions. Editing and reloading a module leaves its names as they are.

    A function that borrowed its name (``functools.wraps``) or has no source has it when the module really leads to it
    under that name.
    """
    module = _module_name(function)
    if module is None or module == "__main__" or "<" in function.__qualname__:
        return False
    inner = inspect.unwrap(function, stop=lambda f: not isinstance(getattr(f, "__wrapped__", None), types.FunctionType))
    if _owns_name(inner) and inner.__qualname__ == function.__qualname__:
        found = _locate(inner)
        if found is not None and found.qualname == inner.__qualname__:
            if found.earlier:
                return False
            if inner is function:
                return in_its_module(function) and _first_to_take(qualified_name(function), function, inner)
    return leads_to(function) and _first_to_take(qualified_name(function), function, inner)


def in_its_module(function: types.FunctionType) -> bool:
    """Tell whether the function's globals are those of the module that it names.

    They are not after ``exec`` in a copied namespace, nor where a loader of scripts or plugins gives several files
    one module name.
    """
    if function.__globals__ is vars(sys.modules.get(function.__module__, types.SimpleNamespace())):
        return True
    # multiprocessing runs the parent's "-m pkg.mod" in a namespace of its own
    return function.__module__ in ("__main__", "__mp_main__") and has_source(function)


def _owns_name(function: types.FunctionType) -> bool:
    return (
        function.__code__.co_qualname == function.__qualname__
        and function.__globals__.get("__name__") == function.__module__
    )


def leads_to(obj: types.FunctionType | type) -> bool:
    """Tell whether the qualified name leads to the object, through what usually is put around a function."""
    first, *rest = obj.__qualname__.split(".")
    target: object = vars(sys.modules.get(obj.__module__, types.SimpleNamespace())).get(first)
    for name in rest:
        target = target.__dict__.get(name) if isinstance(target, type) else None
    return any(step is obj for step in _layers(target))


def _layers(target: object) -> Iterator[object]:
    """Walk from what a module holds to what it was made from, as far as the usual attributes lead."""
    for _ in range(32):  # a mock's attributes never end
        if target is None:
            return
        yield target
        for name in ("__wrapped__", "__func__", "func", "fget"):
            found = getattr(target, name, None)
            if callable(found):
                target = found
                break
        else:
            return


def _first_to_take(name: str, function: types.FunctionType, inner: types.FunctionType) -> bool:
    """Guard against two functions that each held the name when they were first used: from two files, say."""
    outer = [_text(inner.__code__.co_filename)]
    layer: Any = function
    while layer is not inner:
        outer.append(code_digest(layer))
        layer = layer.__wrapped__
    if _locate(inner) is None:
        outer.append(code_digest(inner))
    digest = blake3(b"".join(outer)).digest()
    return _taken.setdefault(name, digest) == digest
