"""Jobs of an agency: an emulator with owners, their Tweets, the file of their tokens, and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from engagement_async import LAST_28_HOURS, CredentialFile, Query, RateLimit
from engagement_async.backfill import BackfillJob
from engagement_async.emulator import Emulator
from tests.support.jobs import make_ids

__all__ = ["FAST", "FLAGS", "QUERY", "REVOKED", "UNKNOWN", "Agency"]

QUERY = Query(
    LAST_28_HOURS,
    engagement_types=["favorites", "impressions"],
    groupings={
        "by_tweet": ["tweet.id", "engagement.type"],
        "by_owner": ["owner", "engagement.type"],
        "all": ["engagement.type"],
    },
)
FLAGS = (
    *("28hr", "--metrics", "favorites,impressions", "--group-by", "by_tweet=tweet.id,engagement.type"),
    *("--group-by", "by_owner=owner,engagement.type", "--group-by", "all=engagement.type"),
)
REVOKED, UNKNOWN = "owner7", "owner9"
FAST = RateLimit(60_000)


class Agency:
    """An emulator with owners, their Tweets, and the file of their tokens: without that of one owner."""

    def __init__(self, server: Emulator, folder: Path, count: int) -> None:
        self.server = server
        self.folder = folder
        self.owned: dict[str, list[str]] = defaultdict(list)
        ids = make_ids(count)
        for tweet_id in ids:
            self.owned[server.owner_of(tweet_id) or ""].append(tweet_id)
        self.ids = folder / "ids.csv"
        self.ids.write_text("handle,tweet_id\n" + "".join(f"{server.owner_of(i)},{i}\n" for i in ids))
        self.tokens = folder / "owners.csv"
        self.write_tokens(without=(UNKNOWN,))

    def write_tokens(self, *, without: tuple[str, ...] = ()) -> None:
        owners = [owner for owner in self.server.owners if owner.handle not in without]
        lines = [f"{owner.handle},{owner.access_token},{owner.access_token_secret}" for owner in owners]
        self.tokens.touch(0o600)
        self.tokens.chmod(0o600)
        self.tokens.write_text("owner,access_token,access_token_secret\n" + "\n".join(lines))

    @property
    def store(self) -> CredentialFile:
        return CredentialFile(
            self.tokens, consumer_key=self.server.consumer_key, consumer_secret=self.server.consumer_secret
        )

    @property
    def secrets(self) -> list[str]:
        tokens = [each for o in self.server.owners for each in (o.access_token, o.access_token_secret)]
        return [self.server.consumer_secret, *tokens]

    async def run(self, job: BackfillJob, **options: Any) -> Any:
        return await job.run(self.store, rate_limit=FAST, base_url=self.server.base_url, **options)

    def command(self, *args: object) -> subprocess.Popen[bytes]:
        settings = {"ENGAGEMENT_CONFIG": "", "ENGAGEMENT_REQUESTS_PER_MINUTE": "60000"}
        environ = {**os.environ, **self.server.environment, **settings}
        for name in ("ENGAGEMENT_ACCESS_TOKEN", "ENGAGEMENT_ACCESS_TOKEN_SECRET", "ENGAGEMENT_BEARER_TOKEN"):
            environ.pop(name, None)
        return subprocess.Popen(
            [sys.executable, "-m", "engagement_async", "backfill", *map(str, args)],
            env=environ,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def call(self, *args: object) -> tuple[int, str, str]:
        process = self.command(*args)
        out, err = process.communicate(timeout=100)
        return process.returncode, out.decode(), err.decode()
