from __future__ import annotations

import pytest

from engagement_async._ids.credential_names import has_credential, is_header_of_credentials, may_show, names_credential


@pytest.mark.parametrize(
    "name",
    [
        "access_token",
        "Access Token Secret",
        '"consumer-key"',
        "acme.bearer_token",
        "api_secret_key",
        "access_secret",
        "oauth_token_secret",
    ],
)
def test_names_of_credentials(name: str) -> None:
    assert names_credential(name)
    assert is_header_of_credentials(f"owner;{name}")


@pytest.mark.parametrize(
    "name", ["", "token", "tweet_id", "my access_token", "access_token_used", "1070059276213702656"]
)
def test_other_names(name: str) -> None:
    assert not names_credential(name)
    assert not is_header_of_credentials(f"owner,{name}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('access_token = "1467-x"', True),
        ("export ENGAGEMENT_CONSUMER_KEY=x", True),
        ('{"bearer_token": "x"}', True),
        ("owner,access_token,access_token_secret", False),
        ("how do I get an access_token?", False),
    ],
)
def test_names_before_values(text: str, expected: bool) -> None:
    assert has_credential(text) is expected


@pytest.mark.parametrize(
    "text",
    [
        "accessToken: x",
        '"Client Secret" = x',
        "Authorization: Bearer x",
        "API key=x",
        "api_secret_key=x",
        "access_secret: x",
    ],
)
def test_what_may_not_be_shown(text: str) -> None:
    assert not may_show(text)


@pytest.mark.parametrize("text", ["my access token", "1070059276213702656", "a bearer", "id,text"])
def test_what_may_be_shown(text: str) -> None:
    assert may_show(text)
