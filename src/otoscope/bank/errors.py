"""Errors of banks."""


class BankError(RuntimeError):
    """A bank cannot be written, or cannot be used in the way that was requested."""


class MismatchError(BankError):
    """The folder contains a bank whose identity differs from the requested one."""


class IncompleteError(BankError):
    """The extraction of a bank was interrupted, so some of its files are missing."""


class DamagedError(BankError):
    """A file of a bank differs from what was written."""


class HeldOutError(BankError):
    """The held-out split was requested by code other than the evaluation."""
