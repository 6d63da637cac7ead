"""`python -m tests.matrix [--seed N]`: plays the whole matrix, and writes its table into docs/reliability.md.

Exits 1 when a case was not survived.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from tests.matrix.cases import CASES
from tests.support.cases import Played, play
from tests.support.mutations import LIBRARIES, bodies, count

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
START = "<!-- matrix: written by `make faults` -->"
END = "<!-- end of the matrix -->"
WIDTH = 125
"""Of prose in the pages."""


def main() -> int:
    """Plays, prints, writes."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="the same seed, the same bad days")
    parser.add_argument("--tweets", type=int, default=20_000, help="how many each case asks about (20,000)")
    parser.add_argument("--case", action="append", help="only this one, and write nothing; repeatable")
    given = parser.parse_args()
    chosen = [case for case in CASES if not given.case or case.name in given.case]
    unknown = set(given.case or ()) - {case.name for case in CASES}
    if unknown:
        parser.error(f"no case is called {', '.join(sorted(unknown))}")
    logging.getLogger().addHandler(logging.NullHandler())  # what the client warns of is what the cases provoke
    say(f"seed {given.seed}")
    began = time.monotonic()
    played = []
    for case in chosen:
        played.append(play(case, given.seed, given.tweets))
        say(line(played[-1]))
    survived = sum(not each.problem for each in played)
    summary = (
        f"{survived} of {len(played)} cases survived; {sum(each.bench.tries for each in played):,} requests, "
        f"{sum(each.bench.ids_in for each in played):,} IDs in, {time.monotonic() - began:.0f} s; seed {given.seed}."
    )
    say(summary)
    if not given.case:
        accepted, told = mutated(given.seed)
        say(told)
        write(f"{summary}\n\n{fill(told, WIDTH)}\n\n{table(played)}")
        if accepted:
            return 1
    return 0 if survived == len(played) else 1


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def mutated(seed: int) -> tuple[int, str]:
    """How many broken bodies were accepted, and the sentence that says so."""
    counts = [count(decoder, body, seed) for decoder in LIBRARIES.values() for body in bodies().values()]
    tried, accepted = sum(each.tried for each in counts), sum(each.accepted for each in counts)
    return accepted, (
        f"{tried:,} broken gzip bodies given to the decoder (on {' and '.join(sorted(LIBRARIES))}; cut at every offset, "
        f"every bit flipped, bytes lost, doubled, swapped, overwritten, garbage added): {accepted} accepted as data."
    )


def line(played: Played) -> str:
    """One case, for the terminal."""
    bench = played.bench
    verdict = played.problem or bench.note
    return (
        f"{played.case.part:9} {played.case.name:21} {bench.tries:6} tries  "
        f"{'survived' if not played.problem else 'LOST':8} {bench.ids_in:6} in {bench.accounted:6} accounted  {verdict}"
    )


def table(played: Sequence[Played]) -> str:
    """Return the matrix as Markdown."""
    rows = [
        "| case | what happens | tries | survived | IDs in | IDs accounted for | |",
        "|---|---|--:|---|--:|--:|---|",
    ]
    part = ""
    for each in played:
        bench = each.bench
        if each.case.part != part:
            part = each.case.part
            rows.append(f"| **{part}** | | | | | | |")
        accounted = "–" if bench.errors and not bench.accounted else f"{bench.accounted:,}"
        survived = "**no**" if each.problem else "yes"
        rows.append(
            f"| `{each.case.name}` | {each.case.what} | {bench.tries:,} | {survived} | {bench.ids_in:,} | {accounted} "
            f"| {each.problem.partition(chr(10))[0] or bench.note} |"
        )
    return "\n".join(rows)


def write(text: str) -> None:
    """Put the text between the page's markers."""
    page = PAGE.read_text()
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{START}\n\n{text}\n\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
