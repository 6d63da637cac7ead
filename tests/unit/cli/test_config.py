"""Where settings come from, which one wins, and that secrets stay where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from engagement_async._core.rate_limit import RateLimit
from engagement_async.cli.config import SETTINGS, Settings
from engagement_async.credentials import BearerCredentials, OAuth1Credentials
from engagement_async.errors import UsageError

CANARY = "canary-5f3a9c"
OAUTH1 = {
    "ENGAGEMENT_CONSUMER_KEY": "key",
    "ENGAGEMENT_CONSUMER_SECRET": CANARY,
    "ENGAGEMENT_ACCESS_TOKEN": "token",
    "ENGAGEMENT_ACCESS_TOKEN_SECRET": CANARY,
}
BEARER = {"ENGAGEMENT_BEARER_TOKEN": CANARY}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.touch(0o600)
    return path


def load(config: Path, text: str = "", **environ: str) -> Settings:
    config.write_text(text)
    return Settings.load({"ENGAGEMENT_CONFIG": str(config), **environ})


def test_the_environment_beats_the_file_and_a_flag_beats_both(config: Path) -> None:
    settings = load(config, 'base_url = "http://file"\nrequests_per_minute = 10')
    assert (settings.base_url, settings.rate_limit(None, 60.0)) == ("http://file", RateLimit(10))

    settings = load(config, 'base_url = "http://file"\nrequests_per_minute = 10', ENGAGEMENT_BASE_URL="http://env")
    assert (settings.base_url, settings.rate_limit(7, 1.0)) == ("http://env", RateLimit(7, period=1.0))


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_variable_counts_as_unset(config: Path, empty: str) -> None:
    settings = load(config, 'base_url = "http://file"\nbearer_token = " "', ENGAGEMENT_BASE_URL=empty)
    assert settings.base_url == "http://file"
    with pytest.raises(UsageError, match="there are no credentials: set ENGAGEMENT_CONSUMER_KEY, "):
        settings.credentials()


def test_without_a_file_of_ones_own_the_environment_is_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert Settings.load({"ENGAGEMENT_BASE_URL": "http://env"}).base_url == "http://env"

    own = tmp_path / "engagement" / "config.toml"
    own.parent.mkdir()
    own.write_text('base_url = "http://own"')
    assert Settings.load({}).base_url == "http://own"


def test_which_credentials_are_taken(config: Path) -> None:
    assert isinstance(load(config, **OAUTH1).credentials(), OAuth1Credentials)
    assert isinstance(load(config, **BEARER).credentials(), BearerCredentials)
    both = load(config, **OAUTH1, **BEARER)
    assert isinstance(both.credentials(), OAuth1Credentials)
    assert isinstance(both.credentials("bearer"), BearerCredentials)
    with pytest.raises(UsageError, match="there is no Bearer token: set ENGAGEMENT_BEARER_TOKEN"):
        load(config, **OAUTH1).credentials("bearer")
    with pytest.raises(UsageError, match=r"lacks ENGAGEMENT_CONSUMER_KEY.*--auth bearer"):
        load(config, **BEARER).credentials("oauth1")


@pytest.mark.parametrize("name", list(OAUTH1))
def test_a_part_of_oauth1_names_what_is_missing(config: Path, name: str) -> None:
    environ = {key: value for key, value in OAUTH1.items() if key != name}
    with pytest.raises(UsageError, match=f"OAuth 1.0a lacks {name} "):
        load(config, **environ).credentials()
    with pytest.raises(UsageError, match=f"OAuth 1.0a lacks {name} .*or use the Bearer token with --auth bearer"):
        load(config, **environ, **BEARER).credentials()


def test_a_file_with_secrets_that_others_may_read_is_refused(config: Path) -> None:
    config.chmod(0o640)
    assert load(config, "requests_per_minute = 10").rate_limit(None, 60.0).requests == 10
    with pytest.raises(UsageError, match=f"chmod 600 {config}") as caught:
        load(config, f'bearer_token = "{CANARY}"')
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"bearer_token = {CANARY}", r"is not valid TOML \(at line 1, column 16\)"),
        (f'bearer_tokn = "{CANARY}"', f"unknown key 'bearer_tokn': one of {', '.join(SETTINGS)}"),
        ("access_token = 12", "access_token must be a string: put it in quotes"),
    ],
)
def test_a_wrong_file_is_told_without_what_it_holds(config: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load(config, text)
    assert CANARY not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such configuration file: correct ENGAGEMENT_CONFIG"):
        Settings.load({"ENGAGEMENT_CONFIG": str(tmp_path / "none")})
    with pytest.raises(UsageError, match="Is a directory"):
        Settings.load({"ENGAGEMENT_CONFIG": str(tmp_path)})


@pytest.mark.parametrize("text", ["0", "-1", "many", "3.5", "²"])
def test_only_the_contract_knows_the_limit(config: Path, text: str) -> None:
    with pytest.raises(
        UsageError, match=r"how many requests per minute does your contract allow.*--requests-per-minute N"
    ):
        load(config).rate_limit(None, 60.0)
    with pytest.raises(UsageError, match="whole number from 1 on"):
        load(config, ENGAGEMENT_REQUESTS_PER_MINUTE=text).rate_limit(None, 60.0)


def test_secrets_show_nowhere(config: Path) -> None:
    settings = load(config, **OAUTH1, **BEARER)
    assert CANARY not in f"{settings!r} {settings} {settings.credentials()!r}"
