"""Key rules for Pillow: images by class, mode, size, pixels, palette and info, as ``Image.__eq__`` compares them."""

from __future__ import annotations

from typing import Any

from PIL import Image, ImageFile

from redis_memo._keys import LIBRARIES
from redis_memo._keys_code import identity
from redis_memo._keys_walk import Walk, blob, joined, named, pairs, refuse, text

__all__: list[str] = []

_PARTS = frozenset({
    "_im", "im", "_mode", "mode", "_size", "size", "palette", "info", "readonly", "_readonly", "_exif", "_category",
    "category", "pyaccess",
})  # fmt: skip


def _image(value: Any, walk: Walk) -> bytes:
    cls = type(value)
    if getattr(value, "n_frames", 1) > 1:
        refuse(cls, "has several frames, of which only one is at hand: pass their copies, or the file's bytes")
    value.load()  # brings palette and pixels together
    pixels = value.tobytes()
    walk.work += len(pixels)
    palette = b"N"
    if value.mode in ("P", "PA"):
        mode = value.im.getpalettemode()
        palette = text(mode) + blob(bytes(value.im.getpalette(mode, mode)))
    # An opened file knows where it was opened and how far it was read, which is no part of the picture.
    own = {} if isinstance(value, ImageFile.ImageFile) else vars(value)
    state = pairs([(name, item) for name, item in own.items() if name not in _PARTS], walk)
    return named(
        "PIL.Image",
        identity(cls, walk),
        text(value.mode),
        walk.encode(tuple(value.size)),
        blob(pixels),
        palette,
        walk.encode(value.info),
        joined(b"d", len(state), state),
    )


LIBRARIES.register(Image.Image, _image, subclasses=True)
