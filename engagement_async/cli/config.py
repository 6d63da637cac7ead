"""Settings: a flag overrides the environment, which overrides the file. Secrets are in the last two only."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from engagement_async._core.rate_limit import RateLimit
from engagement_async.credentials import BearerCredentials, OAuth1Credentials
from engagement_async.errors import UsageError

__all__ = ["SETTINGS", "Settings"]

_OAUTH1 = ("consumer_key", "consumer_secret", "access_token", "access_token_secret")
_SECRETS = (*_OAUTH1, "bearer_token", "redis_password")
SETTINGS = (
    *_SECRETS,
    "base_url",
    "requests_per_minute",
    "scheduler",
    "contract",
    "redis_username",
    "redis_ca_file",
)
"""The keys of the file. In the environment each is `ENGAGEMENT_` and the key in capitals."""

Auth = Literal["oauth1", "bearer"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the environment and the file. Its repr shows no values."""

    path: Path
    """The file that was read, or would have been."""
    _values: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Settings:
        """Return the settings of the file (`ENGAGEMENT_CONFIG`, or the user's own), overridden by those of the environment.

        A variable that is set but empty counts as unset. Raise `UsageError` for a file that cannot be read, that contains
        secrets and can be read by others, or that has an unknown key.
        """
        named = environ.get("ENGAGEMENT_CONFIG", "").strip()
        path = Path(named) if named else _default_path()
        values = _read(path, must_exist=bool(named))
        for key in SETTINGS:
            value = environ.get(_variable(key), "").strip()
            if value:
                values[key] = value
        return cls(path, values)

    def credentials(self, auth: Auth | None = None) -> OAuth1Credentials | BearerCredentials:
        """Return OAuth 1.0a credentials if any of their values is set, otherwise the Bearer token; `auth` overrides this."""
        missing = [key for key in _OAUTH1 if key not in self._values]
        if auth == "oauth1" or (auth is None and len(missing) < len(_OAUTH1)):
            if missing:
                bearer = ", or use the Bearer token with --auth bearer" if "bearer_token" in self._values else ""
                raise UsageError(f"OAuth 1.0a lacks {self._named(missing)}{bearer}")
            return OAuth1Credentials(*(self._values[key] for key in _OAUTH1))
        if "bearer_token" in self._values:
            return BearerCredentials(self._values["bearer_token"])
        if auth == "bearer":
            raise UsageError(f"there is no Bearer token: set {self._named(['bearer_token'])}")
        raise UsageError(
            f"there are no credentials: set {', '.join(map(_variable, _OAUTH1))} (OAuth 1.0a of the Tweets' owner), or "
            f"{_variable('bearer_token')} (public metrics of totals), or the same in {self.path}"
        )

    @property
    def base_url(self) -> str | None:
        """The address of the API, if it is not the default."""
        return self._values.get("base_url")

    def get(self, key: str, flag: str | None = None) -> str | None:
        """Return a setting, or what a flag says instead; None when neither is there."""
        return flag if flag is not None else self._values.get(key)

    def rate_limit(self, requests: int | None, period_s: float) -> RateLimit:
        """Return the rate limit: `requests` of the flag, or of the settings, in `period_s` seconds."""
        if requests is None:
            text = self._values.get("requests_per_minute")
            if text is None:
                raise UsageError(
                    "how many requests per minute does your contract allow? Set --requests-per-minute N or "
                    f"{_variable('requests_per_minute')}. There is no default: a wrong guess costs requests or money"
                )
            if not (text.isascii() and text.isdigit() and int(text)):
                raise UsageError(f"requests_per_minute is a whole number from 1 on, not {text!r}")
            requests = int(text)
        return RateLimit(requests, period=period_s)

    def _named(self, keys: list[str]) -> str:
        return f"{', '.join(map(_variable, keys))} (in the environment, or as {', '.join(keys)} in {self.path})"


def _variable(key: str) -> str:
    return f"ENGAGEMENT_{key.upper()}"


def _default_path() -> Path:
    from platformdirs import user_config_dir

    return Path(user_config_dir("engagement", appauthor=False)) / "config.toml"


def _read(path: Path, *, must_exist: bool) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            table = tomllib.load(file)
    except (FileNotFoundError, NotADirectoryError):
        if must_exist:
            raise UsageError(f"{path}: there is no such configuration file: correct ENGAGEMENT_CONFIG") from None
        return {}
    except (IsADirectoryError, PermissionError) as error:
        raise UsageError(f"{path}: the configuration file cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        place = re.search(r" \(at [a-z0-9, ]+\)", str(error))  # not the rest of its text, which may quote a secret
        where = place[0] if place else ""
        raise UsageError(
            f'{path}: the configuration file is not valid TOML{where}: write lines as `key = "value"`'
        ) from None
    unknown = [key for key in table if key not in SETTINGS]
    if unknown:
        raise UsageError(f"{path}: unknown key {unknown[0]!r}: one of {', '.join(SETTINGS)}")
    if mode & 0o077 and any(key in table for key in _SECRETS):
        raise UsageError(f"{path}: it contains secrets, and others can read it: chmod 600 {path}")
    wrong = [key for key, value in table.items() if not isinstance(value, str) and key != "requests_per_minute"]
    if wrong:
        raise UsageError(f"{path}: {wrong[0]} must be a string: put it in quotes")
    return {key: text for key, value in table.items() if (text := str(value).strip())}
