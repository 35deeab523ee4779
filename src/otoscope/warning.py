"""The category of warnings about data and results."""

from __future__ import annotations

import warnings


class OtoscopeWarning(UserWarning):
    """Data or results that can be used and are probably not what was meant. The command line prints one line of it."""


def warn(text: str) -> None:
    """Issue an `OtoscopeWarning`. A process shows the same text from the same place once.

    Parameters
    ----------
    text : what is doubtful, with names, and what to do.
    """
    warnings.warn(text, OtoscopeWarning, stacklevel=2)
