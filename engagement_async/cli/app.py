"""The group `engagement`: its commands by name, imported when they are called, and errors made into exit codes.

`engagement --help` imports click and no command: what it shows of each one stands in the table here.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from engagement_async.cli.exit_codes import OK, Interrupted, exit_code_of, message_of
from engagement_async.cli.signals import signals_raise
from engagement_async.cli.streams import json_line, printable, utc_now

__all__ = ["Session", "engagement", "run"]

COMMANDS: dict[str, tuple[str, str]] = {
    "backfill": ("engagement_async.cli.backfill:backfill", "Jobs of millions of IDs that survive anything."),
    "demo": ("engagement_async.cli.demo:demo", "The emulator, two fetches and their pictures, in one command."),
    "emulator": ("engagement_async.cli.emulator:emulator", "A local Engagement API, to run everything else against."),
    "fetch": ("engagement_async.cli.fetch:fetch", "Ask the engagement of Tweets: any number of IDs, one result."),
    "plan": ("engagement_async.cli.plan:plan", "What a fetch will take: requests, time, bytes. Asks nothing."),
}
"""Name to the command's `module:attribute` and its line in the help."""

_SECRET_OPTIONS = {
    f"--{name}": f"ENGAGEMENT_{name.upper().replace('-', '_')}"
    for name in ("bearer-token", "consumer-key", "consumer-secret", "access-token", "access-token-secret")
} | {"--bearer": "ENGAGEMENT_BEARER_TOKEN", "--token": "ENGAGEMENT_BEARER_TOKEN"}


@dataclass(slots=True)
class Session:
    """What one run of the command line knows of itself; click hands it to the commands as `ctx.obj`."""

    json: bool = False
    """Whether stderr is for machines: then errors are events too."""
    context: dict[str, object] = field(default_factory=dict)
    """What every event says of its command, as `job`."""


class _Lazy(click.Group):
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

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:  # before click's own rule, which makes it an exit code of 1
            with open(os.devnull, "wb") as nothing:
                os.dup2(nothing.fileno(), 1)  # the interpreter flushes stdout once more on its way out
            raise click.exceptions.Exit(exit_code_of(error)) from None
        return result


def _show_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        click.echo(f"engagement {version('engagement-async')}")
        ctx.exit()


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Show it.")
def engagement() -> None:
    """Ask X's enterprise Engagement API about any number of Tweets, never over the contract.

    Credentials and defaults come from the environment (ENGAGEMENT_CONSUMER_KEY, ENGAGEMENT_CONSUMER_SECRET,
    ENGAGEMENT_ACCESS_TOKEN, ENGAGEMENT_ACCESS_TOKEN_SECRET, ENGAGEMENT_BEARER_TOKEN, ENGAGEMENT_BASE_URL,
    ENGAGEMENT_REQUESTS_PER_MINUTE) or from a configuration file. Results go to stdout, everything else to stderr.
    """


def run(args: Sequence[str]) -> int:
    """Runs one command line and returns its exit code. Errors are told on stderr, without a traceback."""
    session = Session()
    try:
        with signals_raise():
            result = engagement.main(list(args), prog_name="engagement", standalone_mode=False, obj=session)
    except click.ClickException as error:
        return _refused(error, session)
    except (KeyboardInterrupt, click.Abort):
        return exit_code_of(KeyboardInterrupt())
    except Interrupted as error:
        return error.exit_code
    except Exception as error:
        if os.environ.get("ENGAGEMENT_DEBUG"):
            import traceback

            traceback.print_exc()
        _tell(message_of(error), exit_code_of(error), session)
        return exit_code_of(error)
    return result if isinstance(result, int) else OK


def _refused(error: click.ClickException, session: Session) -> int:
    if isinstance(error, click.NoSuchOption) and error.option_name in _SECRET_OPTIONS:
        name = _SECRET_OPTIONS[error.option_name]
        _tell(
            f"{error.option_name} is no option: other users see the arguments of a command, and the shell keeps them. "
            f"Export {name}, or write {name.removeprefix('ENGAGEMENT_').lower()} to the configuration file",
            error.exit_code,
            session,
        )
    elif session.json:
        _tell(error.format_message(), error.exit_code, session)
    else:
        error.show()
    return error.exit_code


def _tell(message: str, exit_code: int, session: Session) -> None:
    if session.json:
        event = {"event": "error", "time": utc_now(), **session.context, "message": message, "exit_code": exit_code}
        click.echo(json_line(event), err=True)
    else:
        click.echo(printable(f"engagement: {message}"), err=True)
