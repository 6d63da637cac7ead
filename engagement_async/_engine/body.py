"""The body of one response: collected as it streams in, decoded when it is wanted, and proved to be whole.

aiohttp accepts a gzip body that was cut inside a complete Content-Length, and unpacks a bomb before it can be stopped.
"""

from __future__ import annotations

import zlib
from types import ModuleType
from typing import Any

from engagement_async.config import SizeLimits
from engagement_async.errors import BodyError

_inflate: ModuleType
try:
    from isal import isal_zlib

    _inflate = isal_zlib
except ImportError:  # the extra [speed] is not there
    _inflate = zlib

__all__ = ["BodyDecoder", "gunzip"]

_GZIP = 16 + zlib.MAX_WBITS
_STEP = 2**16
"""Bytes that are inflated at once: more than the header of a member has, and few, as what follows its end is copied."""
_ZLIB_ERRORS: tuple[type[Exception], ...] = (zlib.error, _inflate.error)


class BodyDecoder:
    """Collects a body as it streams in, and decodes it at the end: until then it takes no more memory than on the wire.

    >>> decoder = BodyDecoder("gzip", SizeLimits()); decoder.feed(chunk); decoder.finish()

    Several gzip members in a row are one body (RFC 1952).
    """

    def __init__(self, encoding: str | None, size_limits: SizeLimits) -> None:
        """Raise `BodyError` for an encoding that was not asked for."""
        name = (encoding or "identity").strip().lower()
        if name not in ("gzip", "x-gzip", "identity"):
            raise BodyError(f"the answer has the Content-Encoding {name[:40]!r}, and only gzip was asked for")
        self._is_gzip = name != "identity"
        self._size_limits = size_limits
        self._wire: list[bytes] = []
        self._wire_bytes = 0

    def feed(self, data: bytes) -> None:
        """Take in the next bytes of the wire. Raise `BodyError` when there are more than is allowed."""
        self._wire_bytes += len(data)
        if self._wire_bytes > self._size_limits.wire_bytes:
            raise BodyError(f"the answer is over {self._size_limits.wire_bytes} bytes on the wire")
        if not self._is_gzip and self._wire_bytes > self._size_limits.decoded_bytes:
            raise self._too_large()
        self._wire.append(data)

    def finish(self) -> bytes:
        """Return the whole body, once the wire has ended.

        Raise `BodyError` for a bad checksum, cut or trailing bytes, and for a body that is too large once decoded.
        """
        parts = self._inflate() if self._is_gzip else self._wire
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def as_gzip(self) -> bytes:
        """Return the body as it came; packed, if it was not."""
        data = b"".join(self._wire)
        return data if self._is_gzip else _inflate.compress(data, 1, _GZIP)

    def _inflate(self) -> list[bytes]:
        # Pieces of the wire are not handed over as they came: isal takes a member for corrupt whose header it gets in two.
        wire = memoryview(self._wire[0] if len(self._wire) == 1 else b"".join(self._wire))
        inflater: Any = _inflate.decompressobj(_GZIP)
        parts: list[bytes] = []
        room = self._size_limits.decoded_bytes
        at = 0
        while at < len(wire):
            if inflater.eof:
                inflater = _inflate.decompressobj(_GZIP)  # the next member
            data = wire[at : at + _STEP]
            try:
                part = inflater.decompress(data, room + 1)
            except _ZLIB_ERRORS:
                raise BodyError("the gzip body is corrupt") from None
            room -= len(part)
            if room < 0:
                raise self._too_large()
            if part:
                parts.append(part)
            at += len(data) - len(inflater.unused_data if inflater.eof else inflater.unconsumed_tail)
        if not inflater.eof:
            raise BodyError("the gzip body is cut short")
        return parts

    def _too_large(self) -> BodyError:
        return BodyError(f"the answer is over {self._size_limits.decoded_bytes} bytes once decoded")


def gunzip(data: bytes) -> bytes:
    """Return what was packed, in one gzip member or several. Raise `BodyError` for what is no whole gzip."""
    decoder = BodyDecoder("gzip", _NO_LIMITS)
    decoder.feed(data)
    return decoder.finish()


_NO_LIMITS = SizeLimits(wire_bytes=2**62, decoded_bytes=2**62)
