"""The pages tell the truth: their Python runs, their commands parse, their links lead somewhere, and nothing is missing.

How a block is marked that cannot run: tests/support/pages.py.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import engagement_async
from engagement_async import (
    EngagementClient,
    OAuth1Credentials,
    RateLimit,
    backfill,
    cli,
    distributed,
    emulator,
    reports,
    series,
)
from engagement_async.backfill import BackfillJob
from engagement_async.cli import exit_codes
from engagement_async.cli.app import COMMANDS, Session, engagement
from engagement_async.cli.config import SETTINGS
from engagement_async.config import DEFAULT_BASE_URL
from engagement_async.emulator import Emulator, tweet_ids
from tests.matrix.cases import CASES
from tests.support.pages import PAGES, ROOT, Block, PageRunner, anchors, blocks, commands, links

COMMAND_LINE = ROOT / "docs" / "command-line.md"
TEXT = COMMAND_LINE.read_text()
TAKE_AN_ADDRESS: tuple[Callable[..., Any], ...] = (EngagementClient.__init__, BackfillJob.run)
"""Callables whose `base_url` defaults to the real API."""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def python_of(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language == "python"]


# --- Python ---


@pytest.fixture
def provided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Return the names that every block finds: credentials, IDs, a client's ingredients. All point to an emulator."""
    for function in TAKE_AN_ADDRESS:
        assert inspect.signature(function).parameters["base_url"].default == DEFAULT_BASE_URL
    monkeypatch.chdir(tmp_path)
    ids = ["1070059276213702656", "1021817816134156288", *tweet_ids(600, newest_at=time.time())]
    Path("mine.csv").write_text("tweet_id\n" + "".join(f"{i}\n" for i in ids))
    with Emulator(requests_per_minute=None, unavailable=ids[2:5]) as emulator:
        for function in TAKE_AN_ADDRESS:
            monkeypatch.setitem(function.__kwdefaults__ or {}, "base_url", emulator.base_url)
        for variable, value in {**emulator.environment, "ENGAGEMENT_REQUESTS_PER_MINUTE": "300"}.items():
            monkeypatch.setenv(variable, value)
        secrets = (
            emulator.consumer_key,
            emulator.consumer_secret,
            emulator.access_token,
            emulator.access_token_secret,
        )
        owners = Path("owners.csv")
        owners.write_text("owner,access_token,access_token_secret\n")
        owners.chmod(0o600)
        with owners.open("a") as file:
            file.writelines(f"{owner},{secrets[2]},{secrets[3]}\n" for owner in ("acme", "globex"))
        yield {
            "acme_ids": ids[:40],
            "globex_ids": ids[40:60],
            **dict(
                zip(("consumer_key", "consumer_secret", "access_token", "access_token_secret"), secrets, strict=True)
            ),
            "token": emulator.bearer_token,
            "credentials": OAuth1Credentials(*secrets),
            "tweet_ids": ids,
        }
        assert not emulator.log.refusals


@pytest.mark.parametrize("page", [page for page in PAGES if python_of(page)], ids=name_of)
def test_every_block_of_python_runs(page: Path, provided: dict[str, Any]) -> None:
    with PageRunner(provided) as runner:
        client = EngagementClient(provided["credentials"], rate_limit=RateLimit(6000))
        provided["client"] = runner.await_(client.__aenter__())
        try:
            for block in python_of(page):
                if block.no_run is None:
                    runner.run(block)
                else:
                    block.compiled()
        finally:
            runner.await_(client.__aexit__(None, None, None))


# --- commands ---


def tree(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from tree(inner, (*path, name))


ALL = dict(tree(engagement))
EXAMPLES = {
    f"{name_of(page)}: {' '.join(arguments)}": arguments
    for page in PAGES
    for block in blocks(page)
    for arguments in commands(block)
}


@pytest.mark.parametrize("arguments", EXAMPLES.values(), ids=EXAMPLES)
def test_every_command_is_one_that_the_command_line_takes(arguments: list[str]) -> None:
    rest = list(arguments)
    path: tuple[str, ...] = ()
    while rest and (*path, rest[0]) in ALL:
        path = (*path, rest.pop(0))
    with contextlib.suppress(click.exceptions.Exit):  # --help and --version
        ALL[path].make_context(" ".join(path), rest, obj=Session())


def test_every_make_target_and_every_extra_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    project = (ROOT / "pyproject.toml").read_text()
    for page in PAGES:
        text = page.read_text()
        assert {*re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)} <= targets, name_of(page)
        for names in re.findall(r"engagement[-_]async[^\s']*\[([a-z,]+)\]'", text):
            for extra in names.split(","):
                assert f"\n{extra} = [" in project, f"{name_of(page)}: [{extra}]"


# --- links ---


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith(("https://", "http://")):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), link
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), link


# --- names ---

EARLIER = {
    name
    for first in re.findall(
        r"^\| ([^|]+) \|",
        (ROOT / "docs" / "glossary.md").read_text().partition("\n## Earlier names\n")[2],
        re.MULTILINE,
    )
    for name in re.findall(r"`([^`]+)`", first)
}


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in ("glossary.md", "CHANGELOG.md")], ids=name_of
)
def test_no_page_uses_an_earlier_name(page: Path) -> None:
    text = page.read_text()

    assert len(EARLIER) > 20
    # A name that is also a word counts only where code is quoted.
    words = [name for name in EARLIER if name.isalpha() and name.istitle()]
    names = [rf"`[^`\n]*\b{name}\b[^`\n]*`" for name in words]
    names += [rf"(?<![\w/.]){re.escape(name)}(?!\w)" for name in EARLIER.difference(words)]
    assert [name for name in names if re.search(name, text)] == []


# --- docs/architecture.md ---


def test_every_path_on_the_map_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text().partition("\n## The tree\n")[0]
    places = (ROOT / "engagement_async", ROOT / "tests", ROOT)
    paths = {path for path in re.findall(r"`([\w./]+)`", text) if path.endswith((".py", ".pyi", "/"))}

    assert len(paths) > 30
    assert sorted(path for path in paths if not any((place / path).exists() for place in places)) == []


# --- docs/reliability.md ---

RELIABILITY = (ROOT / "docs" / "reliability.md").read_text()
RULES = re.findall(r"^\| (R\d\d) \|", RELIABILITY.partition("\n## Where each rule is tested\n")[0], re.MULTILINE)
TESTED = {
    rule: (unit, end_to_end)
    for rule, unit, end_to_end in re.findall(
        r"^\| (R\d\d) \| ([^|]+) \| ([^|]+) \|$",
        RELIABILITY.partition("\n## Where each rule is tested\n")[2].partition("\n## ")[0],
        re.MULTILINE,
    )
}


def names_a_test(reference: str) -> bool:
    path, _, name = reference.partition("::")
    return bool(re.search(rf"^\s*(async )?def {name}\(", (ROOT / "tests" / path).read_text(), re.MULTILINE))


def test_every_rule_has_a_number_of_its_own() -> None:
    assert [f"R{number:02}" for number in range(1, len(RULES) + 1)] == RULES


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_names_a_unit_test_and_an_end_to_end_test_that_exist(rule: str) -> None:
    unit, end_to_end = TESTED[rule]
    for reference in re.findall(r"`([^`]+)`", unit):
        assert reference.startswith("unit/")
        assert names_a_test(reference), reference
    cases = {case.name for case in CASES}
    for reference in re.findall(r"`([^`]+)`", end_to_end):
        assert not reference.startswith("unit/")
        assert names_a_test(reference) if "::" in reference else reference in cases, reference
    assert "`" in unit
    assert "`" in end_to_end


# --- docs/command-line.md ---


def section(name: str) -> str:
    return TEXT.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("path", [path for path in ALL if path], ids=" ".join)
def test_every_option_of_every_command_is_documented(path: tuple[str, ...]) -> None:
    text = section(path[0])
    assert f"engagement {' '.join(path)}" in text
    for parameter in ALL[path].params:
        if isinstance(parameter, click.Option):
            for option in parameter.opts:
                assert f"`{option}" in text, f"{' '.join(path)} {option}"


def test_no_option_is_documented_that_does_not_exist() -> None:
    for name in COMMANDS:
        known = {
            option for path, command in ALL.items() if path[:1] == (name,) for p in command.params for option in p.opts
        }
        documented = {
            option
            for row in re.findall(r"^\|(.*?)(?<!\\)\|", section(name), re.MULTILINE)
            for option in re.findall(r"`(--?[a-z-]+)", row)
        }
        assert documented <= known | {"-h", "--help"}


def test_every_setting_event_and_exit_code_is_documented() -> None:
    for key in SETTINGS:
        assert f"| `ENGAGEMENT_{key.upper()}` | `{key}` |" in section("Credentials and settings")
    codes = {
        int(code) for code in re.findall(r"\b(\d+)\b", " ".join(re.findall(r"^\| ([\d, ]+) \|", TEXT, re.MULTILINE)))
    }
    sources = "".join(path.read_text() for path in (Path(cli.__file__).parent).glob("**/*.py"))
    for event in re.findall(r'\b(?:event|now_and_then)\(\s*"(\w+)"', sources):
        assert f"| `{event}`" in section("Events for machines")
    assert codes == {value for name, value in vars(exit_codes).items() if name.isupper() and isinstance(value, int)}


# --- the site ---


def test_every_public_name_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "reference.md").read_text()
    named = set(re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE))
    modules = engagement_async, backfill, distributed, emulator, reports, series
    expected = {f"{module.__name__}.{name}" for module in modules for name in module.__all__}
    moved = {f"engagement_async.backfill.{name}" for name in backfill.__all__ if name.endswith("Error")}

    assert sorted(expected - moved - named) == []
    assert sorted(named - expected) == []


def test_every_page_is_in_the_site() -> None:
    site = (ROOT / "mkdocs.yml").read_text()
    pages = [path.name for path in ROOT.glob("docs/*.md")]

    assert [page for page in pages if not re.search(rf": {re.escape(page)}$", site, re.MULTILINE)] == []


def test_the_version_of_the_changelog_is_the_packages() -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == engagement_async.__version__
