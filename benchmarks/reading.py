"""What reading IDs costs: CPU time an ID, out of files of a million. `python -m benchmarks.reading`."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from engagement_async._ids.reading import read_id_chunks

IDS = 1_000_000
ROUNDS = 3
FILES: dict[str, tuple[str, Callable[[str], str]]] = {
    "ids.txt": ("", "{}\n".format),
    "urls.txt": ("", "https://x.com/user/status/{}?s=20\n".format),
    "one.csv": ("tweet_id\n", "{}\n".format),
    "three.csv": ("tweet_id,text,n\n", "{},hello world of tweets,7\n".format),
    "quoted.csv": ("tweet_id,text,n\n", '{},"hello, ""world"" of tweets",7\n'.format),
    "tweets.jsonl": ("", '{{"id_str":"{}","text":"hello world","n":7}}\n'.format),
}


def measure() -> Iterator[tuple[str, float]]:
    """Yield each file and the microseconds of CPU time that one of its IDs takes, the best of some rounds."""
    source = random.Random(1)
    ids = [str(source.randrange(10**18, 2 * 10**18)) for _ in range(IDS)]
    with tempfile.TemporaryDirectory() as folder:
        for name, (header, line) in FILES.items():
            path = Path(folder, name)
            path.write_text(header + "".join(map(line, ids)))
            yield name, min(_once(path) for _ in range(ROUNDS)) / IDS * 1e6
            path.unlink()


def _once(path: Path) -> float:
    start = time.process_time()
    count = sum(map(len, read_id_chunks([path])))
    assert count == IDS
    return time.process_time() - start


if __name__ == "__main__":
    for name, cost in measure():
        print(f"{name:<14}{cost:.3f} µs an ID", flush=True)
