"""Signatures that another library's server side accepts, and secrets that show nowhere."""

from __future__ import annotations

import copy
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oauthlib.oauth1 import Client

from engagement_async import BearerCredentials, OAuth1Credentials, UsageError

URL = "https://data-api.twitter.com/insights/engagement/totals"
printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=50)


@given(printable, printable, printable, printable, st.integers(0, 2**33))
def test_the_signature_is_the_one_that_oauthlib_makes(ck: str, cs: str, at: str, ats: str, timestamp: int) -> None:
    header = OAuth1Credentials(ck, cs, at, ats).signer(URL).authorization(timestamp)
    nonce = re.findall('oauth_nonce="(.*?)"', header)[0]

    theirs = Client(ck, cs, at, ats, nonce=nonce, timestamp=str(timestamp)).sign(URL, "POST")[1]["Authorization"]

    assert sorted(header.removeprefix("OAuth ").split(", ")) == sorted(theirs.removeprefix("OAuth ").split(", "))


def test_every_attempt_has_a_nonce_of_its_own() -> None:
    signer = OAuth1Credentials("a", "b", "c", "d").signer(URL)

    nonces = {re.findall('oauth_nonce="(.*?)"', signer.authorization(1))[0] for _ in range(1_000)}

    assert len(nonces) == 1_000


def test_the_body_takes_no_part() -> None:
    header = OAuth1Credentials("a", "b", "c", "d").signer(URL).authorization(1)

    assert "oauth_body_hash" not in header


def test_bearer_is_a_constant() -> None:
    assert BearerCredentials("AAAA%3D").signer(URL).authorization(1) == "Bearer AAAA%3D"


def test_secrets_show_nowhere() -> None:
    secrets = [f"canary-{n}" for n in range(5)]
    owner, bearer = OAuth1Credentials(*secrets[:4]), BearerCredentials(secrets[4])

    for thing in (owner, bearer, owner.signer(URL), bearer.signer(URL)):
        shown = f"{thing!r} {thing!s} {thing} {getattr(thing, '__dict__', {})} {dir(thing)}"
        shown += "".join(repr(getattr(thing, name, None)) for name in getattr(type(thing).__mro__[1], "__slots__", ()))
        assert "canary" not in shown
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(thing)
        with pytest.raises(TypeError, match="not pickled"):
            copy.deepcopy(thing)


def test_a_header_hides_in_a_traceback_s_locals() -> None:
    for header in (
        OAuth1Credentials("a", "b", "canary", "d").signer(URL).authorization(1),
        BearerCredentials("canary").signer(URL).authorization(1),
    ):
        assert "canary" in header
        assert "canary" not in repr({"Authorization": header})


@pytest.mark.parametrize("value", ["", "  ", " a", "a\n", "a\x00b", "ä", None])
def test_a_secret_that_cannot_be_one_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="access_token") as error:
        OAuth1Credentials("a", "b", value, "d")
    with pytest.raises(UsageError, match="token"):
        BearerCredentials(value)

    assert value is None or not value.strip() or value.strip() not in str(error.value).split()
