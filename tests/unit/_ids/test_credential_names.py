from __future__ import annotations

import pytest

from engagement_async._ids.credential_names import has_credential, names_credential


@pytest.mark.parametrize(
    ("text", "is_named", "has_value"),
    [
        ('access_token = "1467-x"', True, True),
        ("export ENGAGEMENT_CONSUMER_KEY=x", True, True),
        ('{"bearer_token": "x"}', True, True),
        ("owner,access_token,access_token_secret", True, False),
        ("1070059276213702656", False, False),
        ("tweet_id,token", False, False),
    ],
)
def test_names_and_values_of_credentials(text: str, is_named: bool, has_value: bool) -> None:
    assert (names_credential(text), has_credential(text)) == (is_named, has_value)
