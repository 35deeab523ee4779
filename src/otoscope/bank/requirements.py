"""The least that a bank must hold for some probes, and what it would take to hold other things."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import Literal

from otoscope import probes
from otoscope.bank.identity import HOLDS, BankIdentity, Holds
from otoscope.types import TokenShape

_OFFERED = ("float16", "int8")
"""Dtypes whose sizes are told beside that of the bank."""


@dataclass(frozen=True)
class Requirements:
    """What some probes read: the arguments `layers` and `holds` of `extract`."""

    layers: Literal["last", "all"]
    holds: Holds

    def met_by(self, identity: BankIdentity, count: int) -> bool:
        """Whether a bank of this identity, of an encoder of `count` layers, holds all of it."""
        every = tuple(range(count))
        deep = identity.layers == every if self.layers == "all" else identity.layers[-1:] == every[-1:]
        return deep and (identity.holds == "tokens" or self.holds == "pooled")

    def __or__(self, other: Requirements) -> Requirements:
        """What serves both."""
        return Requirements(
            layers="all" if "all" in (self.layers, other.layers) else "last",
            holds="tokens" if "tokens" in (self.holds, other.holds) else "pooled",
        )


def requirements(names: Sequence[str]) -> Requirements:
    """The least that serves all probes of these names: one bank for all of them.

    Pooled vectors where every one reads a summary or a mean, else token maps; all layers where one of them is of depth
    "many", else the last. `UnknownNameError` for a name that no probe has, `ValueError` without names.

    >>> requirements(["linear", "knn"])
    Requirements(layers='last', holds='pooled')
    >>> requirements(["linear", "protobin", "cgp"])
    Requirements(layers='all', holds='tokens')
    """
    if not names:
        raise ValueError("what a bank must hold follows from the probes that will read it, found none; name one")
    return reduce(or_, map(_least, names))


def _least(name: str) -> Requirements:
    kind = probes.registry.get(name)
    return Requirements("all" if kind.uses_all_layers else "last", "tokens" if kind.reads == "tokens" else "pooled")


def sizes(
    identity: BankIdentity, whole: TokenShape, total: Callable[[BankIdentity], int]
) -> dict[tuple[str, int, str], int]:
    """Bytes of a bank of this identity, and of what could be kept instead: by (holds, number of layers, dtype).

    `whole`: the shape of the encoder's tokens; `total`: bytes of all tokens of a bank of some identity.
    """
    found = {}
    for holds in reversed(HOLDS):
        for layers in sorted({1, identity.shape.layers, whole.layers}):
            for dtype in dict.fromkeys((*_OFFERED, identity.dtype)):
                kept = replace(identity, holds=holds, dtype=dtype, shape=replace(whole, layers=layers))
                found[holds, layers, dtype] = total(kept)
    return found


def table(found: dict[tuple[str, int, str], int], chosen: tuple[str, int, str], human: Callable[[float], str]) -> str:
    """`sizes` in lines, a column a dtype; the one that is chosen in brackets.

    >>> sizes = {("pooled", 1, "float16"): 300, ("tokens", 1, "float16"): 9000}
    >>> print(table(sizes, ("tokens", 1, "float16"), "{:.0f} B".format))
                        float16
    pooled, 1 layer       300 B
    tokens, 1 layer     [9000 B]
    """
    dtypes = list(dict.fromkeys(dtype for _, _, dtype in found))
    lines = ["".join([" " * 17, *(f"{dtype:>10} " for dtype in dtypes)]).rstrip()]
    for holds, layers in dict.fromkeys((holds, layers) for holds, layers, _ in found):
        words = f"{holds}, {layers} layer{'s' * (layers > 1)}"
        told = {dtype: human(found[holds, layers, dtype]) for dtype in dtypes}
        cells = [f"[{told[d]}]" if (holds, layers, d) == chosen else f"{told[d]} " for d in dtypes]
        lines.append("".join([f"{words:<17}", *(f"{cell:>11}" for cell in cells)]).rstrip())
    return "\n".join(lines)
