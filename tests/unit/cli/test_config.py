"""Where settings come from, which one wins, and that secrets stay where they are."""

from __future__ import annotations

import os
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
    assert (settings.base_url, settings.rate_limits(None, 60.0)) == ("http://file", (RateLimit(10),))

    settings = load(config, 'base_url = "http://file"\nrequests_per_minute = 10', ENGAGEMENT_BASE_URL="http://env")
    assert (settings.base_url, settings.rate_limits(7, 1.0)) == ("http://env", (RateLimit(7, period=1.0),))


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


@pytest.fixture
def of_somebody_else(config: Path) -> Path:
    """Return the file as one that root does not own: what root gives out may be read by others."""
    if os.geteuid() == 0:
        os.chown(config, 65534, -1)
    return config


def test_a_file_with_secrets_that_others_may_read_is_refused(of_somebody_else: Path) -> None:
    config = of_somebody_else
    config.chmod(0o640)
    assert load(config, "requests_per_minute = 10").rate_limits(None, 60.0)[0].requests == 10
    with pytest.raises(UsageError, match=f"chmod 600 {config}") as caught:
        load(config, f'bearer_token = "{CANARY}"')
    assert CANARY not in str(caught.value)


def test_a_contract_that_is_no_number_is_named_where_it_may_stand(config: Path) -> None:
    with pytest.raises(UsageError, match=r"not 'lots': correct ENGAGEMENT_REQUESTS_PER_MINUTE \(in"):
        load(config, ENGAGEMENT_REQUESTS_PER_MINUTE="lots").rate_limits(None, 60.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"bearer_token = {CANARY}", r"is not valid TOML \(at line 1, column 16\)"),
        (
            f'bearer_tokn = "{CANARY}"',
            rf"unknown key 'bearer_tokn' \(did you mean 'bearer_token' or 'access_token'\?\): one of {', '.join(SETTINGS)}",
        ),
        (f"{CANARY} = 1", "unknown key: one of"),
        ("profiles = 1", "profiles are tables"),
        ("[profiles.a]\nlimit = 3", r"unknown key 'limit' \(did you mean 'limits'\?\)"),
        ("limits = [1]", "limits must be a string"),
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
        load(config).rate_limits(None, 60.0)
    with pytest.raises(UsageError, match="whole number from 1 on"):
        load(config, ENGAGEMENT_REQUESTS_PER_MINUTE=text).rate_limits(None, 60.0)


def test_secrets_show_nowhere(config: Path) -> None:
    settings = load(config, **OAUTH1, **BEARER)
    assert CANARY not in f"{settings!r} {settings} {settings.credentials()!r}"


def test_secrets_in_files_of_their_own(config: Path, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.touch(0o600)
    secret.write_text(f"{CANARY}\n")

    settings = load(config, ENGAGEMENT_BEARER_TOKEN_FILE=str(secret))
    assert settings.get("bearer_token") == CANARY

    with pytest.raises(
        UsageError, match="ENGAGEMENT_BEARER_TOKEN and ENGAGEMENT_BEARER_TOKEN_FILE are both set"
    ) as caught:
        load(config, ENGAGEMENT_BEARER_TOKEN_FILE=str(secret), **BEARER)
    assert CANARY not in str(caught.value)
    with pytest.raises(UsageError, match="the file of ENGAGEMENT_BEARER_TOKEN_FILE cannot be read: No such file"):
        load(config, ENGAGEMENT_BEARER_TOKEN_FILE=str(tmp_path / "none"))
    secret.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is no text"):
        load(config, ENGAGEMENT_BEARER_TOKEN_FILE=str(secret))
    with pytest.raises(UsageError, match="is too large to hold bearer_token"):
        load(config, ENGAGEMENT_BEARER_TOKEN_FILE="/dev/zero")


def test_secrets_of_a_systemd_unit(config: Path, tmp_path: Path) -> None:
    for name in ("consumer_key", "consumer_secret", "access_token", "access_token_secret"):
        path = tmp_path / f"engagement_{name}"
        path.touch(0o400)
        path.chmod(0o600)
        path.write_text(name)

    settings = load(config, "requests_per_minute = 10", CREDENTIALS_DIRECTORY=str(tmp_path))
    assert isinstance(settings.credentials(), OAuth1Credentials)
    assert settings.get("consumer_key") == "consumer_key"
    assert load(config, CREDENTIALS_DIRECTORY=str(tmp_path), ENGAGEMENT_CONSUMER_KEY="key").get("consumer_key") == "key"


PROFILES = """
requests_per_minute = 10
consumer_key = "top"
consumer_secret = "top"
access_token = "top"
access_token_secret = "top"

[profiles.one]
bearer_token = "one"
limits = ["20/s", "28hr=100/min"]

[profiles.two]
base_url = "http://two"
"""


def test_a_profile_overrides_the_file_and_its_credentials_are_never_mixed(config: Path) -> None:
    config.write_text(PROFILES)
    environ = {"ENGAGEMENT_CONFIG": str(config)}

    one = Settings.load(environ, "one")
    assert one.profile == "one"
    assert isinstance(one.credentials(), BearerCredentials)
    assert one.rate_limits(None, 60.0) == (
        RateLimit(10),
        RateLimit(20, period=1),
        RateLimit(100, period=60, endpoint="28hr"),
    )
    two = Settings.load({**environ, "ENGAGEMENT_PROFILE": "two"})
    assert (two.base_url, type(two.credentials())) == ("http://two", OAuth1Credentials)
    assert Settings.load(environ).base_url is None
    with pytest.raises(UsageError, match=r"there is no profile 'tow' \(did you mean 'two'.*\): it has one, two"):
        Settings.load(environ, "tow")


def test_a_profile_of_a_flag_beats_the_environment_and_one_of_the_environment_does_not(config: Path) -> None:
    config.write_text(PROFILES)
    environ = {"ENGAGEMENT_CONFIG": str(config), **OAUTH1, "ENGAGEMENT_BASE_URL": "http://env"}

    assert isinstance(Settings.load(environ, "one").credentials(), BearerCredentials)
    assert Settings.load(environ, "two").base_url == "http://two"
    by_variable = Settings.load({**environ, "ENGAGEMENT_PROFILE": "two"})
    assert by_variable.base_url == "http://env"


def test_limits_stand_beside_the_requests_a_minute_or_alone(config: Path) -> None:
    settings = load(config, ENGAGEMENT_LIMITS="20/s, 300/min")
    assert settings.rate_limits(None, 60.0) == (RateLimit(20, period=1), RateLimit(300))
    assert settings.rate_limits(5, 60.0, ["1/s"]) == (RateLimit(5), RateLimit(1, period=1))


@pytest.mark.parametrize("text", ['"abc"', "a b", "'x"])
def test_what_was_copied_along_is_told(config: Path, text: str) -> None:
    with pytest.raises(UsageError, match="bearer_token has white space or quotes"):
        load(config, ENGAGEMENT_BEARER_TOKEN=text).credentials()


def test_a_token_with_the_word_before_it_is_taken(config: Path) -> None:
    credentials = load(config, ENGAGEMENT_BEARER_TOKEN=f"Bearer {CANARY}").credentials()
    assert credentials.signer("https://x").authorization(0) == f"Bearer {CANARY}"


def test_a_password_of_a_proxy_is_a_secret(of_somebody_else: Path) -> None:
    of_somebody_else.chmod(0o644)
    assert load(of_somebody_else, 'proxy = "http://proxy:3128"').get("proxy") == "http://proxy:3128"
    with pytest.raises(UsageError, match="chmod 600") as caught:
        load(of_somebody_else, f'proxy = "http://user:{CANARY}@proxy:3128"')
    assert CANARY not in str(caught.value)


def test_the_default_file_of_a_home_of_somebody_else_counts_as_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr("os.access", lambda *_: False)
    assert Settings.load({"ENGAGEMENT_BASE_URL": "http://env"}).base_url == "http://env"
    with pytest.raises(UsageError, match="cannot be read: Permission denied"):
        Settings.load({"ENGAGEMENT_CONFIG": str(tmp_path / "x")})


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "٢", "many", "9" * 5000, "0" * 5000 + "1"])
def test_a_rate_limit_that_is_none_is_refused_in_a_line(config: Path, text: str) -> None:
    settings = load(config, ENGAGEMENT_REQUESTS_PER_MINUTE=text)
    with pytest.raises(UsageError, match="requests_per_minute is a whole number from 1 on") as raised:
        settings.rate_limits(None, 60.0)
    assert len(str(raised.value)) < 400
    with pytest.raises(UsageError, match="not valid TOML"):
        load(config, f"requests_per_minute = {'9' * 5000}")


def test_a_rate_limit_may_have_zeros_in_front(config: Path) -> None:
    assert load(config, ENGAGEMENT_REQUESTS_PER_MINUTE="0300").rate_limits(None, 60.0) == (RateLimit(300),)
