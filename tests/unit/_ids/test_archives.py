"""Compressed files and other encodings: whole, cut, damaged, padded, and larger than the memory."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from functools import reduce

import pytest
import zstandard

from engagement_async._ids.archives import as_utf8, packing_of, peek, unpacked
from engagement_async.errors import UsageError

DATA = b"1070059276213702656\n" * 200
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}
SKIPPED = struct.pack("<II", 0x184D2A50, 5) + b"hello"


def unpack(data: bytes, size: int = 1 << 18) -> tuple[tuple[str, ...], bytes]:
    packing, pieces = unpacked((data[at : at + size] for at in range(0, len(data), size)), "a")
    return packing, b"".join(pieces)


@pytest.mark.parametrize("size", [1, 3, 1 << 18])
@pytest.mark.parametrize("name", PACKED)
def test_pieces_of_any_size_make_the_same_bytes(name: str, size: int) -> None:
    packed = PACKED[name](DATA)

    assert unpack(packed, size) == ((name,), DATA)
    assert unpack(packed + packed, size) == ((name,), DATA + DATA)
    assert unpack(PACKED[name](b""), size) == ((name,), b"")
    assert unpack(gzip.compress(packed), size) == (("gzip", name), DATA)


@pytest.mark.parametrize("name", PACKED)
def test_an_archive_cut_at_any_byte_is_never_taken_for_whole(name: str) -> None:
    packed = PACKED[name](DATA)
    for length in range(10, len(packed)):
        with pytest.raises(UsageError, match=f"a: the {name} file is cut short"):
            unpack(packed[:length])


@pytest.mark.parametrize("name", PACKED)
def test_what_follows_the_end_is_corrupt(name: str) -> None:
    with pytest.raises(UsageError, match=rf"a: the {name} file is (corrupt \(.+\)|cut short): fetch it again"):
        unpack(PACKED[name](DATA) + b"trailing garbage of some length")


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz"])
def test_zeros_behind_the_end_are_padding(name: str) -> None:
    packed = PACKED[name](DATA)

    assert unpack(packed + bytes(512)) == ((name,), DATA)
    assert unpack(packed + bytes(4) + packed, 7) == ((name,), DATA + DATA)


@pytest.mark.parametrize("size", [1, 1 << 18])
def test_frames_that_zstd_skips(size: int) -> None:
    packed = PACKED["zstd"](DATA)

    assert unpack(SKIPPED + packed + SKIPPED + packed, size) == (("zstd",), DATA + DATA)
    with pytest.raises(UsageError, match="cut short"):
        unpack(SKIPPED[:-1], size)


def test_a_long_window_is_fine_while_it_is_not_used() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=31)
    packed = zstandard.ZstdCompressor(compression_params=parameters).compressobj()

    assert unpack(packed.compress(DATA) + packed.flush()) == (("zstd",), DATA)


def test_a_window_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engagement_async._ids.archives._MEMORY_BYTES", 1000)
    parameters = zstandard.ZstdCompressionParameters(window_log=20)
    packed = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = packed.compress(DATA) + packed.flush()

    with pytest.raises(UsageError, match=r"needs a window of 1 MB: decompress it first, as `zstd -dc --long=31"):
        unpack(data)


@pytest.mark.parametrize("name", PACKED)
def test_a_bomb_is_decompressed_in_pieces(name: str) -> None:
    packed = PACKED[name](bytes(100_000_000))
    tracemalloc.start()
    size = sum(map(len, unpacked(iter((packed,)), "a")[1]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert size == 100_000_000
    assert peak < 70_000_000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"7z\xbc\xaf\x27\x1c", "is a 7-Zip archive"),
        (b"\x04\x22\x4d\x18", "is lz4: decompress it first"),
        (reduce(lambda packed, _: gzip.compress(packed, mtime=0), range(4), DATA), "more than three times"),
    ],
)
def test_other_archives_are_refused_with_the_fix(data: bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        unpack(data)


@pytest.mark.parametrize("size", [1, 1 << 18])
@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        *(("utf-8", None), ("utf-8-sig", None), ("utf-16", "UTF-16"), ("utf-16-le", "UTF-16"), ("utf-16-be", "UTF-16")),
        ("utf-32", "UTF-32"),
    ],
)
def test_text_becomes_utf8(encoding: str, told: str | None, size: int) -> None:
    data = "tweet_id;größe\n".encode(encoding)
    found, pieces = as_utf8(data[at : at + size] for at in range(0, len(data), size))

    if size > 1 or not encoding.endswith("e"):  # the first bytes of a pipe tell what is not marked
        assert (found, b"".join(pieces).decode()) == (told, "tweet_id;größe\n")


def test_a_head_of_lines_is_enough_of_a_pipe() -> None:
    def pipe() -> Iterator[bytes]:
        yield from (b"a", b"b\n")
        raise AssertionError("nobody needs more")

    head, pieces = peek(pipe(), 100)

    assert head == next(pieces) == b"ab\n"
    assert packing_of(head) is None
