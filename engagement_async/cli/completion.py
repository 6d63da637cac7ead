"""`engagement completion`: scripts for shells, and what completes the values of options.

The scripts are click's own: they call the command once more, with what was typed in the environment.
"""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

from engagement_async._core.endpoints import ENDPOINTS, Endpoint

__all__ = ["complete_files", "complete_folders", "complete_group_by", "complete_metrics", "completion"]

SHELLS = ("bash", "zsh", "fish")
_PROG, _VARIABLE = "engagement", "_ENGAGEMENT_COMPLETE"
_EPILOG = """\
\b
bash:  eval "$(engagement completion bash)"                     in ~/.bashrc
zsh:   eval "$(engagement completion zsh)"                      in ~/.zshrc, after compinit
fish:  engagement completion fish > ~/.config/fish/completions/engagement.fish
"""


@click.command(epilog=_EPILOG)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Write the script by which SHELL completes commands, options, files, metrics, groupings and faults."""
    found = get_completion_class(shell)
    assert found is not None  # noqa: S101 - click has all of SHELLS
    made = found(click.Group(_PROG), {}, _PROG, _VARIABLE)
    # Not `made.source()`, which runs bash to ask for its version.
    click.echo(made.source_template % made.source_vars())


def complete_files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Have the shell complete names of files."""
    return [CompletionItem(incomplete, type="file")]


def complete_folders(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Have the shell complete names of folders."""
    return [CompletionItem(incomplete, type="dir")]


def complete_metrics(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the last of metrics with commas between them: those of the endpoint, if it was named before."""
    names = dict.fromkeys(name for endpoint in _endpoints(ctx) for name in endpoint.metrics)
    return _last_of_list(incomplete, list(names))


def complete_group_by(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the last item of a grouping."""
    name, equals, items = incomplete.rpartition("=")
    values = dict.fromkeys(value for endpoint in _endpoints(ctx) for value in endpoint.group_by)
    return [CompletionItem(f"{name}{equals}{item.value}") for item in _last_of_list(items, list(values))]


def _endpoints(ctx: click.Context) -> list[Endpoint]:
    # While the option that is completed has no value yet, click leaves all arguments unparsed.
    words = [ctx.params.get("endpoint"), *ctx.args]
    return [ENDPOINTS[word] for word in words if word in ENDPOINTS] or list(ENDPOINTS.values())


def _last_of_list(incomplete: str, names: list[str]) -> list[CompletionItem]:
    before, comma, last = incomplete.rpartition(",")
    taken = before.split(",")
    return [CompletionItem(f"{before}{comma}{name}") for name in names if name.startswith(last) and name not in taken]
