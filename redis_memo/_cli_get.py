"""``redis-memo get``: what is stored for a call, shown or saved to a file; never computes."""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import pprint
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _ops as ops
from ._cli_hints import of_scripts
from ._cli_target import add_server, engine_of, find_function
from ._codecs import loads
from ._console import Exit, duration_text, note, say, say_json, shown, size_text, usage
from ._explain import Explanation, explain
from ._handle import MISSING
from ._listing import asking, split_key
from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._engine import Engine

__all__ = ["NAME", "SUMMARY", "add_arguments", "run"]

NAME = "get"
SUMMARY = "what is stored for a call, shown or saved to a file"

_EXAMPLES = """examples:
  redis-memo get pkg.mod:history RELIANCE interval=day
  redis-memo get pkg.mod:history RELIANCE --output reliance.parquet
  redis-memo get pkg.mod:Client.fetch INFY period:=30     := takes a Python literal
  redis-memo get 'memo:{stock_data:pkg.mod.history:#0}:0123...' an entry's own key, as ls and explain show it

What a text means is decided by the parameter's annotation, else by the type of its default, else it is a Python
literal where it reads as one, and text where it does not. Exit code 1: nothing is stored for this call.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what it takes."""
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("what", metavar="MODULE:FUNCTION|KEY", help="the function, or an entry's key")
    parser.add_argument(
        "arguments", nargs="*", metavar="ARGUMENT", help="of the call: text, name=text or name:=literal"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="save it: .parquet .csv .feather .json .npy .pkl; or bytes"
    )
    parser.add_argument("--force", action="store_true", help="replace an OUTPUT that is there")
    parser.add_argument("--json", action="store_true", help="for machines")
    add_server(parser)


def run(args: argparse.Namespace) -> Exit:
    """Show or save it."""
    if args.what.startswith("memo:{"):
        if args.arguments:
            usage("an entry's key takes no arguments")
        return _by_key(engine_of(args), args)
    target = find_function(args, args.what)
    call = target.call(args.arguments)
    standing: Explanation = target.engine.run(explain(call))
    value = target.peek(call, MISSING)
    facts = {
        "function": standing.function, "key": standing.key, "server": standing.server, "state": standing.state,
        "detail": standing.detail, "age": standing.age, "expires_in": standing.expires_in, "size": standing.size,
    }  # fmt: skip
    if value is MISSING:
        if standing.state == "unknown":
            note(f"redis-memo get: {standing.detail}")
            return Exit.FAILED
        if standing.state == "stored":
            facts["state"] = "stale"
        if args.json:
            say_json(facts)
        else:
            note(str(standing))
            note("Nothing is stored for this call." if standing.state == "absent" else "There is nothing to be served.")
        if standing.state == "absent":
            with asking(target.engine) as look:
                for hint in of_scripts(look, target.memo):
                    note(hint)
        return Exit.ATTENTION
    return _give(value, facts, args)


def _by_key(engine: Engine, args: argparse.Namespace) -> Exit:
    if split_key(args.what) is None:
        usage("an entry's key is memo:{namespace:function:version#shard}: and 40 hexadecimal digits")

    def read() -> ops.Flow:
        return (yield ops.Read(args.what))

    envelope = engine.run(read())
    facts: dict[str, Any] = {"key": args.what, "server": engine.backend.where, "state": "absent"}
    if envelope is None:
        if args.json:
            say_json(facts)
        else:
            note("Nothing is stored at this key.")
        return Exit.ATTENTION
    opened = engine.sealer.open(args.what, envelope)
    value = loads(opened.meta, opened.buffers, trusted=opened.trusted)
    stamp = opened.stamp
    facts |= {"state": "stored", "created": stamp.created, "expires": stamp.expires, "size": opened.stored}
    return _give(value, facts, args)


def _give(value: Any, facts: dict[str, Any], args: argparse.Namespace) -> Exit:
    if args.output is not None:
        path = Path(args.output).expanduser()
        _save(value, path, force=args.force)
        facts["output"] = str(path)
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    if args.json:
        say_json({**facts, "type": kind, **_as_json(value, saved=args.output is not None)})
        return Exit.OK
    lived = (
        f", {duration_text(facts['age'])} old, expires in {duration_text(facts['expires_in'])}"
        if "age" in facts
        else ""
    )
    note(f"{shown(facts['key'])}: {kind}, {size_text(facts['size'])}{lived}")
    if args.output is None:
        say(_as_text(value))
    else:
        note(f"saved to {path}")
    return Exit.OK


def _as_text(value: Any) -> str:
    is_frame = type(value).__module__.partition(".")[0] in ("pandas", "polars")
    text = str(value) if is_frame else pprint.pformat(value, width=100, sort_dicts=False)
    return "\n".join(map(shown, text.splitlines()))


def _as_json(value: Any, *, saved: bool) -> dict[str, Any]:
    if saved:
        return {}
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return {"text": _as_text(value)}
    return {"value": value}


def _writer(value: Any, suffix: str) -> Callable[[str], object] | bytes:
    """What writes a value into a file of that kind, or its bytes. Raises ConfigurationError."""
    frame = {".parquet": "to_parquet", ".csv": "to_csv", ".feather": "to_feather"}.get(suffix)
    if frame is not None and hasattr(value, frame):
        return getattr(value, frame)  # type: ignore[no-any-return]
    if frame == "to_csv" and hasattr(value, "write_csv"):  # polars
        return value.write_csv  # type: ignore[no-any-return]
    if frame == "to_parquet" and hasattr(value, "write_parquet"):
        return value.write_parquet  # type: ignore[no-any-return]
    if suffix in (".pkl", ".pickle"):
        return pickle.dumps(value, protocol=5)
    if suffix == ".json":
        if hasattr(value, "to_json"):
            return value.to_json  # type: ignore[no-any-return]
        try:
            return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError):
            raise ConfigurationError("the value is not what JSON can hold; .pkl takes any") from None
    if suffix == ".npy" and type(value).__module__ == "numpy" and hasattr(value, "tobytes"):
        import numpy as np  # noqa: PLC0415 - it is here: the value is its own

        file = io.BytesIO()
        np.save(file, value, allow_pickle=False)
        return file.getvalue()
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    raise ConfigurationError(
        f"a value of type {type(value).__qualname__} is not saved as {suffix or 'a file without suffix'}; "
        ".parquet, .csv, .feather take frames, .npy arrays, .json plain values, .pkl any"
    )


def _save(value: Any, path: Path, *, force: bool) -> None:
    """Write beside the file and take its place: whoever reads it finds all or nothing."""
    if path.exists() and not force:
        raise ConfigurationError(f"{path} is there already; --force replaces it")
    writer = _writer(value, path.suffix.lower())
    draft = path.with_name(f".{path.name}.{os.getpid()}{path.suffix}")
    try:
        if isinstance(writer, bytes):
            draft.write_bytes(writer)
        else:
            writer(str(draft))
        draft.replace(path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
    except (ValueError, TypeError, NotImplementedError) as error:  # the library's: a format that has no such index
        raise ConfigurationError(f"the value cannot be saved as {path.suffix}: {type(error).__name__}") from error
    except ImportError as error:
        raise ConfigurationError(f"{path.suffix} needs {error.name or 'a library'}, which is not installed") from error
    finally:
        draft.unlink(missing_ok=True)
