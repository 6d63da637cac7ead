"""Compressed streams: what goes in comes out, and what was broken off does not look whole."""

from __future__ import annotations

import gzip
import io
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from engagement_async._export.compression import compressed


@given(st.lists(st.binary(max_size=2000), max_size=6), st.sampled_from(["gz", "zst", None]))
def test_what_goes_in_comes_out_and_the_same_bytes_each_time(chunks: list[bytes], compression: str | None) -> None:
    files = [io.BytesIO(), io.BytesIO()]
    for file in files:
        with compressed(file, compression) as stream:
            for chunk in chunks:
                assert stream.write(chunk) == len(chunk)

    made = files[0].getvalue()
    assert made == files[1].getvalue()
    if compression == "gz":
        assert made[3:8] == bytes(5)  # neither a name nor a time
        made = gzip.decompress(made)
    elif compression == "zst":
        made = zstandard.ZstdDecompressor().decompressobj().decompress(made)
    assert made == b"".join(chunks)


def test_what_is_broken_off_is_not_whole() -> None:
    file = io.BytesIO()
    with pytest.raises(OSError, match="gone"), compressed(file, "gz") as stream:  # noqa: PT012 - the block is what is tested
        stream.write(b"half" * 100_000)
        raise OSError("gone")

    with pytest.raises(EOFError):
        gzip.decompress(file.getvalue())
    file = io.BytesIO()
    with pytest.raises(OSError, match="gone"), compressed(file, "zst") as stream:  # noqa: PT012
        stream.write(bytes(10_000_000))
        raise OSError("gone")
    assert zstandard.ZstdDecompressor().decompressobj().decompress(file.getvalue()) != bytes(10_000_000)


def test_gzip_is_deflate_with_its_usual_header() -> None:
    file = io.BytesIO()
    with compressed(file, "gz") as stream:
        stream.write(b"x")

    assert zlib.decompress(file.getvalue(), 31) == b"x"
