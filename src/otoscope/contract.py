"""Contracts: named checks that every plug-in of a kind must pass, and that anybody can run.

The module `contract` of `otoscope.probes`, `otoscope.encoders`, `otoscope.datasets`, `otoscope.metrics` and
`otoscope.search` has one `Contract`. The command line runs it by name (`otoscope check probe NAME`), and a plug-in's
own test suite runs it through pytest, one test for each check:

    from otoscope.probes.contract import CONTRACT

    @CONTRACT.parametrize(["loudest"])
    def test_contract(check):
        check()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

Subject = TypeVar("Subject")


class ContractError(AssertionError):
    """A check of a contract failed. The message describes what was expected and what was found."""


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check.

    Parameters
    ----------
    subject : name of the plug-in.
    check : name of the check.
    passed : whether the check passed.
    message : for a check that failed, what was expected and what was found. For a check that passed, a note on anything
        that it did not check, or "".
    """

    subject: str
    check: str
    passed: bool
    message: str = ""


def expect(condition: bool, message: str) -> None:
    """Raise `ContractError` with `message` unless the condition holds."""
    if not condition:
        raise ContractError(message)


class Contract(Generic[Subject]):
    """The named checks of one kind of plug-in.

    Parameters
    ----------
    kind : kind of the plug-ins: "probe", "encoder", "dataset", "metric" or "search".

    Examples
    --------
    >>> positive = Contract[int]("number")
    >>> @positive.check("above zero")
    ... def _(number):
    ...     expect(number > 0, f"a number above zero is expected, found {number}")
    >>> [result.passed for value in (1, -1) for result in positive.run(str(value), value)]
    [True, False]
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.checks: dict[str, Callable[[Subject], str | None]] = {}

    def check(self, name: str) -> Callable[[Callable[[Subject], str | None]], Callable[[Subject], str | None]]:
        """Add the decorated function as a check.

        Parameters
        ----------
        name : name of the check.

        Returns
        -------
        A decorator. The function takes the subject and raises `ContractError` if the check fails. It may return a note
        on anything that it did not check.
        """

        def add(function: Callable[[Subject], str | None]) -> Callable[[Subject], str | None]:
            self.checks[name] = function
            return function

        return add

    def run(self, name: str, subject: Subject, checks: Iterable[str] | None = None) -> list[CheckResult]:
        """Run all checks, or those named, on one subject.

        Parameters
        ----------
        name : name of the subject in the results.
        subject : argument of every check.
        checks : names of the checks to run; None for all.

        Returns
        -------
        One result for each check. An exception other than `ContractError` counts as a failed check as well.
        """
        results = []
        for check in self.checks if checks is None else checks:
            try:
                note = self.checks[check](subject)
            except Exception as error:
                reason = str(error) if isinstance(error, ContractError) else f"{type(error).__name__}: {error}"
                results.append(CheckResult(name, check, False, reason))
            else:
                results.append(CheckResult(name, check, True, note or ""))
        return results

    def parametrize(self, subjects: Sequence[Subject], names: Sequence[str] | None = None) -> Any:
        """A pytest decorator that runs every check on every subject, each as a separate test.

        Parameters
        ----------
        subjects : the subjects to check.
        names : a name for each of them in the test ids; None for `str(subject)`.

        Returns
        -------
        A `pytest.mark.parametrize` over the argument `check`, a function without arguments.
        """
        import pytest

        labels = [str(subject) for subject in subjects] if names is None else names
        return pytest.mark.parametrize(
            "check",
            [
                pytest.param(partial(function, subject), id=f"{label}-{check}")
                for label, subject in zip(labels, subjects, strict=True)
                for check, function in self.checks.items()
            ],
        )
