"""Streams that compress what is written to them. The same bytes in give the same bytes out."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

__all__ = ["compressed"]

_GZIP = 31
"""zlib's window of 32 kB, with a gzip header; which has no name and no time."""


@contextmanager
def compressed(file: BinaryIO, compression: str | None) -> Iterator[BinaryIO]:
    """Yield a stream into a file: compressed as `gz` or `zst`, or the file itself.

    The end of the compressed data is written when the block ends well: what was broken off must not look whole.
    """
    if compression is None:
        yield file
        return
    compressor: Any
    if compression == "gz":
        compressor = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
    else:
        import zstandard

        compressor = zstandard.ZstdCompressor(level=3).compressobj()
    yield cast("BinaryIO", _Compressing(file, compressor))
    file.write(compressor.flush())
    file.flush()


class _Compressing(io.RawIOBase):
    def __init__(self, file: BinaryIO, compressor: Any) -> None:
        self._file = file
        self._compressor = compressor

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._file.write(self._compressor.compress(data))
        return memoryview(data).nbytes
