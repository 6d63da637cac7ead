"""No secret comes out: canaries as credentials, every error of the matrix, and all the places where a secret could show.

What an error carries is searched as a debugger would see it: its text, its fields, its pickle, the errors behind it, the
local variables of its traceback.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import gc
import io
import json
import logging
import os
import pickle
import pprint
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote, unquote

import pytest
from yarl import URL

from engagement_async import (
    BearerCredentials,
    EngagementClient,
    EngagementError,
    OAuth1Credentials,
    RateLimit,
    Timeouts,
)
from engagement_async._engine.transport import AiohttpTransport
from engagement_async.config import SizeLimits
from engagement_async.credentials import Credentials, without_credentials
from engagement_async.emulator import Emulator
from tests.matrix.cases import CASES
from tests.support.cases import CANARIES, GROUPINGS, METRICS, Case, oauth, play
from tests.support.certificates import server_context
from tests.support.raw_http import Exchange, RawServer, head, plain, zipped

SECRETS = tuple(vars(CANARIES).values())
FORMS = (
    *SECRETS,
    *(quote(secret, safe="") for secret in SECRETS),
    *(base64.b64encode(secret.encode()).decode().rstrip("=") for secret in SECRETS),
    "oauth_signature=",
)


def shown(text: str | bytes) -> list[str]:
    """Return the secrets that this text shows, in any form."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return [form for form in FORMS if form in text]


def traces_of(error: BaseException) -> Iterator[tuple[str, str | bytes]]:
    """Everything that a log, a debugger or another process could make of an error, by name."""
    yield "str", str(error)
    yield "repr", repr(error)
    yield "args", repr(error.args)
    yield "vars", repr(vars(error))
    yield "a traceback", "".join(traceback.format_exception(error))
    whole = traceback.TracebackException.from_exception(error, capture_locals=True)
    yield "a traceback with locals", "".join(whole.format())
    try:
        yield "its pickle", pickle.dumps(error)
    except Exception as refused:  # an error that cannot be pickled at least says so without telling
        yield "the refusal of its pickle", repr(refused)
    for frame, _ in traceback.walk_tb(error.__traceback__):
        yield f"locals of {frame.f_code.co_qualname}", repr(frame.f_locals)
    for behind in (error.__cause__, error.__context__):  # suppressed or not
        if behind is not None:
            yield from ((f"behind it: {name}", text) for name, text in traces_of(behind))


def assert_tells_nothing(error: BaseException) -> None:
    found = {name: secrets for name, text in traces_of(error) if (secrets := shown(text))}
    assert not found


def test_the_search_finds_what_is_there() -> None:
    """Else all that follows would prove nothing."""
    found: BaseException | None = None
    try:
        header = f"Bearer {CANARIES.bearer_token}"
        try:
            raise KeyError(header)
        except KeyError:
            raise EngagementError("no") from None
    except EngagementError as error:
        found = error
    assert found is not None

    names = {name for name, text in traces_of(found) if shown(text)}

    assert names >= {"a traceback with locals", "behind it: str", "behind it: its pickle"}
    assert shown(quote("a" + CANARIES.access_token))


# --- every error of the matrix ---

LOGGING = {"third-broken", "restart", "429", "429-storm", "second-consumer", "clock-10-min-behind", "outage", "nonce"}
RAISING = {
    "401",
    "429-for-ever",
    "403-application",
    "404",
    "406",
    "redirect",
    "request-itself",
    "revoked",
    "tls-self-signed",
    "tls-wrong-host",
}


@pytest.mark.parametrize("case", [case for case in CASES if case.name in LOGGING | RAISING], ids=lambda case: case.name)
def test_no_error_and_no_log_of_the_matrix_tells_a_secret(case: Case) -> None:
    """With all logging on, and asyncio in its debug mode. The matrix's own test reads the logs of the other cases."""
    played = play(case, 1, 2_000, debug=True)

    assert not played.problem
    assert played.logged
    assert not shown(played.logged)
    assert bool(played.bench.errors) == (case.name in RAISING)
    for error in played.bench.errors:
        assert_tells_nothing(error)


def test_every_case_that_raises_is_looked_at() -> None:
    """The names above are all there are: the matrix's page says of each case whether it stops."""
    page = Path(__file__).parents[1].joinpath("docs", "reliability.md").read_text()
    stopping = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `") and "| stops: `" in line}

    assert stopping == RAISING


# --- one attempt: errors that callers never see, but loggers and debuggers might ---


def answering(*parts: bytes, close: bool = False, hang: bool = False) -> Callable[[Exchange], Awaitable[None]]:
    async def answer(exchange: Exchange) -> None:
        for part in parts:
            await exchange.send(part)
        if hang:
            await asyncio.Event().wait()
        if close:
            exchange.close()

    return answer


ATTEMPTS = {
    "garbage": answering(b"garbage\r\n\r\n"),
    "closed": answering(close=True),
    "closed in the body": answering(head(Content_Length=10) + b"x", close=True),
    "a huge header": answering(head(X="a" * 100_000)),
    "cut gzip": answering(plain(b"\x1f\x8b\x08", Content_Encoding="gzip")),
    "a chunk that is none": answering(head(Transfer_Encoding="chunked") + b"zz\r\n"),
    "hanging": answering(hang=True),
    "hanging in the body": answering(head(Content_Length=10) + b"x", hang=True),
}


@pytest.fixture(params=["oauth", "bearer"])
def credentials(request: pytest.FixtureRequest) -> Credentials:
    return oauth() if request.param == "oauth" else BearerCredentials(CANARIES.bearer_token)


@pytest.mark.parametrize("name", sorted(ATTEMPTS))
async def test_an_attempt_s_error_tells_nothing(
    name: str, credentials: Credentials, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    timeouts = Timeouts(connect_s=5, read_s=0.1, total_s=5)
    async with (
        RawServer(ATTEMPTS[name]) as server,
        AiohttpTransport(timeouts=timeouts, size_limits=SizeLimits()) as transport,
    ):
        header = credentials.signer(server.url).authorization(1_700_000_000)
        with pytest.raises(EngagementError) as caught:  # noqa: PT012 - whether a body is whole is told when it is wanted
            response = await transport.post(URL(server.url), {"Authorization": header}, b"{}", lambda *_: None)
            assert response.body

    assert_tells_nothing(caught.value)
    assert not shown(caplog.text)


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 429, 500])
async def test_what_the_server_quotes_of_the_header_is_told_nowhere(
    status: int, credentials: Credentials, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    values = dict.fromkeys(METRICS, "1")
    data = {"by_tweet": {"20": values, "21": values}, "sum": dict.fromkeys(METRICS, "2")} if status == 200 else {}

    async def quote_it(exchange: Exchange) -> None:
        lines = exchange.request.decode().split("\r\n")
        header = next(line for line in lines if line.startswith("Authorization"))
        body = {"errors": [f"who is {header}?"], **data}
        await exchange.send(plain(json.dumps(body).encode(), status=f"{status} Of The Test"))

    told: object
    async with RawServer(quote_it) as server, a_client(server.url, credentials) as client:
        try:
            result = await client.totals(["20", "21"], engagement_types=METRICS, groupings=GROUPINGS, timeout=1)
            told = (repr(result), result.notes, dict(result.failed_tweet_ids))
        except EngagementError as error:
            assert_tells_nothing(error)
            told = str(error)

    assert "who is Authorization: ***?" in f"{told}{caplog.text}"
    assert not shown(str(told))
    assert not shown(caplog.text)


@pytest.mark.parametrize(
    "form",
    [str, unquote, str.lower, quote, lambda value: json.dumps(unquote(value).replace("+", "\\u002b"))],
    ids=range(5),
)
def test_in_whatever_form_a_bearer_token_is_quoted_nothing_of_it_is_left(form: Callable[[str], str]) -> None:
    token = "AAAAAAAAAAAAAAAAAAAAAMLheAAAAAAA0%2BuSeid%2BULvsea4JtiGRiSDSJSI%3DEUifiRBkKG5E2XzMDjRfl76ZC9Ub0wnz4XsNiRVB"

    body = without_credentials(f"who is {form(token)}?".encode(), f"Bearer {token}").decode()

    assert "***" in body
    assert not [run for run in re.split(r"[^a-z0-9]+", token.lower()) if len(run) > 11 and run in body.lower()]


def test_an_id_in_an_error_that_is_also_part_of_a_token_is_left() -> None:
    """An access token begins with the ID of its user."""
    body = b'{"errors":["Forbidden to access tweets for author id 1070059276213702656: 640026211712786432"]}'

    assert without_credentials(body, 'OAuth oauth_token="1070059276213702656-GmHxMAgYyLbNEtIKZeRN"') == body


async def test_an_untrusted_certificate_s_error_tells_nothing(credentials: Credentials) -> None:
    async with (
        RawServer(ATTEMPTS["garbage"], tls=server_context("127.0.0.1")) as server,
        AiohttpTransport(timeouts=Timeouts(), size_limits=SizeLimits()) as transport,
    ):
        header = credentials.signer(server.url).authorization(1_700_000_000)
        with pytest.raises(EngagementError) as caught:
            await transport.post(URL(server.url), {"Authorization": header}, b"{}", lambda *_: None)

    assert_tells_nothing(caught.value)


async def test_a_call_that_is_cancelled_or_timed_out_tells_nothing(credentials: Credentials) -> None:
    """That error is asyncio's: its traceback goes through the HTTP library."""
    async with RawServer(ATTEMPTS["hanging"]) as server, a_client(server.url, credentials) as client:
        asking = client.totals(["20"], engagement_types=METRICS, groupings=GROUPINGS)
        with pytest.raises(TimeoutError) as caught:
            await asyncio.wait_for(asking, 0.1)

        assert server.requests == 1
    assert_tells_nothing(caught.value)


async def test_an_attempt_that_is_cancelled_tells_nothing(credentials: Credentials) -> None:
    async with (
        RawServer(ATTEMPTS["hanging"]) as server,
        AiohttpTransport(timeouts=Timeouts(), size_limits=SizeLimits()) as transport,
    ):
        header = credentials.signer(server.url).authorization(1_700_000_000)
        asking = asyncio.create_task(transport.post(URL(server.url), {"Authorization": header}, b"{}", lambda *_: None))
        while not server.requests:
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await asking

    assert_tells_nothing(caught.value)


# --- objects ---


def a_client(url: str, credentials: Credentials) -> EngagementClient:
    return EngagementClient(credentials, rate_limit=RateLimit(1_000), base_url=url)


def strings_of(thing: Any) -> Iterator[str]:
    """Every string that attributes and items lead to, from an object of ours on."""
    seen: dict[int, Any] = {}
    queue = [thing]
    while queue:
        each = queue.pop()
        if id(each) in seen or isinstance(each, (type, ModuleType, asyncio.AbstractEventLoop)):
            continue
        seen[id(each)] = each
        if isinstance(each, (str, bytes)):
            yield each if isinstance(each, str) else each.decode("utf-8", "replace")
        elif isinstance(each, dict):
            queue += [*each.keys(), *each.values()]
        elif isinstance(each, (list, tuple, set, frozenset)):
            queue += each
        elif not callable(each) or isinstance(each, EngagementClient):
            queue += getattr(each, "__dict__", {}).values()
            slots = {slot for kind in type(each).__mro__ for slot in getattr(kind, "__slots__", ())}
            queue += [getattr(each, slot, None) for slot in slots if not slot.startswith("__")]


async def test_a_client_at_work_shows_no_secret_to_whoever_walks_through_it(credentials: Credentials) -> None:
    async with RawServer(answering(zipped(b'{"by_tweet": {"20": {}}, "sum": {}}'))) as server:
        client = a_client(server.url, credentials)
        async with client:
            result = await client.totals(["20"], engagement_types=METRICS, groupings=GROUPINGS)
            walked = list(strings_of(client))

            assert URL(server.url).authority in walked, "the walk did not get far"
            assert not [text for text in walked if shown(text)]
            for text in (repr(client), str(client), f"{client}", pprint.pformat(vars(client)), repr(client.status())):
                assert not shown(text)
        assert not shown(pickle.dumps(result))
        assert not shown(repr(result))


@pytest.mark.parametrize(
    "make", [repr, str, "{}".format, pprint.pformat, "{0!r}".format, ascii, lambda c: f"{c!s:>80}"]
)
def test_credentials_show_no_secret(make: Callable[[Any], str], credentials: Credentials) -> None:
    signer = credentials.signer("https://data-api.example/insights/engagement/totals")

    assert not shown(make(credentials))
    assert not shown(make(signer))
    assert not shown(make([signer.authorization(1)]) if make is not str else repr(signer.authorization(1)))


@pytest.mark.parametrize("away", [pickle.dumps, copy.deepcopy, copy.copy, lambda c: json.dumps(c), vars, dir])
def test_credentials_go_nowhere(away: Callable[[Any], Any], credentials: Credentials) -> None:
    signer = credentials.signer("https://data-api.example/insights/engagement/totals")
    for each in (credentials, signer):
        try:
            went = away(each)
        except TypeError as error:
            assert_tells_nothing(error)
        else:
            assert not shown(repr(went))


def test_bad_credentials_are_refused_without_being_repeated() -> None:
    for bad in (f"{SECRETS[1]} ", f"{SECRETS[1]}\n", f"\u200b{SECRETS[1]}", f'"{SECRETS[1]}\x00'):
        for make in (lambda: BearerCredentials(bad), lambda: OAuth1Credentials("key", bad, "token", "secret")):  # noqa: B023
            with pytest.raises(EngagementError) as caught:
                make()
            assert not shown(str(caught.value))
            assert not shown(repr(caught.value))


def test_an_address_with_a_password_in_it_is_refused_without_being_repeated() -> None:
    with pytest.raises(EngagementError) as caught:
        a_client(f"https://user:{SECRETS[1]}@data-api.example", oauth())

    assert not shown(str(caught.value))


def test_a_crash_dump_of_the_garbage_collector_shows_no_header_after_a_run() -> None:
    """Nothing that lives on holds the Authorization header of a request that is over."""

    async def main() -> None:
        async with Emulator(None, credentials=CANARIES) as emulator, a_client(emulator.base_url, oauth()) as client:
            await client.totals(["20"], engagement_types=METRICS, groupings=GROUPINGS)

    asyncio.run(main())
    gc.collect()
    headers = [each for each in gc.get_objects() if isinstance(each, dict) and "Authorization" in each]
    # From 3.14 on the interpreter's table of interned strings is among them, with the canaries of this test's own source.
    headers = [each for each in headers if any(key is not value for key, value in each.items())]

    assert not [repr(each) for each in headers if shown(repr(each))]


# --- the process ---


def run_command(emulator: Emulator, folder: Path, *args: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore", "-m", "engagement_async", *args],
        capture_output=True,
        check=False,
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "ENGAGEMENT_STATE_DIR": os.environ["ENGAGEMENT_STATE_DIR"],
            "XDG_CONFIG_HOME": str(folder / "config"),
            "PYTHONASYNCIODEBUG": "1",
            **emulator.environment,
            **environ,
        },
    )


FETCH = ("fetch", "totals", "20", "30", "--output", "result.json")


@pytest.mark.parametrize(
    ("faults", "code"),
    [({"401": 1}, 4), ({"404": 1}, 2), ({"redirect": 1}, 2), ({"400": 1}, None), ({"gzip-cut": 2}, 0), ({}, 0)],
    ids=str,
)
def test_the_command_tells_nothing_whatever_its_server_says(
    faults: dict[str, int], code: int | None, tmp_path: Path
) -> None:
    with Emulator(None, credentials=CANARIES, faults=faults) as emulator:
        done = run_command(emulator, tmp_path, *FETCH, ENGAGEMENT_REQUESTS_PER_MINUTE="60000")

    assert code is None or done.returncode == code, done.stderr
    assert not shown(done.stdout)
    assert not shown(done.stderr)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if shown(path.read_bytes())]


@pytest.mark.parametrize("option", ["--bearer-token", "--consumer-secret", "--token"])
@pytest.mark.parametrize("form", ["{} {}", "{}={}"])
def test_a_secret_on_the_command_line_is_refused_and_not_repeated(option: str, form: str, tmp_path: Path) -> None:
    with Emulator(None, credentials=CANARIES) as emulator:
        done = run_command(emulator, tmp_path, *FETCH, *form.format(option, SECRETS[-1]).split(" "))

        assert emulator.log.requests == 0
    assert done.returncode == 2
    assert done.stderr
    assert not shown(done.stdout + done.stderr)


def test_other_processes_see_no_secret_in_its_arguments(tmp_path: Path) -> None:
    with (
        Emulator(None, credentials=CANARIES, faults={"hang-before-headers": 1}) as emulator,
        subprocess.Popen(
            [sys.executable, "-m", "engagement_async", *FETCH],
            cwd=tmp_path,
            env={**os.environ, **emulator.environment, "ENGAGEMENT_REQUESTS_PER_MINUTE": "60"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process,
    ):
        try:
            while not emulator.log.requests and process.poll() is None:
                time.sleep(0.01)
            arguments = Path(f"/proc/{process.pid}/cmdline")
            if not arguments.exists():
                pytest.skip("no /proc here")
            told = arguments.read_bytes()
        finally:
            process.kill()

    assert b"engagement_async" in told
    assert not shown(told)


def test_what_is_printed_by_a_program_that_fails_with_everything_on_tells_nothing() -> None:
    """stdout and stderr of a user's own program that lets the error go up, with all logging on."""
    program = """
import asyncio, faulthandler, logging, sys
faulthandler.enable()
logging.basicConfig(level=logging.DEBUG)
from engagement_async import *
async def main():
    import os
    e = os.environ.get
    names = ("CONSUMER_KEY", "CONSUMER_SECRET", "ACCESS_TOKEN", "ACCESS_TOKEN_SECRET")
    credentials = OAuth1Credentials(*(e(f"ENGAGEMENT_{name}") for name in names))
    async with EngagementClient(credentials, rate_limit=RateLimit(6000), base_url=e("ENGAGEMENT_BASE_URL")) as client:
        print(client, vars(client), client.status())
        await client.totals(["20"], engagement_types=["favorites"], groupings={"g": ["tweet.id"]})
asyncio.run(main(), debug=True)
"""
    with Emulator(None, credentials=CANARIES, faults=lambda number: "reset" if number < 3 else "401") as emulator:
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "ignore", "-c", program],
            capture_output=True,
            check=False,
            env={"PATH": os.environ["PATH"], **emulator.environment},
        )

    assert done.returncode == 1
    assert b"AuthError" in done.stderr
    assert b"attempt failed" in done.stderr
    assert not shown(done.stdout + done.stderr)


def test_a_logger_with_everything_on_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The loggers of the libraries underneath too."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    root.addHandler(handler)
    caplog.set_level(1)
    for name in list(logging.root.manager.loggerDict):
        caplog.set_level(1, logger=name)
    try:

        async def main() -> None:
            async with (
                Emulator(None, credentials=CANARIES, faults={"503": 2}) as emulator,
                a_client(emulator.base_url, oauth()) as client,
            ):
                ids = [str(20 + n) for n in range(600)]
                await client.totals(ids, engagement_types=METRICS, groupings=GROUPINGS)

        asyncio.run(main(), debug=True)
    finally:
        root.removeHandler(handler)

    assert "attempt failed" in stream.getvalue()
    assert not shown(stream.getvalue())
