"""Values of the libraries as arguments, made at random, and matrices and images: promise P1. (Tensors: ``test_torch``.)"""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse as sp
from hypothesis import given, reject
from hypothesis import strategies as st
from PIL import Image

from redis_memo._keys import encode
from redis_memo.errors import KeyingError
from tests import comparison, strategies_arrow
from tests.strategies import STRATEGIES
from tests.test_keys import different, same
from tests.test_values import quick, there_and_back

DENSE = np.array([[0, 1.5, 0, 2], [0, 0, 0, 0], [3, 0, 4, 0]])
FORMATS = ["csr", "csc", "coo", "bsr", "dia", "lil", "dok"]


def shuffled(name: str) -> sp.sparray:
    """The same matrix from entries in another order, one of them in two parts, with wider indices."""
    rows, columns = np.array([2, 0, 2, 0, 0], "i8"), np.array([2, 3, 0, 1, 3], "i8")
    made = sp.coo_array(([4.0, 0.5, 3, 1.5, 1.5], (rows, columns)), shape=DENSE.shape)
    if name == "coo":
        made.coords = tuple(axis.astype("i8") for axis in made.coords)
        return made
    if name in ("csr", "csc"):
        made = getattr(sp, f"{name}_array")(sp.coo_array(DENSE))
        for start, stop in zip(made.indptr[:-1], made.indptr[1:], strict=True):
            made.indices[start:stop], made.data[start:stop] = (
                made.indices[start:stop][::-1].copy(),
                made.data[start:stop][::-1].copy(),
            )
        made.indices, made.indptr = made.indices.astype("i8"), made.indptr.astype("i8")
        return made
    if name == "dia":
        made = sp.dia_array(DENSE)
        made.data = np.pad(made.data[::-1], ((0, 0), (0, 2)), constant_values=9)  # beyond the last column
        made.offsets = made.offsets[::-1].astype("i8")
        return made
    if name == "dok":
        back = sp.dok_array(DENSE.shape)
        for row, column in ((2, 2), (0, 3), (2, 0), (0, 1)):
            back[row, column] = DENSE[row, column]
        return back
    return getattr(made, f"to{name}")()


@pytest.mark.parametrize("name", FORMATS)
def test_p1_a_matrix_by_its_entries_not_by_how_they_lie(name):
    one = getattr(sp, f"{name}_array")(DENSE)
    before = [part.copy() for part in vars(one).values() if isinstance(part, np.ndarray)]
    other = shuffled(name)
    assert (other.toarray() == DENSE).all()
    same(one, one.copy(), other)
    for part, was in zip([part for part in vars(one).values() if isinstance(part, np.ndarray)], before, strict=True):
        assert list(map(str, part.ravel())) == list(map(str, was.ravel())), "the argument itself must stay as it was"


def test_p1_an_argument_is_not_brought_into_order():
    other = shuffled("csr")
    indices = other.indices.copy()
    encode(other)
    assert (other.indices == indices).all()


def test_p1_matrices_differ_by_all_they_say():
    changed = DENSE.copy()
    changed[2, 2] = 5
    moved = DENSE[::-1].copy()
    stored_zero = sp.csr_array(([1.5, 2, 0, 3, 4], ([0, 0, 1, 2, 2], [1, 3, 1, 0, 2])), shape=(3, 4))
    noted = sp.csr_array(DENSE)
    noted.symbol = "INFY"
    different(
        DENSE,
        *(getattr(sp, f"{name}_{flavour}")(DENSE) for name in FORMATS for flavour in ("array", "matrix")),
        *(
            getattr(sp, f"{name}_array")(array)
            for name in FORMATS
            for array in (changed, moved, DENSE[:2], np.zeros((3, 4)))
        ),
        sp.csr_array(DENSE.astype("f4")),
        sp.csr_array((3, 5)),
        stored_zero,
        sp.bsr_array(DENSE, blocksize=(3, 2)),
        noted,
    )
    huge = sp.coo_array(([1.0, 2.0], ([0, 1 << 40], [1 << 40, 0])), shape=(1 << 41, 1 << 41))
    different(huge, huge.T)


@pytest.mark.parametrize(
    "name", sorted(name for name in STRATEGIES if name.startswith(("scipy.", "PIL.", "np.", "pd.", "pa.", "pl.")))
)
def test_p1_what_comes_back_from_a_hit_has_the_key_of_what_was_stored(name):
    @quick(40)
    @given(STRATEGIES[name])
    def check(value):
        try:
            encode(value)
        except KeyingError:  # some types in types of Arrow, of which Arrow itself can do next to nothing
            reject()
        same(value, there_and_back(value))

    check()


@quick(150)
@given(strategies_arrow.arrays(), st.integers(0, 300), st.integers(0, 300))
def test_p1_an_array_of_arrow_of_any_type_by_its_elements(array, cut, other):
    """In one piece or several, whatever lies beside it; and never the process's end."""
    cut, other = (place % max(1, len(array)) for place in (cut, other))
    pieces = [array.slice(0, cut), array.slice(cut)]
    # One NaN is as another; a dictionary may have equal values twice, and Arrow joins two with what it holds to be equal.
    plain = not any(name in str(array.type) for name in ("float", "double", "dictionary"))
    try:
        same(pa.chunked_array([array]), pa.chunked_array(pieces, type=array.type))
        if plain:
            same(array, pa.concat_arrays(pieces))
            changed = pa.concat_arrays([array.slice(0, cut), array.slice(other, 1), array.slice(cut + 1)])
            if len(array) and comparison.same(array, changed) is not True:
                different(array, changed)
    except (KeyingError, pa.ArrowNotImplementedError, pa.ArrowInvalid):
        reject()
    different(array, pa.chunked_array([array]), array.slice(0, len(array) - 1) if len(array) else None)


@quick(150)
@given(STRATEGIES["pd.DataFrame"], st.integers(0, 300))
def test_p1_a_frame_of_any_columns_by_its_cells(frame, turn):
    """However it came about; and another one where its rows are in another order."""
    apart = pd.DataFrame(index=frame.index)
    try:
        for place in range(frame.shape[1]):
            column = frame.iloc[:, place]
            apart.insert(place, place, pd.Series(column.array, index=frame.index, dtype=column.dtype))
        apart.columns, apart.attrs = frame.columns, frame.attrs
        others = [frame.copy(), apart, frame.iloc[:, ::-1].iloc[:, ::-1]]
        # What is joined on the way may have become of the machine's byte order.
        same(frame, *(each for each in others if list(map(str, each.dtypes)) == list(map(str, frame.dtypes))))
        turned = frame.take(np.roll(np.arange(len(frame)), turn))
        changed = not frame.equals(turned)
    except (KeyingError, NotImplementedError, ValueError, TypeError, AttributeError):  # what pandas cannot do with it
        reject()
    if changed:
        different(frame, turned)


def test_p1_images():
    one = Image.effect_noise((9, 7), 40)
    other = one.copy()
    other.putpixel((8, 6), (one.getpixel((8, 6)) + 1) % 256)
    noted, dotted = one.copy(), one.copy()
    noted.info["dpi"] = (72, 72)
    dotted.symbol = "INFY"
    colored = one.convert("P")
    recolored = colored.copy()
    recolored.putpalette(list(range(255, -1, -1)) * 3)
    same(one, one.copy())
    same(colored, colored.copy())
    different(
        one, other, noted, dotted, one.convert("RGB"), one.transpose(Image.Transpose.ROTATE_90), colored, recolored
    )
    different(Image.new("L", (2, 3)), Image.new("L", (3, 2)))


def opened(frames):
    file = io.BytesIO()
    first, *rest = (Image.new("L", (4, 4), 40 * number) for number in range(frames))
    first.save(file, "GIF", save_all=True, append_images=rest)
    return Image.open(file)


def test_p1_opened_files_by_what_is_in_them():
    same(opened(1), opened(1))
    different(opened(1), opened(1).copy())
    with pytest.raises(KeyingError, match="several frames"):
        encode(opened(2))
