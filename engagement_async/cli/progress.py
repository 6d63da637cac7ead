"""Progress as people and machines read it: a line, an event, a span of time. Pure; `report` shows it."""

from __future__ import annotations

from engagement_async._progress import Progress

__all__ = ["count", "duration", "progress_event", "progress_line", "rate_text", "waiting_text"]


def progress_line(now: Progress) -> str:
    """Return one line for people, without a terminal."""
    parts = [
        f"{now.ids_done:,} of {now.ids_total:,} IDs",
        count(now.requests, "request"),
        rate_text(now),
        f"{duration(now.eta_s)} left" if now.eta_s is not None else "",
        f"{now.outcomes.unavailable:,} gone" if now.outcomes.unavailable else "",
        f"{now.outcomes.failed:,} failed" if now.outcomes.failed else "",
        waiting_text(now),
    ]
    return " · ".join(part for part in parts if part)


def rate_text(now: Progress) -> str:
    """Return the requests of the last minute beside the contract, if it is known."""
    contract = f" of {now.contract_per_minute:,.0f}" if now.contract_per_minute is not None else ""
    return f"{now.requests_last_minute:,}{contract} in the last minute"


def waiting_text(now: Progress) -> str:
    """Return what the run waits for, and why nothing is answered, or nothing."""
    waiting = ""
    if now.waiting_for is not None and now.waiting_s >= 1:
        waiting = f"waiting {duration(now.waiting_s)} for {now.waiting_for.text}"
    return " · ".join(text for text in (waiting, now.trouble) if text)


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


def count(number: int, what: str) -> str:
    """Return `1 request`, `2 requests`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return `8 s`, `1 min 32 s`, `2 h 05 min`, `3 d 04 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, whole = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {whole:02} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours:02} h"
