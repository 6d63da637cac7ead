"""What other processes need and must not be sent: it goes by reference, and each process makes its own of it."""

from __future__ import annotations

import inspect
import os
import pickle
import sys
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

from engagement_async._core.callables import call_signature
from engagement_async.errors import UsageError

__all__ = ["Reference"]


class Reference:
    """A value that each process makes for itself: an object that says how it is pickled, or what a function returns.

    A function without parameters is called, once by `resolve`. Functions go by their name, never by their code, which may
    hold secrets. What cannot go stays with the process that made it: pickling it is a `UsageError`, which names the `fix`.

    Args:
        name: What it is, for errors: the name of a parameter.
        value: The value, or a function.
        fix: What can be given instead, for errors.
    """

    def __init__(self, name: str, value: object, fix: str) -> None:
        self._name = name
        self._fix = fix
        self._value = value
        self._made_in = os.getpid()
        self._packed, self._problem = _packed(value)

    @property
    def is_portable(self) -> bool:
        """Whether other processes can have it."""
        return self._packed is not None

    def __repr__(self) -> str:
        return f"<Reference {self._name}>"

    def __reduce__(self) -> tuple[object, ...]:
        if self._packed is None:
            raise self._refusal()
        return _unpacked, (self._name, self._packed, self._fix)

    def resolve(self) -> Any:
        """Return the value of this process: a new object, if it `is_portable`. It may take as long as the function does.

        Raise `UsageError` when it belongs to another process, and what the function raises.
        """
        if self._packed is not None:
            value = pickle.loads(self._packed)  # noqa: S301 - packed by this class
        elif self._made_in == os.getpid():
            value = self._value
        else:
            raise self._refusal()
        return value() if _is_factory(value) else value

    def _refusal(self) -> UsageError:
        return UsageError(f"{self._name} cannot go to another process, since {self._problem}: {self._fix}")


def _unpacked(name: str, packed: bytes, fix: str) -> Reference:
    return Reference(name, pickle.loads(packed), fix)  # noqa: S301 - packed by `Reference`


def _packed(value: object) -> tuple[bytes | None, str]:
    """Return the value as other processes can have it, or None and why they cannot."""
    if isinstance(value, partial):  # a routine too, from Python 3.14 on
        return None, "the arguments of a partial may be secrets"
    if inspect.isroutine(value):
        problem = _problem_of_function(value)
        return (None, problem) if problem else (pickle.dumps(value), "")
    if not _says_how_it_is_pickled(type(value)):
        return None, f"a {type(value).__name__} may hold secrets, or counts for its own process alone"
    try:
        return pickle.dumps(value), ""
    except Exception as error:  # whatever its own __reduce__ raises
        its_own = isinstance(error, TypeError) and str(error).partition(":")[0]  # the rest is its own fix
        return None, its_own or f"a {type(value).__name__} cannot be pickled"


def _says_how_it_is_pickled(kind: type) -> bool:
    if kind in (str, int, float, bool, tuple, list, type(None)):
        return True
    methods = ("__reduce__", "__reduce_ex__", "__getstate__")
    return any(getattr(kind, name, None) is not getattr(object, name, None) for name in methods)


def _problem_of_function(function: Callable[..., Any]) -> str:
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module == "__main__":
        return f"{name} is defined in the program that is run, which they do not import"
    try:
        found: object = reduce(getattr, name.split("."), sys.modules[module or ""])
    except (AttributeError, KeyError):
        found = None
    return "" if found is function else f"{name or 'this function'} cannot be imported by its name"


def _is_factory(value: object) -> bool:
    """Whether it is a function without parameters."""
    if not inspect.isroutine(value) and not isinstance(value, partial):
        return False
    try:
        call_signature(value).bind()
    except (TypeError, ValueError):
        return False
    return True
