"""The documentation's pages: their blocks, their commands and their links, and a runner for their Python.

Every fenced block of Python runs, in the order of its page and in the names of the blocks before it. `await` may stand
at the top level, as in a notebook. Two comments that no reader sees steer this:

- `<!-- setup`, lines of Python, `-->` runs them without showing them;
- `<!-- no-run: why -->` before a block: it is only compiled, because it needs what a test has not, such as a network.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
import shlex
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from types import CodeType
from typing import Any

__all__ = ["PAGES", "ROOT", "Block", "PageRunner", "anchors", "blocks", "commands", "links"]

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")])

_BLOCK = re.compile(
    r"(?:^[ ]*<!-- no-run: (?P<reason>[^\n]+) -->\n+)?"
    r"(?:^(?P<indent>[ ]*)```[ ]?(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^(?P=indent)```[ ]*$"
    r"|^<!-- setup\n(?P<setup>.*?)^-->$)",
    re.MULTILINE | re.DOTALL,
)
_FENCED = re.compile(r"^([ ]*)```.*?^\1```[ ]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+?)[ ]*$", re.MULTILINE)
_COMMAND = re.compile(r"(?:^|[\s/=])engagement\s|-m engagement_async\s")
_LIST = re.compile(r"\[\s*\"engagement\"[^\]]*\]")


@dataclass(frozen=True)
class Block:
    """One fenced block, or one hidden `setup`."""

    page: Path
    line: int
    """Of its first line of text, counted from 1."""
    language: str
    text: str
    no_run: str | None
    """Why it is not run."""

    def compiled(self) -> CodeType:
        """Its code; errors show the page and the line."""
        tree = ast.parse("\n" * (self.line - 1) + self.text, str(self.page))
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code: CodeType = compile(tree, str(self.page), "exec", flags=flags, dont_inherit=True)
        return code


def blocks(page: Path) -> Iterator[Block]:
    """All blocks of a page, in order."""
    text = page.read_text()
    for found in _BLOCK.finditer(text):
        name = "text" if found["setup"] is None else "setup"
        line = text.count("\n", 0, found.start(name)) + 1
        language = "python" if name == "setup" else found["language"]
        yield Block(page, line, language, dedent(found[name]), found["reason"])


class PageRunner:
    """Runs the Python blocks of one page on one event loop. A context manager."""

    def __init__(self, provided: Mapping[str, Any]) -> None:
        self._provided = provided
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self._runner = asyncio.Runner()

    def __enter__(self) -> PageRunner:
        return self

    def __exit__(self, *raised: object) -> None:
        self._runner.close()

    def await_(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the loop of the blocks."""
        return self._runner.run(coroutine)

    def run(self, block: Block) -> None:
        """Run one block. What a test provides stays as it is: an example that opens a `client` hides no other."""
        self.names.update(self._provided)
        code = block.compiled()
        result = eval(code, self.names)
        if code.co_flags & inspect.CO_COROUTINE:
            self.await_(result)


def commands(block: Block) -> Iterator[list[str]]:
    """The arguments of every `engagement ...` of a block that is not Python: a shell's line, a unit's, a manifest's."""
    for found in _LIST.findall(block.text):
        yield from _arguments(json.loads(found))
    if block.language in ("python", "json", "yaml", "toml", "sql"):
        return
    for line in block.text.replace("\\\n", " ").splitlines():
        if not _COMMAND.search(line):
            continue
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="();<>|&")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("();<>|&"):
                yield from _arguments(words)
                words = []
            else:
                words.append(word)


def _arguments(words: list[str]) -> Iterator[list[str]]:
    for at, word in enumerate(words):
        if word.rpartition("/")[2] == "engagement" and words[at + 1 :]:
            yield words[at + 1 :]
            return
        if words[at : at + 2] == ["-m", "engagement_async"]:
            yield words[at + 2 :]
            return


def links(page: Path) -> Iterator[str]:
    """The targets of a page's links, those in blocks left out."""
    yield from _LINK.findall(_FENCED.sub("", page.read_text()))


def anchors(page: Path) -> set[str]:
    """What a link's `#...` may name: the headings, as GitHub and mkdocs both write them."""
    text = _FENCED.sub("", page.read_text())
    headings = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(text))
    return {heading.strip().replace(" ", "-") for heading in headings}
