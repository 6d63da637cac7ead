"""The decoder against thousands of broken bodies, on each library that may be underneath it."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async.config import SizeLimits
from engagement_async.errors import BodyError
from tests.support.mutations import DATA, LIBRARIES, Decoder, bodies, count, decoded

SEED = 20_261_122


@pytest.fixture(params=["isal", "zlib"])
def decoder(request: pytest.FixtureRequest) -> Decoder:
    if request.param not in LIBRARIES:
        pytest.skip("isal is not installed: the extra [speed] is what its users have")
    return LIBRARIES[request.param]


@pytest.mark.parametrize("name", sorted(bodies()))
def test_no_broken_body_is_taken_for_data(decoder: Decoder, name: str) -> None:
    """Whole and in random pieces; together 160,000 mutations."""
    result = count(decoder, bodies()[name], SEED)

    assert result.accepted == 0
    assert result.tried >= 10_000
    assert result.harmless < result.tried / 20


@pytest.mark.parametrize("name", sorted(bodies()))
def test_a_whole_body_is_decoded_however_it_comes(decoder: Decoder, name: str) -> None:
    chance = random.Random(SEED)

    assert decoded(decoder, bodies()[name]) == DATA
    assert all(decoded(decoder, bodies()[name], chance) == DATA for _ in range(50))


@given(parts=st.lists(st.binary(max_size=2000), max_size=5), data=st.data(), library=st.sampled_from(sorted(LIBRARIES)))
def test_any_members_in_any_pieces_make_one_body(parts: list[bytes], data: st.DataObject, library: str) -> None:
    wire = b"".join(gzip.compress(part, data.draw(st.integers(0, 9)), mtime=0) for part in parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    stream = LIBRARIES[library]("gzip", SizeLimits())
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        stream.feed(wire[start:end])

    if parts:
        assert stream.finish() == b"".join(parts)
    else:
        with pytest.raises(BodyError, match="cut short"):
            stream.finish()


@pytest.mark.parametrize("flags", range(0, 32, 2))
def test_headers_of_members_may_have_every_field_and_be_cut_anywhere(decoder: Decoder, flags: int) -> None:
    """isal's own decompressobj takes a member for corrupt when it gets the fields of its header in two pieces."""
    member = _with_header_fields(gzip.compress(DATA[:500], mtime=0), flags)
    wire = member + _with_header_fields(gzip.compress(DATA[500:1000], mtime=0), flags)
    for at in range(len(wire)):
        stream = decoder("gzip", SizeLimits())
        stream.feed(wire[:at])
        stream.feed(wire[at:])

        assert stream.finish() == DATA[:1000]


def _with_header_fields(member: bytes, flags: int) -> bytes:
    """Return a gzip member with the optional fields of its header that `flags` name (RFC 1952, 2.3.1)."""
    head = member[:3] + bytes([flags]) + member[4:10]
    head += b"\x05\x00extra" if flags & 4 else b""
    head += b"answer.json\x00" if flags & 8 else b""
    head += b"a comment\x00" if flags & 16 else b""
    head += (zlib.crc32(head) & 0xFFFF).to_bytes(2, "little") if flags & 2 else b""
    return head + member[10:]


def test_two_members_are_refused_when_either_is_cut(decoder: Decoder) -> None:
    """A cut between the members is no cut of gzip's: the length of the body and the JSON in it tell that one."""
    first, second = gzip.compress(DATA[:1000], mtime=0), gzip.compress(DATA[1000:], mtime=0)
    wire = first + second
    accepted = []
    for at in range(len(wire)):
        try:
            decoded(decoder, wire[:at])
        except BodyError:
            continue
        accepted.append(at)

    assert decoded(decoder, wire) == DATA
    assert accepted == [len(first)]


@pytest.mark.parametrize("garbage", [b"\x00", b"garbage", b"\x1f\x8b", b"\x1f\x8b\x08\x00", b"\r\n", bytes(512)])
def test_what_follows_the_end_is_refused(decoder: Decoder, garbage: bytes) -> None:
    with pytest.raises(BodyError):
        decoded(decoder, gzip.compress(DATA) + garbage)


@pytest.mark.parametrize("body", [b"", DATA, b"\x1f", zlib.compress(DATA), b"\x1f\x8b\x08"])
def test_what_is_no_gzip_is_refused(decoder: Decoder, body: bytes) -> None:
    with pytest.raises(BodyError):
        decoded(decoder, body)


@pytest.mark.parametrize("encoding", [None, "", "identity", "Identity "])
def test_a_plain_body_is_taken_as_it_is(decoder: Decoder, encoding: str | None) -> None:
    stream = decoder(encoding, SizeLimits())
    stream.feed(b"{")
    stream.feed(b"}")

    assert stream.finish() == b"{}"


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip", "compress", "x" * 9999, "\u212a"])
def test_other_encodings_are_refused_by_name(decoder: Decoder, encoding: str) -> None:
    with pytest.raises(BodyError, match="Content-Encoding") as caught:
        decoder(encoding, SizeLimits())

    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", " x-gzip "])
def test_gzip_has_several_spellings(decoder: Decoder, encoding: str) -> None:
    stream = decoder(encoding, SizeLimits())
    stream.feed(gzip.compress(DATA))

    assert stream.finish() == DATA


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_the_wire_is_capped(decoder: Decoder, encoding: str) -> None:
    stream = decoder(encoding, SizeLimits(wire_bytes=1000))
    wire = gzip.compress(random.Random(SEED).randbytes(5000))
    stream.feed(wire[:1000])

    with pytest.raises(BodyError, match="1000 bytes on the wire"):
        stream.feed(wire[1000:1001])


def test_what_is_decoded_is_capped_to_the_byte(decoder: Decoder) -> None:
    wire = gzip.compress(bytes(100_000))

    assert decoded(decoder, wire, size_limits=SizeLimits(decoded_bytes=100_000)) == bytes(100_000)
    with pytest.raises(BodyError, match="99999 bytes once decoded"):
        decoded(decoder, wire, size_limits=SizeLimits(decoded_bytes=99_999))


def test_a_plain_body_is_capped_too(decoder: Decoder) -> None:
    stream = decoder(None, SizeLimits(decoded_bytes=10))

    with pytest.raises(BodyError, match="10 bytes"):
        stream.feed(bytes(11))


@pytest.mark.parametrize("members", [1, 300])
def test_a_bomb_takes_no_more_memory_than_its_caps(decoder: Decoder, members: int) -> None:
    """64 MiB in 65 KB, as one member or many, against a cap of 1 MiB."""
    bomb = gzip.compress(bytes((64 << 20) // members), 9) * members
    size_limits = SizeLimits(decoded_bytes=1 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(BodyError, match="once decoded"):
            decoded(decoder, bomb, size_limits=size_limits)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 4 * size_limits.decoded_bytes
