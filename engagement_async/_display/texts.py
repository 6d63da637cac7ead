"""Progress in words: how far it is, the time that is left, what is waited for. Pure."""

from __future__ import annotations

from engagement_async._core.words import count, duration, printable
from engagement_async._progress import CallProgress, Progress, WaitReason

__all__ = ["call_line", "done_text", "left_text", "time_text", "waiting_text"]


def call_line(now: CallProgress) -> str:
    """Return one line for people: how far a call is."""
    parts = [done_text(now), count(now.requests, "request"), time_text(now), waiting_text(now)]
    return " · ".join(part for part in parts if part)


def done_text(now: CallProgress | Progress) -> str:
    """Return how many IDs are done, and of how many, if that is known."""
    if now.ids_total is None:
        return f"{count(now.ids_done, 'ID')} so far"
    return f"{now.ids_done:,} of {count(now.ids_total, 'ID')}"


def time_text(now: CallProgress) -> str:
    """Return the time that is left, or at the end how long it took."""
    return f"in {duration(now.elapsed_s)}" if now.is_finished else left_text(now)


def left_text(now: CallProgress | Progress) -> str:
    """Return the time that is left, or nothing."""
    return f"{duration(now.eta_s)} left" if now.eta_s is not None else ""


def waiting_text(now: CallProgress | Progress) -> str:
    """Return what is waited for, and why nothing is answered, or nothing."""
    waiting = ""
    if now.waiting_for is not None and now.waiting_s >= 1:
        waiting = f"waiting {duration(now.waiting_s)} for {now.waiting_for.text}"
    elif now.waiting_for is WaitReason.OUTAGE:  # how long that takes, nobody knows
        waiting = f"waiting for {now.waiting_for.text}"
    trouble = printable(now.trouble or "").replace("\n", " ")
    return " · ".join(text for text in (waiting, trouble) if text)
