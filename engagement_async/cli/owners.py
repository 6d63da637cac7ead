"""Tweets of many owners on the command line: options, the IDs by owner, and what became of each owner."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from engagement_async._core.outcomes import OwnerResult, worst_first_key
from engagement_async._core.owned_batches import Claims
from engagement_async._core.query import Query
from engagement_async._core.words import owner_error_text, owner_text
from engagement_async._ids.reading import read_owned_chunks
from engagement_async.cli.completion import complete_files
from engagement_async.cli.config import Auth, Settings
from engagement_async.cli.inputs import InputReporter
from engagement_async.cli.options import all_of
from engagement_async.cli.parameters import NAMED
from engagement_async.cli.report import Reporter
from engagement_async.client import check_query
from engagement_async.credential_store import CredentialFile
from engagement_async.credentials import BearerCredentials, OAuth1Credentials
from engagement_async.errors import UsageError

__all__ = [
    "OwnerFlags",
    "check_owned_query",
    "credentials_option",
    "first_owner_option",
    "owned_id_chunks",
    "owner_column_option",
    "owner_fields",
    "owner_options",
    "owner_weight_option",
    "read_by_owner",
    "report_owners",
    "worst_first",
]

owner_column_option = click.option(
    "--owner-column",
    type=NAMED,
    metavar="NAME|N",
    help="Column or key of the Tweets' owners: each request is signed with its owner's token from --credentials.",
)
first_owner_option = click.option(
    "--first-owner", is_flag=True, help="Let a Tweet that is listed for two owners belong to the first one."
)
credentials_option = click.option(
    "--credentials",
    "credentials_path",
    type=NAMED,
    metavar="FILE",
    shell_complete=complete_files,
    help="Tokens of the owners: CSV, JSON lines or TOML with owner, access_token, access_token_secret. Also "
    "ENGAGEMENT_CREDENTIALS_FILE.",
)


def _weights(_ctx: click.Context, _param: click.Parameter, given: Sequence[str]) -> dict[str, int]:
    """Return the weights of `NAME=N`; the name may have another `=` in it."""
    weights: dict[str, int] = {}
    for text in given:
        owner, _, number = text.rpartition("=")
        if not owner or not number.isascii() or not number.isdecimal() or int(number) < 1:
            raise click.BadParameter(f"{text!r} is no owner with a whole number from 1 on, as handle=3")
        if weights.setdefault(owner, int(number)) != int(number):
            raise click.BadParameter(f"owner {owner!r} is given two weights")
    return weights


owner_weight_option = click.option(
    "--owner-weight",
    "owner_weights",
    type=NAMED,
    metavar="NAME=N",
    multiple=True,
    callback=_weights,
    help="Requests that an owner may send at each turn, as handle=3, when all others send one. Repeatable.",
)
owner_options = all_of(owner_column_option, credentials_option, first_owner_option, owner_weight_option)


@dataclass(frozen=True, slots=True)
class OwnerFlags:
    """What the flags say of owners. Without `column` the Tweets have none."""

    column: str | None
    credentials_path: str | None = None
    first_owner: bool = False
    weights: Mapping[str, int] = field(default_factory=dict)

    def check(self, given: Sequence[str] = (), *, auth: Auth | None = None) -> None:
        """Raise `UsageError` for flags that do not go together. `given` are IDs that are arguments."""
        if self.column is None:
            if self.credentials_path is not None:
                raise UsageError(
                    "--credentials: whose are the Tweets? Name the column of their owners with --owner-column"
                )
            if self.first_owner:
                raise UsageError("--first-owner is about Tweets with owners: name their column with --owner-column")
            if self.weights:
                raise UsageError("--owner-weight is about Tweets with owners: name their column with --owner-column")
        elif given:
            raise UsageError("--owner-column: an ID that is an argument has no owner. Give --ids FILE")
        elif auth == "bearer":
            raise UsageError("--owner-column: a Bearer token is nobody's. Leave out --auth bearer")

    def check_weights(self, owners: Collection[str]) -> None:
        """Raise `UsageError` for a weight of an owner who is none of these."""
        unknown = next((owner for owner in self.weights if owner not in owners), None)
        if unknown is not None:
            raise UsageError(f"--owner-weight: there are no Tweets of an owner {unknown!r}")

    def credentials(
        self, settings: Settings, auth: Auth | None
    ) -> OAuth1Credentials | BearerCredentials | CredentialFile:
        """Return the store of the owners' credentials, or without owners the only ones."""
        return settings.credentials(auth) if self.column is None else settings.credential_file(self.credentials_path)


def check_owned_query(query: Query, credentials: OAuth1Credentials | BearerCredentials | CredentialFile) -> None:
    """Raise `UsageError` if these credentials may not send this query."""
    if isinstance(credentials, CredentialFile):
        return
    if query.is_by_owner:
        raise UsageError("--group-by owner: whose are the Tweets? Name the column of their owners with --owner-column")
    check_query(query, credentials)


def owned_id_chunks(
    files: Sequence[str], owner_column: str, heard: InputReporter, **options: Any
) -> Iterator[tuple[list[str], list[str]]]:
    """Yield owners and their IDs, as `read_owned_chunks`, in input order."""
    if not files:
        raise UsageError("which Tweets? Give --ids FILE, or --ids - for stdin, with a column of owners")
    strict = options.pop("strict", False)
    yield from read_owned_chunks(
        files,
        owner_column=owner_column,
        on_reject=None if strict else heard.on_reject,
        on_warning=heard.on_warning,
        on_input=heard.on_input,
        **options,
    )
    heard.finish()
    heard.finish_rejects()


def read_by_owner(
    chunks: Iterable[tuple[list[str], list[str]]], files: Sequence[str], *, first_owner: bool
) -> dict[str, list[str]]:
    """Return the distinct IDs of each owner. Raise `UsageError` for one that has two, unless `first_owner`."""
    claims: Claims[str] = Claims(first_owner=first_owner)
    by_owner: list[list[str]] = []
    for owners, ids in chunks:
        numbers = [claims.number_of(owner) for owner in owners]
        by_owner += ([] for _ in range(len(claims.names) - len(by_owner)))
        for tweet_id, number in claims.new(ids, numbers):
            by_owner[number].append(tweet_id)
    if not any(by_owner):
        raise UsageError(f"there is no Tweet ID with an owner in {' or '.join(files)}")
    return {name: ids for name, ids in zip(claims.names, by_owner, strict=True) if ids}


def worst_first(owners: Mapping[str, OwnerResult]) -> dict[str, OwnerResult]:
    """Return the owners in another order: see `worst_first_key`."""
    return dict(sorted(owners.items(), key=lambda item: worst_first_key(item[1].error, item[1].outcomes)))


def report_owners(owners: Mapping[str, OwnerResult], reporter: Reporter) -> None:
    """Report to people what became of the owners, those with trouble one by one, the worst first."""
    if not owners:
        return
    ordered = worst_first(owners)
    refused = sum(its.error is not None for its in owners.values())
    troubled = {o: its for o, its in ordered.items() if its.error or its.outcomes.failed or its.outcomes.forbidden}
    unusable = f", {refused:,} of them with unusable credentials" if refused else ""
    reporter.note(f"  {len(owners):,} owner{'' if len(owners) == 1 else 's'}{unusable}")
    reporter.listed(
        "owners with failed or forbidden Tweets, the worst first:", [_line(*item) for item in troubled.items()]
    )


def owner_fields(owners: Mapping[str, OwnerResult]) -> dict[str, Any]:
    """Return what an event says of owners, the worst first; nothing where there are none."""
    fields = {
        owner: {"outcomes": its.outcomes._asdict(), "requests": its.requests, "error": its.error}
        for owner, its in worst_first(owners).items()
    }
    return {"owners": fields} if fields else {}


def _line(owner: str, its: OwnerResult) -> str:
    shown = owner_text(owner)
    if its.error is not None:
        return f"owner {shown}: {owner_error_text(owner, its.error)} ({its.outcomes.failed:,} failed)"
    counts = ", ".join(f"{number:,} {name}" for name, number in its.outcomes._asdict().items() if number)
    return f"owner {shown}: {counts}"
