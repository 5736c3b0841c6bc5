"""Pillow images: mode, size, pixels, palette, info.

Pixels are stored as they lie in memory, row by row. No decoder of an image format sees a stored byte: what is read is
copied into a new image after its length has been compared with mode and size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image, ImageFile, ImagePalette

from redis_memo._codecs_numpy import get_array, put_array
from redis_memo._codecs_rules import FLAWS, NotTyped, Rule, register
from redis_memo.errors import UnreadableEntry

if TYPE_CHECKING:
    from redis_memo._codecs_stream import Decoder, Encoder

__all__: list[str] = []

# What one element of a row is, and how many of them make a pixel.
_PIXELS: Final[dict[str, tuple[str, int]]] = {
    **dict.fromkeys(("L", "P"), ("u1", 1)),
    **dict.fromkeys(("LA", "La", "PA"), ("u1", 2)),
    **dict.fromkeys(("RGB", "YCbCr", "LAB", "HSV"), ("u1", 3)),
    **dict.fromkeys(("RGBA", "RGBa", "RGBX", "CMYK"), ("u1", 4)),
    "1": ("u1", 1),  # eight pixels an element
    "I": ("i4", 1),
    "F": ("f4", 1),
    "I;16": ("<u2", 1),
    "I;16L": ("<u2", 1),
    "I;16B": (">u2", 1),
    "I;16N": ("u2", 1),
}
_LONGEST: Final = 1 << 16  # of an image without a pixel, whose rows take memory all the same
_PALETTES: Final = ("RGB", "RGBA", "CMYK")
_KNOWN: Final = frozenset({
    "_im", "im", "_mode", "mode", "_size", "size", "palette", "info", "readonly", "_readonly", "_exif", "_category",
    "category", "pyaccess",
})  # fmt: skip


def _count(mode: str, size: tuple[int, int]) -> int:
    """How many elements the pixels are."""
    width, height = size
    return (-(-width // 8) if mode == "1" else width * _PIXELS[mode][1]) * height


def _is_size(size: Any) -> bool:
    return (
        type(size) is tuple
        and len(size) == 2
        and set(map(type, size)) == {int}
        and min(size) >= 0
        and (min(size) > 0 or max(size) <= _LONGEST)
    )


def _flaw(image: Any) -> str | None:
    if getattr(image, "n_frames", 1) > 1:
        return "has several frames, of which one would come back; return a list of their copies"
    return None


def _put_image(enc: Encoder, image: Any) -> None:
    image.load()  # brings palette and pixels together
    mode, size = image.mode, image.size
    if mode not in _PIXELS or not _is_size(size):
        raise NotTyped
    enc.text(mode)
    enc.put(size)
    put_array(enc, np.frombuffer(image.tobytes(), _PIXELS[mode][0]))
    _put_palette(enc, image)
    enc.put(image.info)
    enc.put({name: item for name, item in vars(image).items() if name not in _KNOWN} or None)


def _get_image(dec: Decoder) -> Any:
    mode, size, pixels = dec.text(), dec.exact(tuple), get_array(dec)
    if mode not in _PIXELS or not _is_size(size):
        raise UnreadableEntry("an image is damaged")
    if pixels.dtype != np.dtype(_PIXELS[mode][0]) or pixels.shape != (_count(mode, size),):
        raise UnreadableEntry("an image is not as large as it should be")
    image = Image.frombytes(mode, size, pixels.data)
    _get_palette(dec, image)
    image.info = dec.exact(dict)
    own = dec.exact(dict, type(None))
    if own is not None:
        if not set(map(type, own)) <= {str} or own.keys() & _KNOWN:
            raise UnreadableEntry("an image is damaged")
        vars(image).update(own)
    return image


# The palette that pixels are looked up in, and the one that Python sees, which may lack the colours at the end.


def _put_palette(enc: Encoder, image: Any) -> None:
    if image.mode not in ("P", "PA"):
        enc.text("")
        return
    shown = image.palette
    if type(shown) is not ImagePalette.ImagePalette or shown.rawmode not in (None, shown.mode):
        raise NotTyped
    mode = image.im.getpalettemode()
    enc.text(mode)
    enc.put(bytes(image.im.getpalette(mode, mode)))
    enc.text(shown.mode)
    enc.put(shown.palette)


def _get_palette(dec: Decoder, image: Any) -> None:
    mode = dec.text()
    if mode not in (_PALETTES if image.mode in ("P", "PA") else ("",)):
        raise UnreadableEntry("a palette is damaged")
    if not mode:
        return
    colors, shown_mode, shown = dec.exact(bytes), dec.text(), dec.exact(bytes, bytearray, list)
    if shown_mode not in _PALETTES or not set(map(type, shown)) <= {int}:
        raise UnreadableEntry("a palette is damaged")
    image.putpalette(colors, mode)
    image.load()
    image.palette = ImagePalette.ImagePalette(shown_mode)
    image.palette.palette = shown  # the constructor has another idea of an empty one


register(Rule("PIL.Image", _put_image, _get_image), Image.Image)
# An opened file is of a class of its format, and is pickled.
FLAWS.register(ImageFile.ImageFile, _flaw, subclasses=True)
