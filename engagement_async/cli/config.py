"""Settings: a flag overrides the environment, which overrides the file. Secrets are in the last two only."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from engagement_async._core.rate_limit import RateLimit
from engagement_async._core.spelling import did_you_mean
from engagement_async.cli.units import parse_limit
from engagement_async.credential_store import CredentialFile, is_private
from engagement_async.credentials import BearerCredentials, OAuth1Credentials
from engagement_async.errors import UsageError

__all__ = ["SETTINGS", "Settings", "config_path", "files_named_by_settings"]

_CONSUMER = ("consumer_key", "consumer_secret")
_OAUTH1 = (*_CONSUMER, "access_token", "access_token_secret")
_CREDENTIALS = (*_OAUTH1, "bearer_token")
_SECRETS = (*_CREDENTIALS, "redis_password")
SETTINGS = (
    *_SECRETS,
    "credentials_file",
    "base_url",
    "proxy",
    "ca_file",
    "allow_http_to",
    "requests_per_minute",
    "limits",
    "scheduler",
    "contract",
    "redis_username",
    "redis_ca_file",
)
"""The keys of the file and of its profiles. In the environment each is `ENGAGEMENT_` and the key in capitals."""
_PROFILES: Final = "profiles"
_FILES = ("credentials_file", "ca_file", "redis_ca_file")
"""Keys whose values are the names of files."""
_LISTS = ("limits", "allow_http_to")
"""Keys that may have a list of strings in the file."""
_LARGEST_SECRET = 64 * 1024

Auth = Literal["oauth1", "bearer"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the environment and the file. Its repr shows no values."""

    path: Path
    """The file that was read, or would have been."""
    _values: Mapping[str, str] = field(default_factory=dict, repr=False)
    profile: str | None = None
    """The profile of the file that they are of."""

    @classmethod
    def load(cls, environ: Mapping[str, str], profile: str | None = None) -> Settings:
        """Return the settings of the file (`ENGAGEMENT_CONFIG`, or the user's own), overridden by those of the environment.

        In the environment a value may also be in a file that `ENGAGEMENT_..._FILE` names, or in `engagement_...` of
        systemd's `CREDENTIALS_DIRECTORY`. A variable that is set but empty counts as unset. A `profile`, that of a flag,
        overrides the environment too; `ENGAGEMENT_PROFILE` does not.

        Raise `UsageError` for a file that cannot be read, that contains secrets and can be read by others, that has an
        unknown key, or that has no such profile.
        """
        named = environ.get("ENGAGEMENT_CONFIG", "").strip()
        path = config_path(environ)
        table = {} if path is None else _read(path, must_exist=bool(named))
        path = path or Path("config.toml")
        profiles = table.pop(_PROFILES, {})
        values = _texts(path, table)
        chosen = profile or environ.get("ENGAGEMENT_PROFILE", "").strip() or None
        of_profile: dict[str, str] = {}
        if chosen is not None:
            if chosen not in profiles:
                known = f"it has {', '.join(profiles)}" if profiles else f"write its keys below [profiles.{chosen}]"
                hint = did_you_mean(chosen, profiles)
                raise UsageError(f"{path}: there is no profile {chosen!r}{hint}: {known}")
            of_profile = _texts(path, profiles[chosen])
        values = {**_overlaid(values, of_profile), **_environment(environ)}
        if profile is not None:
            values = _overlaid(values, of_profile)
        return cls(path, values, chosen)

    def credentials(self, auth: Auth | None = None) -> OAuth1Credentials | BearerCredentials:
        """Return OAuth 1.0a credentials if any of their values is set, otherwise the Bearer token; `auth` overrides this."""
        missing = [key for key in _OAUTH1 if key not in self._values]
        if auth == "oauth1" or (auth is None and len(missing) < len(_OAUTH1)):
            if missing:
                bearer = ", or use the Bearer token with --auth bearer" if "bearer_token" in self._values else ""
                raise UsageError(f"OAuth 1.0a lacks {self._named(missing)}{bearer}")
            return OAuth1Credentials(*(self._copied(key) for key in _OAUTH1))
        if "bearer_token" in self._values:
            return BearerCredentials(self._copied("bearer_token"))
        if auth == "bearer":
            raise UsageError(f"there is no Bearer token: set {self._named(['bearer_token'])}")
        raise UsageError(
            f"there are no credentials: set {', '.join(map(_variable, _OAUTH1))} (OAuth 1.0a of the Tweets' owner), or "
            f"{_variable('bearer_token')} (public metrics of totals), or the same in {self.path}"
        )

    def credential_file(self, path: str | None = None) -> CredentialFile:
        """Return the credentials of many owners in the file that a flag or else the settings name.

        The consumer pair is that of the settings, for owners without one of their own. Raise `UsageError` if no file is
        named, or it cannot be read.
        """
        named = self.get("credentials_file", path)
        if named is None:
            raise UsageError(
                "where are the tokens of the owners? Name a file with --credentials FILE or "
                f"{_variable('credentials_file')}: CSV, JSON lines or TOML with owner, access_token, access_token_secret"
            )
        pair = [key for key in _CONSUMER if key in self._values]
        if len(pair) == 1:
            raise UsageError(f"OAuth 1.0a lacks {self._named([key for key in _CONSUMER if key not in pair])}")
        consumer = {key: self._copied(key) for key in pair}
        store = CredentialFile(named, **consumer)
        if not store.owners():
            raise UsageError(f"{named}: there is no owner in it")
        return store

    @property
    def base_url(self) -> str | None:
        """The address of the API, if it is not the default."""
        return self._values.get("base_url")

    def get(self, key: str, flag: str | None = None) -> str | None:
        """Return a setting, or what a flag says instead; None when neither is there."""
        return flag if flag is not None else self._values.get(key)

    def rate_limits(self, requests: int | None, period_s: float, given: Sequence[str] = ()) -> tuple[RateLimit, ...]:
        """Return what the contract says: `requests` of the flag, or of the settings, in `period_s` seconds, and the limits
        that are `given` by flags, as `20/s`, or else those of the settings.
        """
        texts = list(given) or _items(self._values.get("limits", ""))
        limits = tuple(parse_limit(text) for text in texts)
        if requests is None:
            text = self._values.get("requests_per_minute")
            if text is None:
                if limits:
                    return limits
                raise UsageError(
                    "how many requests per minute does your contract allow? Set --requests-per-minute N or "
                    f"{_variable('requests_per_minute')}. There is no default: a wrong guess costs requests or money"
                )
            if not re.fullmatch(r"0{0,9}[1-9][0-9]{0,18}", text):  # int() refuses thousands of digits with an error
                raise UsageError(
                    f"requests_per_minute is a whole number from 1 on, not {text!r:.40}: correct "
                    f"{self._named(['requests_per_minute'])}"
                )
            requests = int(text)
        return (RateLimit(requests, period=period_s), *limits)

    def _copied(self, key: str) -> str:
        """Return a secret. Raise `UsageError` if something was copied along that is in no key and no token."""
        value = self._values[key]
        text = value[7:] if key == "bearer_token" and value[:7].lower() == "bearer " else value
        if text.strip("\"'") != text or len(text.split()) != 1:
            raise UsageError(f"{key} has white space or quotes in it, which are part of no key: copy it again")
        return value

    def _named(self, keys: list[str]) -> str:
        return f"{', '.join(map(_variable, keys))} (in the environment, or as {', '.join(keys)} in {self.path})"


def _overlaid(below: Mapping[str, str], profile: Mapping[str, str]) -> dict[str, str]:
    """Return the values of both, those of the profile where both have one. Its credentials are never mixed with others."""
    if any(key in _CREDENTIALS for key in profile):
        below = {key: value for key, value in below.items() if key not in (*_CREDENTIALS, "credentials_file")}
    return {**below, **profile}


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    values: dict[str, str] = {}
    folder = environ.get("CREDENTIALS_DIRECTORY", "").strip()
    for key in SETTINGS:
        variable = _variable(key)
        direct, named = environ.get(variable, "").strip(), environ.get(f"{variable}_FILE", "").strip()
        if direct and named:
            raise UsageError(f"{variable} and {variable}_FILE are both set: unset one of them")
        if direct:
            values[key] = direct
        elif named:
            values[key] = _read_secret(Path(named), key, f"{variable}_FILE")
        elif folder and (path := Path(folder, f"engagement_{key}")).is_file():
            values[key] = _read_secret(path, key, "CREDENTIALS_DIRECTORY")
    return {key: value for key, value in values.items() if value}


def files_named_by_settings(environ: Mapping[str, str], profile: str | None = None) -> dict[str, str]:
    """Return the files that the environment and the configuration name, each with the name of its setting."""
    folder = environ.get("CREDENTIALS_DIRECTORY", "").strip()
    named = {"SSL_CERT_FILE": environ.get("SSL_CERT_FILE", "").strip()}
    for key in SETTINGS:
        named[f"{_variable(key)}_FILE"] = environ.get(f"{_variable(key)}_FILE", "").strip()
        if folder:
            named[f"CREDENTIALS_DIRECTORY (engagement_{key})"] = str(Path(folder, f"engagement_{key}"))
    with suppress(UsageError):  # the command tells of it, if it needs them
        settings = Settings.load(environ, profile)
        named |= {_variable(key): settings.get(key) or "" for key in _FILES}
    return {path: name for name, path in named.items() if path}


def _read_secret(path: Path, key: str, variable: str) -> str:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(_LARGEST_SECRET + 1)
        text = content.decode()
    except OSError as error:
        raise UsageError(f"{path}: the file of {variable} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: the file of {variable} is no text") from None
    if len(content) > _LARGEST_SECRET:
        raise UsageError(f"{path}: the file of {variable} is too large to hold {key}")
    if key in _SECRETS or _holds_password(key, text):
        _check_private(path, status)
    return text.strip()


def _holds_password(key: str, value: object) -> bool:
    return key == "proxy" and isinstance(value, str) and "@" in value


def _check_private(path: Path, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode) and not is_private(stat.S_IMODE(status.st_mode), status.st_uid):
        raise UsageError(f"{path}: it contains secrets, and others can read or write it: chmod 600 {path}")


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _variable(key: str) -> str:
    return f"ENGAGEMENT_{key.upper()}"


def config_path(environ: Mapping[str, str]) -> Path | None:
    """Return where the configuration file is, or would be: None for a user without a home."""
    named = environ.get("ENGAGEMENT_CONFIG", "").strip()
    return Path(named) if named else _default_path()


def _default_path() -> Path | None:
    from platformdirs import user_config_dir

    try:
        return Path(user_config_dir("engagement", appauthor=False)) / "config.toml"
    except RuntimeError:  # a user without a home
        return None


def _read(path: Path, *, must_exist: bool) -> dict[str, Any]:
    """Return the tables of the file. A default file that this user may not look at counts as absent."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            table = tomllib.load(file)
    except (FileNotFoundError, NotADirectoryError):
        if must_exist:
            raise UsageError(f"{path}: there is no such configuration file: correct ENGAGEMENT_CONFIG") from None
        return {}
    except PermissionError as error:
        if not must_exist and not _may_look_into(path.parent):
            return {}  # the home of somebody else
        raise UsageError(f"{path}: the configuration file cannot be read: {error.strerror}") from None
    except OSError as error:
        raise UsageError(f"{path}: the configuration file cannot be read: {error.strerror}") from None
    except ValueError as error:  # no TOML, no UTF-8, or a number of thousands of digits
        place = re.search(r" \(at [a-z0-9, ]+\)", str(error))  # not the rest of its text, which may quote a secret
        where = place[0] if place else ""
        raise UsageError(
            f'{path}: the configuration file is not valid TOML{where}: write lines as `key = "value"`'
        ) from None
    profiles = table.get(_PROFILES, {})
    if not isinstance(profiles, dict) or not all(isinstance(profile, dict) for profile in profiles.values()):
        raise UsageError(f"{path}: profiles are tables: begin each with a line [profiles.NAME]")
    tables = [{key: value for key, value in table.items() if key != _PROFILES}, *profiles.values()]
    for each in tables:
        _check_keys(path, each)
    if any(key in _SECRETS or _holds_password(key, value) for each in tables for key, value in each.items()):
        _check_private(path, status)
    return table


def _may_look_into(folder: Path) -> bool:
    return os.access(folder, os.X_OK)


def _check_keys(path: Path, table: Mapping[str, Any]) -> None:
    for key, value in table.items():
        if key not in SETTINGS:
            # What looks like no key may be a secret in the wrong place.
            shown = f" {key!r}" if re.fullmatch(r"[a-z_]{1,32}", key) else ""
            hint = did_you_mean(key, SETTINGS) if shown else ""
            raise UsageError(f"{path}: unknown key{shown}{hint}: one of {', '.join(SETTINGS)}")
        is_list = key in _LISTS and isinstance(value, list) and all(isinstance(item, str) for item in value)
        is_number = key == "requests_per_minute" and isinstance(value, int) and not isinstance(value, bool)
        if not isinstance(value, str) and not is_list and not is_number:
            raise UsageError(f"{path}: {key} must be a string: put it in quotes")


def _texts(path: Path, table: Mapping[str, Any]) -> dict[str, str]:
    texts = {key: ",".join(value) if isinstance(value, list) else str(value) for key, value in table.items()}
    return {key: text for key, value in texts.items() if (text := value.strip())}
