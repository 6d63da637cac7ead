"""The way of the parallel request processors that people copy: one loop that reads requests from a file of JSON lines, keeps
a token bucket, starts a task for each request, retries through a queue, and appends each answer to another file.

Their way of work, in code of our own: https://cookbook.openai.com/examples/api_request_parallel_processor
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["ask_in_parallel"]

_ATTEMPTS = 5
_LOOP_S = 0.001
_PAUSE_S = 15.0


@dataclass
class _Status:
    in_progress: int = 0
    failed: int = 0
    limited_at: float = 0.0


@dataclass
class _Request:
    number: int
    body: dict[str, Any]
    attempts_left: int = _ATTEMPTS
    errors: list[str] = field(default_factory=list)


async def ask_in_parallel(
    requests: Path, answers: Path, url: str, headers: Mapping[str, str], *, per_minute: float
) -> None:
    """Send every request of a file, and append `[request, answer, number]` for each to another."""
    import aiohttp

    retries: asyncio.Queue[_Request] = asyncio.Queue()
    status = _Status()
    tasks: set[asyncio.Task[None]] = set()
    available, updated_at = per_minute, time.time()
    waiting: _Request | None = None
    with requests.open() as lines:
        numbered = enumerate(lines)
        async with aiohttp.ClientSession(headers=headers) as session:
            while True:
                if waiting is None:
                    waiting = _next(retries, numbered, status)
                now = time.time()
                available = min(available + per_minute * (now - updated_at) / 60.0, per_minute)
                updated_at = now
                if waiting is not None and available >= 1:
                    available -= 1
                    task = asyncio.create_task(_ask(session, url, waiting, answers, retries, status))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                    waiting = None
                if not status.in_progress:
                    break
                await asyncio.sleep(_LOOP_S)
                if (since := time.time() - status.limited_at) < _PAUSE_S:
                    await asyncio.sleep(_PAUSE_S - since)
    if status.failed:
        raise RuntimeError(f"{status.failed} requests failed")


def _next(retries: asyncio.Queue[_Request], numbered: Any, status: _Status) -> _Request | None:
    if not retries.empty():
        return retries.get_nowait()
    for number, line in numbered:
        status.in_progress += 1
        return _Request(number, json.loads(line))
    return None


async def _ask(
    session: Any, url: str, request: _Request, answers: Path, retries: asyncio.Queue[_Request], status: _Status
) -> None:
    error = ""
    answer: Any = None
    try:
        async with session.post(url, json=request.body) as response:
            answer = await response.json()
            if response.status == 429:
                status.limited_at = time.time()
            if response.status != 200:
                error = f"HTTP {response.status}"
    except Exception as failure:  # as they do
        error = str(failure)
    if not error:
        with answers.open("a") as file:
            file.write(json.dumps([request.body, answer, request.number]) + "\n")
        status.in_progress -= 1
        return
    request.errors.append(error)
    if request.attempts_left:
        request.attempts_left -= 1
        retries.put_nowait(request)
    else:
        status.in_progress -= 1
        status.failed += 1
