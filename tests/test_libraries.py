"""Matrices, images and estimators as values. P2: they come back as they were; P5, P6: planted ones harm nobody.

Tensors have a module of their own, ``test_torch``, because torch is not installed by default.
"""

from __future__ import annotations

import io
import json
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from redis_memo import _codecs_rules as rules
from redis_memo import _codecs_scipy, connect, redis_cached
from redis_memo import _codecs_stream as stream
from redis_memo._codecs import dumps, loads
from redis_memo._codecs_items import put_items
from redis_memo._codecs_numpy import put_array
from redis_memo.errors import UnreadableEntry, UnsupportedType

from .comparison import same
from .conftest import SECRET
from .strategies import STRATEGIES
from .test_values import Holder, by_pickle, quick, there_and_back

HERE = pathlib.Path(__file__).parent
NAMES = [name for name in sorted(STRATEGIES) if name.startswith(("scipy.", "PIL."))]


def collected(names: list[str], examples: int) -> list[Any]:
    """Some values of these types, the same in every run."""
    found: list[Any] = []

    @seed(7)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(st.one_of([STRATEGIES[name] for name in names]))
    def collect(value: Any) -> None:
        found.append(value)

    collect()
    return found


READ_AND_WRITE = """
import json, sys
from redis_memo._codecs import dumps, loads
before = set(sys.modules)
wrong = []
for number, line in enumerate(sys.stdin):
    meta, *buffers = map(bytes.fromhex, json.loads(line))
    again = dumps(loads(meta, buffers, trusted=False), allow_pickle=False)
    if [again.meta, *map(bytes, again.buffers)] != [meta, *buffers]:
        wrong.append(number)
print(json.dumps([wrong, number + 1, sorted({"scipy", "PIL", "torch", "pandas"} & before)]))
"""


def through_another_process(values: list[Any]) -> tuple[list[int], int, list[str]]:
    """Which of these another process, which has not seen their library, writes otherwise after it has read them."""
    payloads = [dumps(value, allow_pickle=False) for value in values]
    lines = [json.dumps([bytes(part).hex() for part in (payload.meta, *payload.buffers)]) for payload in payloads]
    done = subprocess.run(
        [sys.executable, "-c", READ_AND_WRITE],
        input="\n".join(lines), capture_output=True, text=True, check=False, cwd=HERE.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    wrong, count, loaded = json.loads(done.stdout)
    return wrong, count, loaded


def test_a_second_process_reads_what_was_written() -> None:
    """P2: it loads the library when the first value arrives, and has the same value then: it writes the same bytes."""
    values = collected(NAMES, 150)
    assert through_another_process(values) == ([], len(values), [])


# scipy

DENSE = np.array([[0, 1.5, 0, 2], [0, 0, 0, 0], [3, 0, 4, 0]])
FORMATS = ["csr", "csc", "coo", "bsr", "dia", "lil", "dok"]


@pytest.mark.filterwarnings("ignore::scipy.sparse.SparseEfficiencyWarning")
@pytest.mark.parametrize("flavour", ["array", "matrix"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_large_matrix_is_the_callers_own(name: str, flavour: str) -> None:
    """P2: what one caller changes no other one sees; what is stored in buffers is copied once."""
    value = getattr(sp, f"{name}_{flavour}")(sp.random_array((1000, 40), density=0.1, rng=1))
    payload = dumps(value, allow_pickle=False)
    buffers = [bytearray(buffer) for buffer in payload.buffers]
    kept = [bytes(buffer) for buffer in buffers]
    first, second = (loads(payload.meta, buffers, trusted=False) for _ in range(2))
    assert type(first) is type(value)
    first *= 0
    if name not in ("dia", "coo", "bsr"):
        first[0, 0] = 9
    for part in ("indices", "offsets", "data"):
        if isinstance(getattr(first, part, None), np.ndarray):
            getattr(first, part)[...] = 0
    assert [bytes(buffer) for buffer in buffers] == kept
    for buffer in buffers:
        buffer[:] = bytes(len(buffer))
    assert same(value, second) is True
    assert (second.toarray() == value.toarray()).all()


def _set(made: Any, **parts: Any) -> Any:
    for name, part in parts.items():
        setattr(made, name, part)
    return made


def _row(made: Any, row: int, places: list[Any], items: list[Any]) -> Any:
    made.rows[row], made.data[row] = places, items
    return made


def _keyed(made: Any, *keys: Any) -> Any:
    made._dict.update(dict.fromkeys(keys, 1.0))
    return made


def i4(*numbers: int) -> Any:
    return np.array(numbers, "i4")


UNSOUND = {
    "column too large": lambda: _set(sp.csr_array(DENSE), indices=i4(1, 3, 0, 4)),
    "column far away": lambda: _set(sp.csr_array(DENSE), indices=i4(1, 3, 0, 2_000_000_000)),
    "column negative": lambda: _set(sp.csr_array(DENSE), indices=i4(1, -1, 0, 2)),
    "row of a csc": lambda: _set(sp.csc_array(DENSE), indices=i4(2, 0, 3, 0)),
    "rows overlap": lambda: _set(sp.csr_array(DENSE), indptr=i4(0, 3, 1, 4)),
    "rows begin late": lambda: _set(sp.csr_array(DENSE), indptr=i4(1, 2, 2, 4)),
    "rows begin early": lambda: _set(sp.csr_array(DENSE), indptr=i4(-1, 2, 2, 4)),
    "rows end beyond": lambda: _set(sp.csr_array(DENSE), indptr=i4(0, 2, 2, 9)),
    "a row beyond": lambda: _set(sp.csr_array(DENSE), indptr=i4(0, 2, 9, 4)),
    "too few rows": lambda: _set(sp.csr_array(DENSE), indptr=i4(0, 4)),
    "too many rows": lambda: _set(sp.csr_array(DENSE), indptr=i4(0, 2, 2, 4, 4)),
    "less data than indices": lambda: _set(sp.csr_array(DENSE), data=np.ones(2)),
    "indices of two types": lambda: _set(sp.csr_array(DENSE), indptr=np.array([0, 2, 2, 4])),
    "short indices": lambda: _set(sp.csr_array(DENSE), indices=np.array([1, 3, 0, 2], "i2"), indptr=np.array([0, 2, 2, 4], "i2")),
    "unsigned indices": lambda: _set(sp.csr_array(DENSE), indices=np.array([1, 3, 0, 2], "u4"), indptr=np.array([0, 2, 2, 4], "u4")),
    "indices of floats": lambda: _set(sp.csr_array(DENSE), indices=np.array([1.0, 3, 0, 2]), indptr=np.array([0.0, 2, 2, 4])),
    "other byte order": lambda: _set(sp.csr_array(DENSE), indices=np.array([1, 3, 0, 2], ">i4"), indptr=np.array([0, 2, 2, 4], ">i4")),
    "a shape beyond its indices": lambda: _set(sp.csr_array(DENSE), _shape=(3, 1 << 40)),
    "a matrix of rows of rows": lambda: _set(sp.csr_array(DENSE), data=np.ones((4, 2))),
    "places in a square": lambda: _set(sp.csr_array(DENSE), indices=np.zeros((4, 4), "i4")),
    "objects": lambda: _set(sp.csr_array(DENSE), data=np.array([1, None, "a", 2], object)),
    "text": lambda: _set(sp.csr_array(DENSE), data=np.array(["a", "b", "c", "d"])),
    "data of the other byte order": lambda: _set(sp.csr_array(DENSE), data=np.ones(4, ">f8")),
    "block too far": lambda: _set(sp.bsr_array(DENSE, blocksize=(1, 2)), indices=i4(0, 1, 0, 2)),
    "blocks that do not fit": lambda: _set(sp.bsr_array(DENSE, blocksize=(1, 2)), _shape=(3, 5)),
    "blocks of nothing": lambda: _set(sp.bsr_array(DENSE, blocksize=(1, 2)), data=np.ones((4, 1, 0))),
    "flat blocks": lambda: _set(sp.bsr_array(DENSE, blocksize=(1, 2)), data=np.ones(4)),
    "coordinate too large": lambda: _set(sp.coo_array(DENSE), coords=(i4(0, 0, 2, 3), i4(1, 3, 0, 2))),
    "coordinate negative": lambda: _set(sp.coo_array(DENSE), coords=(i4(0, 0, 2, 2), i4(1, -3, 0, 2))),
    "coordinates of two lengths": lambda: _set(sp.coo_array(DENSE), coords=(i4(0, 0, 2, 2), i4(1, 0))),
    "coordinates of two types": lambda: _set(sp.coo_array(DENSE), coords=(i4(0, 0, 2, 2), np.array([1, 0, 0, 0]))),
    "flat coordinates": lambda: _set(sp.coo_array(DENSE), data=np.ones((4, 1))),
    "diagonal beyond": lambda: _set(sp.dia_array(DENSE), offsets=i4(-2, 0, 1, 9)),
    "diagonal far beyond": lambda: _set(sp.dia_array(DENSE), offsets=i4(-2, 0, 1, 2_147_483_647)),
    "diagonal twice": lambda: _set(sp.dia_array(DENSE), offsets=i4(-2, 0, 1, 1)),
    "fewer diagonals": lambda: _set(sp.dia_array(DENSE), offsets=i4(-2, 0)),
    "short diagonals' places": lambda: _set(sp.dia_array(DENSE), offsets=np.array([-2, 0, 1, 3], "i2")),
    "diagonals in a cube": lambda: _set(sp.dia_array(DENSE), data=np.ones((4, 4, 2))),
    "lists of two lengths": lambda: _row(sp.lil_array(DENSE), 1, [0, 1], [1.0]),
    "list too far": lambda: _row(sp.lil_array(DENSE), 1, [4], [1.0]),
    "list of texts": lambda: _row(sp.lil_array(DENSE), 1, [1], ["a"]),
    "key too far": lambda: _keyed(sp.dok_array(DENSE), (0, 4)),
    "key negative": lambda: _keyed(sp.dok_array(DENSE), (-1, 0)),
    "key of floats": lambda: _keyed(sp.dok_array(DENSE), (0.0, 0.5)),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSOUND)
def test_a_matrix_that_is_none_is_neither_written_nor_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """P5, P6: scipy would follow these indices to memory that is not the matrix's."""
    with pytest.raises(UnsupportedType, match="can only be pickled"):
        dumps([UNSOUND[name]()], allow_pickle=False)
    monkeypatch.setattr(_codecs_scipy, "_typed", lambda _sound: None)  # as someone would who writes it on purpose
    payload = dumps([UNSOUND[name]()], allow_pickle=False)
    with pytest.raises(UnreadableEntry, match="does not add up"):
        loads(payload.meta, payload.buffers, trusted=False)


def _planted(rule: str, name: str, shape: tuple[int, ...], *arrays: Any, more: bytes = b"") -> bytes:
    rules.load_rules(rule.partition(".")[0])
    enc = stream.Encoder(allow_pickle=False)
    enc.out += rules.BY_NAME[rule.encode()].head
    enc.text(name)
    enc.put(shape)
    if rule != "PIL.Image":
        enc.put(50)
    for array in arrays:
        put_array(enc, array)
    enc.out += more
    return bytes(enc.out)


F8, SIX = b"=\3<f8", [0.5] * 6
LISTS = {
    "sound": (F8, np.array([2, 0, 4], "u1"), np.array([0, 1, 0, 1, 2, 3], "u1"), SIX),
    "of objects": (b"=\2|O", np.array([2, 0, 4], "u1"), np.array([0, 1, 0, 1, 2, 3], "u1"), SIX),
    "of another byte order": (b"=\3>f8", np.array([2, 0, 4], "u1"), np.array([0, 1, 0, 1, 2, 3], "u1"), SIX),
    "signed lengths": (F8, np.array([-2, 2, 6], "i1"), np.array([0, 1, 0, 1, 2, 3], "u1"), SIX),
    "signed places": (F8, np.array([2, 0, 4], "u1"), np.array([0, 1, 0, 1, 2, -1], "i1"), SIX),
    "fewer rows": (F8, np.array([2, 4], "u1"), np.array([0, 1, 0, 1, 2, 3], "u1"), SIX),
    "rows in a square": (F8, np.array([[2, 0, 4]], "u1").T, np.array([0, 1, 0, 1, 2, 3], "u1"), SIX),
    "places in a square": (F8, np.array([2, 0, 4], "u1"), np.zeros((6, 1), "u1"), SIX),
    "more in the rows than there is": (F8, np.array([2, 0, 5], "u1"), np.array([0, 1, 0, 1, 2, 3], "u1"), SIX),
    "a length that wraps around": (F8, np.array([2**64 - 2, 2, 6], "u8"), np.array([0, 1, 0, 1, 2, 3], "u1"), SIX),
    "fewer places": (F8, np.array([2, 0, 4], "u1"), np.array([0, 1], "u1"), SIX),
    "place beyond": (F8, np.array([2, 0, 4], "u1"), np.array([0, 1, 0, 1, 2, 4], "u1"), SIX),
    "texts": (F8, np.array([2, 0, 4], "u1"), np.array([0, 1, 0, 1, 2, 3], "u1"), ["a"] * 6),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_that_no_writer_writes(name: str) -> None:
    """P5: the reader takes nothing on trust that the writer would have made so."""
    dtype, lengths, places, items = LISTS[name]
    enc = stream.Encoder(allow_pickle=False)
    put_array(enc, lengths), put_array(enc, places), put_items(enc, items)
    meta = _planted("scipy.lil", "lil_array", (3, 4), more=dtype + bytes(enc.out))
    if name == "sound":
        assert loads(meta, (), trusted=False).rows.tolist() == [[0, 1], [], [0, 1, 2, 3]]
        return
    with pytest.raises(UnreadableEntry, match="does not add up"):
        loads(meta, (), trusted=False)


def _claims() -> dict[str, bytes]:
    one, many = np.zeros(1), 1 << 40
    index = np.zeros(1, "i8")
    return {
        "rows of a csr": _planted("scipy.compressed", "csr_array", (many, 1), one, index, index),
        "rows of a lil": _planted("scipy.lil", "lil_array", (many, 1), more=b"=\3<f8") + b"=\3|u1\1\0\0\0" * 2 + b"g\0",
        "diagonals": _planted("scipy.dia", "dia_array", (many, many), np.zeros((0, 0)), index),
        "pixels": _planted("PIL.Image", "RGB", (1 << 20, 1 << 20), np.zeros(3, "u1"), more=b"\0m\0N"),
        "rows of an image": _planted("PIL.Image", "L", (0, 1 << 30), np.zeros(0, "u1"), more=b"\0m\0N"),
    }


@pytest.mark.parametrize("name", _claims())
def test_a_claimed_shape_allocates_nothing(name: str) -> None:
    """P5: what a few bytes claim to be is compared with what is there before memory is asked for."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnreadableEntry):
        loads(_claims()[name], (), trusted=False)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


def _use(value: Any) -> None:
    """What a program does with a matrix or an image."""
    if isinstance(value, Image.Image):
        value.convert("RGBA" if value.mode != "LAB" else "LAB").tobytes()
        value.resize((3, 3)).tobytes() if 0 not in value.size else None
        return
    if not hasattr(value, "tocsr") or max(value.shape) > 10_000:
        return
    value.toarray()
    if value.ndim == 2:
        value.tocsc(), value.tocoo(), value.T.tocsr().sum(0), value.tocsr().sort_indices()
        value @ np.ones(value.shape[1], value.dtype)
        value + value
        value.tocsr()[:1] if value.shape[0] else None


@quick(800)
@given(st.data())
def test_a_damaged_matrix_or_image_is_unreadable_or_can_be_used(data: st.DataObject) -> None:
    """P5, P6: whatever bytes are changed, what comes out does not lead scipy or Pillow astray."""
    payload = dumps(data.draw(st.one_of([STRATEGIES[name] for name in NAMES])), allow_pickle=False)
    meta, buffers = bytearray(payload.meta), [bytearray(buffer) for buffer in payload.buffers]
    for _ in range(data.draw(st.integers(1, 4))):
        target = data.draw(st.sampled_from([meta, *buffers]))
        if target:
            place = data.draw(st.integers(0, len(target) - 1))
            target[place] = data.draw(st.sampled_from([0, 1, 2, 3, 4, 0x7F, 0x80, 0xFD, 0xFE, 0xFF, target[place] ^ 1]))
    try:
        value = loads(bytes(meta), buffers, trusted=False)
    except UnreadableEntry:
        return
    with np.errstate(all="ignore"):
        try:
            _use(value)
        except (ValueError, TypeError, MemoryError, OverflowError, NotImplementedError, np.exceptions.ComplexWarning):
            pass


def test_what_the_rules_do_not_know_goes_by_pickle() -> None:
    """P2: attributes of a user's, other kinds of rows, half floats."""
    made = sp.csr_array(DENSE)
    made.symbol = "INFY"  # type: ignore[attr-defined]
    assert by_pickle(made).symbol == "INFY"
    assert type(by_pickle(_row(sp.lil_array(DENSE), 1, (0,), [1.0])).rows[1]) is tuple
    assert type(by_pickle(_row(sp.lil_array(DENSE), 1, [np.int64(0)], [1.0])).rows[1][0]) is np.int64
    assert by_pickle(_set(sp.csr_array(DENSE), data=np.ones(4, "f2"))).dtype == "f2"


def test_rows_in_a_square_are_none() -> None:
    """P5: what a compressed matrix could not even be asked for."""
    square = i4(0, 1, 2, 3).reshape(-1, 1)
    with pytest.raises(UnreadableEntry, match="does not add up"):
        loads(_planted("scipy.compressed", "csr_array", (3, 1), np.ones(3), i4(0, 0, 0), square), (), trusted=False)


# Pillow


def opened(frames: int = 1, kind: str = "PNG") -> Image.Image:
    """An image that was read from a file."""
    file = io.BytesIO()
    first, *rest = (Image.new("L", (4, 4), 40 * number) for number in range(frames))
    first.save(file, kind, save_all=frames > 1, append_images=rest) if frames > 1 else first.save(file, kind)
    file.seek(0)
    return Image.open(file)


def test_no_decoder_of_an_image_format_sees_a_stored_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """P6: pixels are copied; formats are for files."""
    payloads = [dumps(value, allow_pickle=False) for value in collected(["PIL.Image"], 60)]
    used: set[str] = set()
    decoder = Image._getdecoder

    def seen(mode: str, name: str, *rest: Any) -> Any:
        used.add(name)
        return decoder(mode, name, *rest)

    monkeypatch.setattr(Image, "_getdecoder", seen)
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("opened"))
    for payload in payloads:
        loads(payload.meta, payload.buffers, trusted=False)
    assert used == {"raw"}


def test_an_image_is_the_callers_own() -> None:
    """P2."""
    value = Image.effect_noise((200, 200), 30)
    payload = dumps(value, allow_pickle=False)
    first, second = (loads(payload.meta, payload.buffers, trusted=False) for _ in range(2))
    first.putpixel((0, 0), 255 - value.getpixel((0, 0)))
    first.info["new"] = 1
    assert same(value, second) is True


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "PPM"])
def test_an_opened_file_is_pickled_and_its_copy_is_not(kind: str) -> None:
    """P2: it is of a class of its format. A copy is a plain image."""
    image = opened(kind=kind)
    back = by_pickle(image)
    assert type(back) is type(image)
    assert back == image
    assert same(image.copy(), there_and_back(image.copy())) is True


@pytest.mark.parametrize("place", ["alone", "in an object"])
def test_several_frames_are_refused(place: str) -> None:
    """P2: Pillow's own pickle keeps the one that is at hand."""
    image = opened(3, "GIF")
    value = image if place == "alone" else Holder([image])
    with pytest.raises(UnsupportedType, match="several frames"):
        dumps(value, allow_pickle=True)


# polars


def test_a_polars_column_of_objects_is_refused_with_a_reason() -> None:
    """P5: polars can neither pickle it nor hand it to Arrow; the caller is told which column kind it is."""
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"a": [object()]}, schema={"a": pl.Object})
    for value in (frame, frame.to_series()):
        for allowed in (False, True):
            with pytest.raises(UnsupportedType, match="dtype Object"):
                dumps([value], allow_pickle=allowed)


# scikit-learn: by pickle, which takes a secret


def fitted() -> Any:
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = np.random.default_rng(1).random((400, 6))
    target = rows.sum(1)
    return [
        LinearRegression().fit(rows, target),
        make_pipeline(StandardScaler(), RandomForestRegressor(5, random_state=1)).fit(rows, target),
    ], rows


def test_estimators_come_back_and_predict_the_same() -> None:
    """P2: in the buffers of the entry, not in the pickle; and the caller's own."""
    models, rows = fitted()
    payload = dumps({"models": models, "rows": rows}, allow_pickle=True)
    assert payload.pickled
    assert sum(map(len, payload.buffers)) > len(payload.meta)
    back = loads(payload.meta, [bytes(buffer) for buffer in payload.buffers], trusted=True)
    for model, other in zip(models, back["models"], strict=True):
        assert type(other) is type(model)
        assert (other.predict(rows) == model.predict(rows)).all()
    back["models"][0].coef_[:] = 0
    again = loads(payload.meta, payload.buffers, trusted=True)
    assert (again["models"][0].coef_ == models[0].coef_).all()


@pytest.mark.parametrize("secret", [SECRET, None], ids=["with a secret", "without"])
def test_estimators_and_a_server(secret: str | None, valkey_server: Any, namespace: str) -> None:
    """P6: stored and signed where there is a secret; returned, and computed again, where there is none."""
    cache, calls = connect(valkey_server.url, secret=secret), []

    @redis_cached(namespace=namespace, ttl=60, cache=cache)
    def train(symbol: str) -> Any:
        calls.append(symbol)
        return fitted()[0][0]

    first, second = train("INFY"), train("INFY")
    assert (first.coef_ == second.coef_).all()
    assert calls == ["INFY"] * (1 if secret else 2)
    assert train.cache_info().refused == (0 if secret else 2)
    cache.clear(namespace)
    cache.close()


def test_an_estimator_of_another_version_is_trained_again(
    valkey_server: Any, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: scikit-learn would read it with a warning, and not promise that it predicts the same."""
    import sklearn

    cache, calls = connect(valkey_server.url, secret=SECRET), []

    @redis_cached(namespace=namespace, ttl=60, cache=cache)
    def train(symbol: str) -> Any:
        calls.append(symbol)
        return {"model": fitted()[0][0], "note": "x"}

    train("INFY"), train("INFY")
    assert calls == ["INFY"]
    monkeypatch.setattr(sklearn, "__version__", "0.1")
    train("INFY")
    assert calls == ["INFY"] * 2
    assert train.cache_info().unreadable == 1
    payload = dumps(fitted()[0], allow_pickle=True)
    monkeypatch.undo()
    with pytest.raises(UnreadableEntry, match=r"sklearn 0\.1"):
        loads(payload.meta, payload.buffers, trusted=True)
    with pytest.raises(UnreadableEntry, match="who wrote it"):
        loads(payload.meta, payload.buffers, trusted=False)
    cache.clear(namespace)
    cache.close()
