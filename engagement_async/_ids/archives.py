"""Compressed bytes and other encodings become UTF-8: gzip, bzip2, xz, zstd, UTF-16. Recognized by what they begin with.

An archive that is cut or damaged is refused, and never taken for a short one. No archive is ever in memory as a whole.
"""

from __future__ import annotations

import bz2
import codecs
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, NoReturn

from engagement_async.errors import UsageError

__all__ = ["HEAD_BYTES", "as_utf8", "packing_of", "peek", "unpacked"]

_OUT_BYTES = 1024 * 1024
_GZIP_BYTES = 4 * 1024
_ZSTD_BYTES = 512
"""Compressed bytes decompressed at a time: at the worst ratio they become 4 MiB of gzip, and 16 MiB of zstd."""
_MEMORY_BYTES = 512 * 1024 * 1024
"""Window of an archive: what its decoder may keep of it."""
_ZSTD_HEADER_BYTES = 18

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_FOREIGN = {
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive: unpack it first",
    b"Rar!": "a RAR archive: unpack it first",
    b"\x04\x22\x4d\x18": "lz4: decompress it first, as `lz4 -dc FILE | engagement ... --ids -` does",
    b"\x1f\x9d": "compressed by `compress`: decompress it first, as `zcat FILE | engagement ... --ids -` does",
    b"LZIP": "lzip: decompress it first, as `lzip -dc FILE | engagement ... --ids -` does",
}
HEAD_BYTES = 16
"""What is enough to recognize an archive."""


def peek(pieces: Iterable[bytes], size: int, *, lines: int = 1) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes, and all pieces from the first on.

    A pipe may give its bytes one by one, and pause for long: a smaller head is enough that holds so many whole lines.
    """
    source = iter(pieces)
    head = bytearray()
    for piece in source:
        head += piece
        if len(head) >= size or head.count(b"\n") >= lines:
            break
    start = bytes(head)
    return start, chain((start,), source) if start else iter(())


def packing_of(head: bytes) -> str | None:
    """Return by what the bytes are compressed, or None."""
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return name
    if head[:3] == b"BZh" and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):
        return "bzip2"
    if len(head) >= 4 and 0x50 <= head[0] <= 0x5F and head[1:4] == b"\x2a\x4d\x18":
        return "zstd"  # a frame to be skipped comes first, as pzstd writes it
    return None


def unpacked(pieces: Iterator[bytes], source: str) -> tuple[tuple[str, ...], Iterator[bytes]]:
    """Return by what the bytes are compressed, outermost first, and the bytes within."""
    packing: list[str] = []
    while True:
        head, pieces = peek(pieces, HEAD_BYTES)
        for magic, what in _FOREIGN.items():
            if head.startswith(magic):
                raise UsageError(f"{source}: is {what}")
        name = packing_of(head)
        if name is None:
            return tuple(packing), pieces
        if len(packing) == 3:
            raise UsageError(f"{source}: is compressed more than three times: decompress it first")
        packing.append(name)
        pieces = _UNPACK[name](pieces, f"{source}: the {name} file")


def as_utf8(pieces: Iterator[bytes]) -> tuple[str | None, Iterator[bytes]]:
    """Return the encoding, if it is not UTF-8, and the text as UTF-8 without its byte order mark."""
    head, pieces = peek(pieces, 64)
    encoding = _encoding_of(head)
    if encoding is None:
        head, pieces = peek(pieces, 3, lines=3)
        if head.startswith(codecs.BOM_UTF8):
            first = next(pieces)
            pieces = chain((first[3:],), pieces)
        return None, pieces
    return encoding.upper()[:6], _recoded(pieces, encoding)


def _encoding_of(head: bytes) -> str | None:
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if len(head) >= 4:  # ASCII text has a NUL in every other byte
        even, odd = head[::2], head[1::2]
        if not odd.strip(b"\0") and b"\0" not in even:
            return "utf-16-le"
        if not even.strip(b"\0") and b"\0" not in odd:
            return "utf-16-be"
    return None


def _recoded(pieces: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    for piece in pieces:
        yield decoder.decode(piece).encode("utf-8", "replace")
    yield decoder.decode(b"", final=True).encode("utf-8", "replace")


def _cut(what: str) -> NoReturn:
    raise UsageError(f"{what} is cut short: fetch it again")


def _corrupt(what: str, error: BaseException) -> NoReturn:
    detail = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise UsageError(f"{what} is corrupt ({detail}): fetch it again") from None


def _sliced(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    for piece in pieces:
        for start in range(0, len(piece), size):
            yield piece[start : start + size]


def _gunzip(pieces: Iterator[bytes], what: str) -> Iterator[bytes]:
    """Decompress member after member, and demand the end of the last. Zeros behind a member are padding."""
    decoder: Any = None
    is_first = True
    for piece in _sliced(pieces, _GZIP_BYTES):
        data = piece
        while data:
            if decoder is None:
                data = data if is_first else data.lstrip(b"\0")
                if not data:
                    break
                decoder, is_first = zlib.decompressobj(wbits=31), False
            try:
                yield decoder.decompress(data)
            except zlib.error as error:
                _corrupt(what, error)
            data = b""
            if decoder.eof:
                data, decoder = decoder.unused_data, None
    if decoder is not None:
        _cut(what)


_Unpack = Callable[[Iterator[bytes], str], Iterator[bytes]]


def _bounded(new: Callable[[], Any], broken: tuple[type[Exception], ...]) -> _Unpack:
    """Return a reader of streams that may grow a million times: they are decompressed to pieces of a fixed size."""

    def unpack(pieces: Iterator[bytes], what: str) -> Iterator[bytes]:
        decoder: Any = None
        is_first = True
        for piece in pieces:
            data = piece
            while data or (decoder is not None and not decoder.needs_input):
                if decoder is None:
                    data = data if is_first else data.lstrip(b"\0")
                    if not data:
                        break
                    decoder, is_first = new(), False
                try:
                    yield decoder.decompress(data, _OUT_BYTES)
                except broken as error:
                    _corrupt(what, error)
                data = b""
                if decoder.eof:
                    data, decoder = decoder.unused_data, None
        if decoder is not None:
            _cut(what)

    return unpack


def _unzstd(pieces: Iterator[bytes], what: str) -> Iterator[bytes]:
    """Decompress frame after frame, and demand the end of the last: zstandard's own readers accept a file that is cut."""
    try:
        import zstandard
    except ImportError:
        name = what.partition(": the zstd")[0]
        raise UsageError(f"{name}: zstd needs a library: pip install 'engagement-async[cli]'") from None
    pieces = _sliced(pieces, _ZSTD_BYTES)
    rest = b""
    at_end = False
    while True:
        while len(rest) < _ZSTD_HEADER_BYTES and not at_end:
            piece = next(pieces, None)
            at_end = piece is None
            rest += piece or b""
        if not rest:
            return
        if len(rest) >= 4 and 0x50 <= rest[0] <= 0x5F and rest[1:4] == b"\x2a\x4d\x18":
            rest = _skipped(rest, pieces, what)
            continue
        try:
            window = zstandard.get_frame_parameters(rest).window_size
        except zstandard.ZstdError as error:
            if at_end and rest.startswith(b"\x28\xb5\x2f\xfd"):
                _cut(what)
            _corrupt(what, error)
        decoder = zstandard.ZstdDecompressor(max_window_size=2**31).decompressobj()
        size = 0
        for data in chain((rest,), pieces):
            try:
                out = decoder.decompress(data)
            except zstandard.ZstdError as error:
                _corrupt(what, error)
            size += len(out)
            if window > _MEMORY_BYTES and size > _MEMORY_BYTES:  # until then, so much of the window is not used
                raise UsageError(
                    f"{what} needs a window of {window >> 20:,} MB: decompress it first, as "
                    "`zstd -dc --long=31 FILE | engagement ... --ids -` does"
                )
            yield out
            if decoder.eof:
                break
        else:
            _cut(what)
        rest = decoder.unused_data


def _skipped(rest: bytes, pieces: Iterator[bytes], what: str) -> bytes:
    """Return what follows a skippable frame."""
    while len(rest) < 8:
        piece = next(pieces, None)
        if piece is None:
            _cut(what)
        rest += piece
    left = 8 + int.from_bytes(rest[4:8], "little")
    while len(rest) < left:
        left -= len(rest)
        piece = next(pieces, None)
        if piece is None:
            _cut(what)
        rest = piece
    return rest[left:]


_UNPACK: dict[str, _Unpack] = {
    "gzip": _gunzip,
    "bzip2": _bounded(bz2.BZ2Decompressor, (OSError, ValueError)),
    "xz": _bounded(lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY_BYTES), (lzma.LZMAError, EOFError)),
    "zstd": _unzstd,
}
