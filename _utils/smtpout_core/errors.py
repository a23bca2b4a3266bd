"""What goes wrong, as a person is told it; the modules that Salt loads turn it into Salt's own exceptions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")


class RelayError(Exception):
    """Something is wrong: the text says what was asked, what was found and what would be right."""


class NotInstalledError(RelayError):
    """A program or a Python package that the question needs isn't there; a state of the same run may bring it."""


class Doubt(RelayError):
    """What was asked works, and somebody should look at it all the same."""


def raised_as(
    failed: type[Exception], missing: type[Exception]
) -> Callable[[Callable[Given, Result]], Callable[Given, Result]]:
    """Return a decorator under which a function raises Salt's exceptions instead of these.

    :param failed: for :class:`RelayError`.
    :param missing: for :class:`NotInstalledError`.
    """

    def decorated(function: Callable[Given, Result]) -> Callable[Given, Result]:
        @functools.wraps(function)
        def wrapper(*arguments: Given.args, **named: Given.kwargs) -> Result:
            try:
                return function(*arguments, **named)
            except NotInstalledError as error:
                raise missing(str(error)) from error
            except RelayError as error:
                raise failed(str(error)) from error

        return wrapper

    return decorated


@contextmanager
def os_errors_told(place: str | Path = "a file") -> Iterator[None]:
    """Tell an operating system's error with the file that it is about.

    :param place: what is named where the system doesn't say: of a disk that is full, say.
    """
    try:
        yield
    except OSError as error:
        path = error.filename2 or error.filename or place
        raise RelayError(f"{path}: {error.strerror or error}") from error
