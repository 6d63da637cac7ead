"""Progress of commands as people and machines read it: a line, an event. Pure; `report` shows it."""

from __future__ import annotations

from engagement_async._core.words import count, duration
from engagement_async._display.texts import done_text, left_text, waiting_text
from engagement_async._progress import Progress

__all__ = ["count", "duration", "progress_event", "progress_line", "rate_text", "waiting_text"]


def progress_line(now: Progress) -> str:
    """Return one line for people, without a terminal."""
    parts = [
        done_text(now),
        count(now.requests, "request"),
        rate_text(now),
        left_text(now),
        f"{now.outcomes.unavailable:,} gone" if now.outcomes.unavailable else "",
        f"{now.outcomes.failed:,} failed" if now.outcomes.failed else "",
        waiting_text(now),
    ]
    return " · ".join(part for part in parts if part)


def rate_text(now: Progress) -> str:
    """Return the requests of the last minute beside the contract, if it is known."""
    contract = f" of {now.contract_per_minute:,.0f}" if now.contract_per_minute is not None else ""
    return f"{now.requests_last_minute:,}{contract} in the last minute"


def progress_event(now: Progress) -> dict[str, object]:
    """Return the fields of an event for machines; seconds and rates to a tenth."""
    fields = {
        "ids_done": now.ids_done,
        "ids_total": now.ids_total,
        "requests": now.requests,
        "elapsed_s": now.elapsed_s,
        "requests_last_minute": now.requests_last_minute,
        "contract_per_minute": now.contract_per_minute,
        "eta_s": now.eta_s,
        "unavailable": now.outcomes.unavailable,
        "failed": now.outcomes.failed,
        "waiting_s": now.waiting_s,
        "waiting_for": now.waiting_for,
        "trouble": now.trouble,
    }
    return {name: round(value, 1) if isinstance(value, float) else value for name, value in fields.items()}
