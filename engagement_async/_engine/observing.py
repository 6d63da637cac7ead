"""Who observes calls: OpenTelemetry, where the application uses it, and observers of the context in which a call begins.

An observer that fails costs its own events, and nothing of the call.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from engagement_async._core.events import CallBegan, Ended, Event, Observe, Observer

__all__ = ["begin", "current_observers", "observed_by", "observed_call"]

logger = logging.getLogger("engagement_async")

_observers: ContextVar[tuple[Observer, ...]] = ContextVar("engagement_async_observers", default=())
_is_usable = True
"""Whether the installed OpenTelemetry was found to be whole."""


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Announce to this observer every call that begins in the block, and in tasks that are started in it."""
    token = _observers.set((*_observers.get(), observer))
    try:
        yield
    finally:
        _observers.reset(token)


def current_observers() -> tuple[Observer, ...]:
    """Return who observes a call that begins now; nobody, after two look-ups, where there is no observer.

    OpenTelemetry cannot be set up in a process in which nobody imported it: it is never imported for its own sake.
    """
    observers = _observers.get()
    if "opentelemetry" in sys.modules and (recorder := _open_telemetry()) is not None:
        return (*observers, recorder)
    return observers


def begin(observers: tuple[Observer, ...], call: CallBegan) -> Observe | None:
    """Announce a call to observers; return what takes its events, or None when none of them wants any."""
    observing = []
    for observer in observers:
        try:
            observe = observer(call)
        except Exception:
            logger.warning("a call is not observed: its observer failed", exc_info=True)
        else:
            if observe is not None:
                observing.append(observe)
    return _fan_out(observing) if observing else None


@contextmanager
def observed_call(observe: Observe | None) -> Iterator[None]:
    """Report the end of a call that is served by another one."""
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        if observe is not None:
            observe(Ended(error))


def _open_telemetry() -> Observer | None:
    global _is_usable
    if not _is_usable:
        return None
    try:
        from engagement_async._engine.open_telemetry import recorder

        return recorder()
    except Exception:
        _is_usable = False
        logger.warning(
            "nothing is recorded for OpenTelemetry, which is not whole or too old: pip install 'engagement-async[otel]'",
            exc_info=True,
        )
        return None


def _fan_out(observing: list[Observe]) -> Observe:
    """Return what hands an event to all of these; one that fails gets no more events of this call."""

    def observe(event: Event) -> None:
        for each in tuple(observing):
            try:
                each(event)
            except Exception:
                observing.remove(each)
                logger.warning("a call is observed no further: its observer failed", exc_info=True)

    return observe
