"""What the pages show of benchmarks/results: the tables of docs/performance.md, and sentences with figures in them.

cog puts them into the pages (`make figures`), and `make check` fails when a page differs from the results.
"""

from __future__ import annotations

from textwrap import fill
from typing import Any

from benchmarks import report

__all__ = ["bullet", "job_through_a_night", "jobs_under_kill", "overhead", "paragraph", "section"]

_WIDTH = 125


def section(name: str) -> str:
    """Return a section of docs/performance.md: what its benchmark makes of its last results."""
    from benchmarks.__main__ import BENCHMARKS

    if name == "machine":
        return f"\n{_machine_table(report.load('throughput')['machine'])}\n\n"
    for benchmark, (_, tables) in BENCHMARKS.items():
        if not (report.RESULTS / f"{benchmark}.json").exists():  # not run yet: the others' pages need not wait for it
            continue
        sections = tables(report.load(benchmark))
        if name in sections:
            return f"\n{sections[name].strip()}\n\n"
    raise KeyError(f"no benchmark makes a section {name!r}")


def paragraph(text: str) -> str:
    """Return the text, wrapped as the pages are."""
    return f"{fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)}\n"


def bullet(text: str) -> str:
    """Return the text as an item of a list."""
    wrapped = fill(f"- {text}", _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return f"{wrapped}\n"


def _machine_table(machine: dict[str, Any]) -> str:
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    return report.table(
        ("machine", ""),
        [
            ("processor", f"{machine['cpu']}, {machine['cores']} cores"),
            ("Python", f"{machine['python']}, {machine['system']}"),
            ("libraries", libraries),
        ],
    ).replace("---:", "---")


def overhead() -> str:
    """How the client compares with a bare aiohttp loop."""
    clients: list[dict[str, Any]] = [
        setup for load in report.load("throughput")["throughput"].values() for setup in load.values()
    ]
    merged = _range([_speed(each, "bare, merged", "result") for each in clients])
    streamed = _range([_speed(each, "bare", "stream") for each in clients])
    return (
        f"with signing, the rate limit and every check on, one merged result comes at {merged} × the throughput of a bare "
        f"aiohttp loop that merges its answers as strings; streaming reaches {streamed} × that of a loop that drops them"
    )


def jobs_under_kill() -> str:
    """Return what a hundred SIGKILLs do to a job."""
    kill = report.load("kill")
    if kill["sha256"]["calm"] != kill["sha256"]["killed"]:
        raise RuntimeError("benchmarks/results/kill.json: the exports differ, and no page may say otherwise")
    return (
        f"A job of {kill['batches']:,} batches was killed {kill['kills']} times: its export equals that of an undisturbed "
        f"run, byte for byte; {kill['repeated']:,} batches were requested a second time, of at most "
        f"{kill['most_in_flight']:,} in flight at the kills; {kill['refused']} responses were a 429, and at most "
        f"{kill['peak']:,} of {kill['limit']:,} allowed requests arrived in any window."
    )


def job_through_a_night() -> str:
    """Return what 500 kills, stops and full disks do to a job."""
    night = report.load("night")
    if not night["is_true"] or night["refused"] or night["repeated_ids"] > night["most_repeated_ids"]:
        raise RuntimeError("benchmarks/results/night.json: the night was lost, and no page may say otherwise")
    ends = {
        end: sum(n for name, n in night["events"].items() if name.endswith(end)) for end in ("kill", "stop", "full")
    }
    return (
        f"One job of {night['ids']:,} IDs went through {ends['kill']} kills, {ends['stop']} stops and {ends['full']} full "
        "disks while it ran, was extended, retried what had failed and was exported, with outages and with Tweets that the "
        f"API failed at or refused. In the end its tables are the server's truth. Of {night['requests']:,} requests, "
        f"{night['failing_requests']:,} were answered with an error; {night['repeated_ids']:,} IDs were answered again, of "
        f"{night['most_repeated_ids']:,} that may be; {night['refused']} responses were a 429, and at most {night['peak']} "
        f"of {night['limit']} allowed requests arrived in any window."
    )


def _speed(clients: dict[str, Any], reference: str, way: str) -> float:
    ours = next(each for name, each in clients.items() if name.startswith("ours") and name.endswith(way))
    return report.median_ratio(clients[reference]["wall_s"], ours["wall_s"])


def _range(ratios: list[float]) -> str:
    return f"{min(ratios):.2f} to {max(ratios):.2f}"
