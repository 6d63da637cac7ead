"""A job of 20,000 batches, SIGKILLed 100 times at random moments, beside one that nobody disturbs.

Its export must have the same SHA-256, the server must have seen no more batches twice than were in flight at the kills,
and no sliding window more requests than the contract. Run by hand: it takes some minutes. `python -m benchmarks.kill`

With `--owners 1000` the Tweets have owners, of which five are revoked: their Tweets stay pending until the last run, for
which they have new tokens.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from hashlib import sha256
from math import ceil
from pathlib import Path
from typing import Any

from benchmarks import report
from engagement_async.emulator import Emulator, tweet_ids

__all__ = ["measure"]

NOW = 1_767_225_600.0
CONCURRENCY = 16
PERIOD_S = 2.0
LIMIT = 2_000


REVOKED = 5


def _run(server: Emulator, job: Path, *args: object) -> subprocess.Popen[bytes]:
    contract = ("--concurrency", CONCURRENCY, "--period", PERIOD_S, "--auth", "oauth1", "--quiet")
    command = ("run", job, "28hr", "--group-by", "g=tweet.id,engagement.type", "--metrics", "impressions,favorites")
    return _start(server, *command, *args, *contract)


def _inputs(server: Emulator, folder: Path, ids: list[str], owners: int) -> tuple[object, ...]:
    """Write the IDs, and with owners their tokens; return the arguments that name them."""
    path = folder / "ids.csv"
    if not owners:
        path.write_text("tweet_id\n" + "\n".join(ids))
        return ("--ids", path)
    path.write_text("handle,tweet_id\n" + "\n".join(f"{server.owner_of(i)},{i}" for i in ids))
    return ("--ids", path, "--owner-column", "handle", "--credentials", _tokens(server, folder))


def _tokens(server: Emulator, folder: Path) -> Path:
    path = folder / "owners.csv"
    lines = [f"{owner.handle},{owner.access_token},{owner.access_token_secret}" for owner in server.owners]
    path.touch(0o600)
    path.write_text("owner,access_token,access_token_secret\n" + "\n".join(lines))
    return path


def _start(server: Emulator, *args: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "engagement_async", "backfill", *map(str, args)],
        env={**os.environ, **server.environment, "ENGAGEMENT_CONFIG": ""},
        stderr=subprocess.PIPE,
    )


def _ended(process: subprocess.Popen[bytes], code: int = 0) -> None:
    _, told = process.communicate()
    if process.returncode != code:
        raise RuntimeError(f"exit code {process.returncode}: {told.decode()[-2000:]}")


def measure(batches: int = 20_000, kills: int = 100, seed: int = 0, owners: int = 0) -> dict[str, Any]:
    """Kills, repeated batches, and whether all that must hold held."""
    draw = random.Random(seed)
    with (
        tempfile.TemporaryDirectory() as name,
        Emulator(
            LIMIT, PERIOD_S, now=lambda: NOW, log_size=None, unavailable_fraction=0.01, owners=max(1, owners)
        ) as server,
    ):
        folder = Path(name)
        ids = tweet_ids(batches * 25, seed, newest_at=NOW)
        batches = sum(ceil(count / 25) for count in Counter(map(server.owner_of, ids)).values())
        inputs = _inputs(server, folder, ids, owners)
        began_at = time.monotonic()
        _ended(_run(server, folder / "calm", *inputs))
        calm_s = time.monotonic() - began_at
        server.log.entries.clear()
        revoked = [owner.handle for owner in server.owners[:REVOKED]] if owners else []
        for handle in revoked:
            server.revoke(handle)
        if revoked:
            inputs += ("--failed-credentials", "pending")
        done_kills = in_flight = 0
        began_at = time.monotonic()
        while done_kills < kills:
            seen = len(server.log.entries)
            process = _run(server, folder / "killed", *inputs)
            # Some while it starts, most while it asks.
            wanted = seen + (0 if draw.random() < 0.1 else draw.randrange(1, 3 * batches // (2 * kills)))
            while len(server.log.entries) <= wanted and process.poll() is None:
                time.sleep(0.001)
            time.sleep(draw.random() * 0.05)
            if process.poll() is not None:
                raise RuntimeError(f"it ended before the {done_kills + 1}th kill: {process.communicate()}")
            process.kill()
            process.communicate()
            done_kills += 1
            in_flight += CONCURRENCY
        if revoked:
            _ended(_run(server, folder / "killed", *inputs), 4)
            for handle in revoked:
                server.reissue(handle)
            _tokens(server, folder)
        _ended(_run(server, folder / "killed", *inputs))
        killed_s = time.monotonic() - began_at
        digests = {}
        for job in ("calm", "killed"):
            out = folder / f"{job}.parquet"
            _ended(_start(server, "export", folder / job, "--output", out, "--quiet"))
            digests[job] = sha256(out.read_bytes()).hexdigest()
        _ended(_start(server, "verify", folder / "killed"))
        times = Counter(entry.tweet_ids for entry in server.log if entry.tweet_ids)
        return {
            "machine": report.machine(),
            "owners": owners,
            "batches": batches,
            "kills": done_kills,
            "calm_s": calm_s,
            "killed_s": killed_s,
            "asked": sum(times.values()),
            "distinct": len(times),
            "repeated": sum(times.values()) - len(times),
            "most_in_flight": in_flight,
            "refused": server.log.statuses[429],
            "peak": server.peak(),
            "limit": LIMIT,
            "sha256": digests,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--owners", type=int, default=0)
    given = parser.parse_args()
    found = measure(given.batches, given.kills, owners=given.owners)
    report.save("kill_owners" if given.owners else "kill", found)
    for key, value in found.items():
        if key != "machine":
            print(f"{key:<16}{value}")
    same = found["sha256"]["calm"] == found["sha256"]["killed"]
    few = found["repeated"] <= found["most_in_flight"]
    kept = not found["refused"] and found["peak"] <= found["limit"]
    print(f"same export: {same} · repeated within what was in flight: {few} · contract kept: {kept}")
    sys.exit(0 if same and few and kept and found["distinct"] == found["batches"] else 1)


if __name__ == "__main__":
    main()
