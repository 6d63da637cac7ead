"""The parameters of functions that callers pass in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from engagement_async._core.callables import call_signature
from engagement_async._display.reporting import check_progress
from engagement_async.distributed.references import Reference
from engagement_async.errors import UsageError


def without_future(source: str) -> Callable[..., Any]:
    """Return the function `f` of this source, in a module whose annotations are not all text."""
    names: dict[str, Any] = {}
    exec(compile(source, "caller.py", "exec", dont_inherit=True), names)
    found: Callable[..., Any] = names["f"]
    return found


def test_the_parameters_of_a_function() -> None:
    assert list(call_signature(lambda a, *, b=3: None).parameters) == ["a", "b"]
    assert list(call_signature(partial(pow, 2)).parameters) == ["exp", "mod"]
    with pytest.raises(TypeError):
        call_signature(3)  # type: ignore[arg-type]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated when a function is made")
def test_an_annotation_may_name_what_only_type_checkers_import() -> None:
    check_progress(without_future("def f(now: CallProgress) -> Shown: pass"))
    with pytest.raises(UsageError, match="give a function of one argument"):
        check_progress(without_future("def f(now: CallProgress, more: Shown): pass"))

    function = without_future("def f() -> OAuth1Credentials: return 'made here'")
    assert Reference("credentials", function, "").resolve() == "made here"
