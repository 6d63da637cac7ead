"""The group `engagement`: commands by name, imported when they are called, and errors turned into exit codes.

`engagement --help` imports click and no command: what it shows of each one is in the table here.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import click

from engagement_async.cli.exit_codes import OK, USAGE, CommandError, Interrupted, exit_code_of, message_of
from engagement_async.cli.signals import signals_raise
from engagement_async.cli.streams import json_line, printable, utc_now

if TYPE_CHECKING:
    from engagement_async._progress import Progress

__all__ = ["Group", "Session", "engagement", "remember_flag", "run"]

COMMANDS: dict[str, tuple[str, str]] = {
    "backfill": (
        "engagement_async.cli.backfill:backfill",
        "Durable jobs of millions of IDs, resumable after any interruption.",
    ),
    "check": (
        "engagement_async.cli.check:check",
        "Check credentials, proxy, certificates and clock with one request.",
    ),
    "completion": ("engagement_async.cli.completion:completion", "Write the completion script of a shell."),
    "demo": (
        "engagement_async.cli.demo:demo",
        "Try everything against a local API: two fetches and a job that is killed.",
    ),
    "emulator": (
        "engagement_async.cli.emulator:emulator",
        "Run a local Engagement API to try the other commands against.",
    ),
    "fetch": ("engagement_async.cli.fetch:fetch", "Fetch the engagement of any number of Tweets into one result."),
    "plan": ("engagement_async.cli.plan:plan", "Show what a fetch would take: requests, time, bytes. Sends nothing."),
    "report": (
        "engagement_async.cli.make_report:report",
        "Make a page with pictures of a job, a series or a saved result.",
    ),
    "series": ("engagement_async.cli.series:series", "Keep a running series of hours and totals, with known gaps."),
}
"""Maps a name to the command's `module:attribute` and its line in the help."""

_SECRET_OPTIONS = {
    f"--{name}": f"ENGAGEMENT_{name.upper().replace('-', '_')}"
    for name in ("bearer-token", "consumer-key", "consumer-secret", "access-token", "access-token-secret")
} | {"--bearer": "ENGAGEMENT_BEARER_TOKEN", "--token": "ENGAGEMENT_BEARER_TOKEN"}


class Metrics(Protocol):
    """What keeps the numbers of a run: `MetricsFile`, which imports this module."""

    path: str

    def begin(self) -> str | None: ...

    def note(self, progress: Progress) -> None: ...

    def end(self, exit_code: int) -> str | None: ...


@dataclass(slots=True)
class Session:
    """The state of one run of the command line; click passes it to the commands as `ctx.obj`."""

    json: bool = False
    """Whether stderr is for machines: if so, errors are events too."""
    context: dict[str, object] = field(default_factory=dict)
    """What every event says of its command, as `job`."""
    flags: dict[str, Any] = field(default_factory=dict)
    """Options that many commands have and that are no parameters of theirs, as `profile` and `log_file`."""
    metrics: Metrics | None = None
    """The numbers of this run for Prometheus, where they are wanted."""


def remember_flag(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Keep the value of an option in the session; a callback of click."""
    session = ctx.find_object(Session)
    if session is not None and param.name is not None and value not in (None, (), False):
        session.flags[param.name] = value
    return value


class Group(click.Group):
    """A group that says what a misspelt command may have meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is called, and its arguments."""
        name = args[0]
        if not ctx.resilient_parsing and not name.startswith("-") and name not in (names := self.list_commands(ctx)):
            from engagement_async._core.spelling import did_you_mean

            raise click.UsageError(f"No such command '{name}'{did_you_mean(name, names)}: {', '.join(names)}", ctx)
        return super().resolve_command(ctx, args)


class _Lazy(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Return the context; `--help` and `--version` write while it is made."""
        with _kept_from_click():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _kept_from_click():
            result = super().invoke(ctx)
            sys.stdout.flush()
        return result


@contextmanager
def _kept_from_click() -> Iterator[None]:
    """Turn errors for which click has rules of its own into what they are here."""
    try:
        yield
    except BrokenPipeError as error:  # its exit code would be 1
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 1)  # the interpreter flushes stdout once more on its way out
        raise click.exceptions.Exit(exit_code_of(error)) from None
    except EOFError as error:  # it would pass for Ctrl-D at a prompt, without a word
        raise CommandError("a file ends too early: it is cut short. ENGAGEMENT_DEBUG=1 shows where", USAGE) from error


def _show_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        click.echo(f"engagement {version('engagement-async')}")
        ctx.exit()


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--version",
    "-V",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version and exit.",
)
def engagement() -> None:
    """Fetch metrics of any number of Tweets from X's enterprise Engagement API, within the rate limit of your contract.

    Credentials and defaults come from the environment (ENGAGEMENT_CONSUMER_KEY, ENGAGEMENT_CONSUMER_SECRET,
    ENGAGEMENT_ACCESS_TOKEN, ENGAGEMENT_ACCESS_TOKEN_SECRET, ENGAGEMENT_BEARER_TOKEN, ENGAGEMENT_BASE_URL,
    ENGAGEMENT_PROXY, ENGAGEMENT_REQUESTS_PER_MINUTE, or each with _FILE, the name of a file that holds it) or from a
    configuration file. `engagement check` says whether they are right. Results go to stdout, everything else to stderr.
    """


def run(args: Sequence[str]) -> int:
    """Run one command line and return its exit code. Errors go to stderr, without a traceback."""
    session = Session()
    exit_code = _run(args, session)
    if session.metrics is not None and (trouble := session.metrics.end(exit_code)) is not None:
        _warn(trouble, session)
    return exit_code


def _run(args: Sequence[str], session: Session) -> int:
    try:
        with signals_raise():
            result = engagement.main(list(args), prog_name="engagement", standalone_mode=False, obj=session)
    except click.ClickException as error:
        return _refused(error, session)
    except (KeyboardInterrupt, click.Abort):
        return exit_code_of(KeyboardInterrupt())
    except Interrupted as error:
        return error.exit_code
    except ModuleNotFoundError as error:
        if error.name != "fcntl":
            raise
        _show_error(
            "this command runs on Linux and macOS; on Windows use WSL, the Windows Subsystem for Linux", USAGE, session
        )
        return USAGE
    except Exception as error:
        if os.environ.get("ENGAGEMENT_DEBUG"):
            import traceback

            traceback.print_exc()
        _show_error(message_of(error), exit_code_of(error), session)
        return exit_code_of(error)
    return result if isinstance(result, int) else OK


def _refused(error: click.ClickException, session: Session) -> int:
    if isinstance(error, click.NoSuchOption) and error.option_name in _SECRET_OPTIONS:
        name = _SECRET_OPTIONS[error.option_name]
        _show_error(
            f"{error.option_name} is not an option: other users can see the arguments of a command, and shells save them. "
            f"Export {name}, or write {name.removeprefix('ENGAGEMENT_').lower()} to the configuration file",
            error.exit_code,
            session,
        )
    elif session.json:
        _show_error(error.format_message(), error.exit_code, session)
    else:
        error.show()
    return error.exit_code


def _warn(message: str, session: Session) -> None:
    if session.json:
        event = {"event": "warning", "time": utc_now(), **session.context, "message": message}
        click.echo(json_line(event), err=True)
    else:
        click.echo(printable(f"warning: {message}"), err=True)


def _show_error(message: str, exit_code: int, session: Session) -> None:
    if session.json:
        event = {"event": "error", "time": utc_now(), **session.context, "message": message, "exit_code": exit_code}
        click.echo(json_line(event), err=True)
    else:
        click.echo(printable(f"engagement: {message}"), err=True)
