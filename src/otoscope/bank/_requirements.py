"""What a bank must store for given probes, and how its size depends on layers, content and dtype."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import Literal

from otoscope import probes
from otoscope.bank.identity import CONTENTS, BankIdentity, Content
from otoscope.bank.size import BankSize
from otoscope.types import TokenShape

_ANNOUNCED_DTYPES = ("float16", "int8")
"""Dtypes whose sizes are always announced, in addition to the dtype of the bank."""

Kind = tuple[str, int, str]
"""A kind of bank: content, number of layers, dtype."""


@dataclass(frozen=True)
class Requirements:
    """The layers and the content that a bank must store: the arguments `layers` and `content` of `extract`.

    Parameters
    ----------
    layers : "last" or "all".
    content : "tokens" or "pooled".
    """

    layers: Literal["last", "all"]
    content: Content

    def met_by(self, identity: BankIdentity, count: int) -> bool:
        """Whether a bank stores these layers and this content.

        Parameters
        ----------
        identity : BankIdentity. The bank.
        count : int. Number of layers of its encoder.
        """
        all_layers = tuple(range(count))
        required = all_layers if self.layers == "all" else all_layers[-1:]
        stored = identity.layers if self.layers == "all" else identity.layers[-1:]
        return stored == required and (identity.content == "tokens" or self.content == "pooled")

    def __or__(self, other: Requirements) -> Requirements:
        """The smallest requirements that include both."""
        return Requirements(
            layers="all" if "all" in (self.layers, other.layers) else "last",
            content="tokens" if "tokens" in (self.content, other.content) else "pooled",
        )


def requirements(names: Sequence[str]) -> Requirements:
    """What a bank must store, at least, so that all of the given probes can read it.

    The content is "pooled" if every probe reads a summary or a mean, otherwise "tokens". The layers are "all" if any
    probe uses all layers, otherwise "last".

    Parameters
    ----------
    names : sequence of str. Names of probes.

    Returns
    -------
    Requirements. Arguments for `extract`.

    Raises
    ------
    UnknownNameError : for a name that no probe has.
    ValueError : when there are no names.

    Examples
    --------
    >>> requirements(["linear", "knn"])
    Requirements(layers='last', content='pooled')
    >>> requirements(["linear", "protobin", "cgp"])
    Requirements(layers='all', content='tokens')
    """
    if not names:
        raise ValueError("requirements needs the name of at least one probe, got none; name the probes to train")
    return reduce(or_, map(_required_by, names))


def _required_by(name: str) -> Requirements:
    """The requirements of one probe."""
    probe = probes.registry.get(name)
    return Requirements("all" if probe.uses_all_layers else "last", "tokens" if probe.reads == "tokens" else "pooled")


def sizes_by_kind(size: BankSize, shape: TokenShape) -> dict[Kind, int]:
    """Size of a bank in bytes, for every choice of layers, content and dtype.

    Parameters
    ----------
    size : BankSize. The bank.
    shape : TokenShape. Shape of the encoder's tokens, with all its layers.

    Returns
    -------
    dict. Bytes by (content, number of layers, dtype).
    """
    identity, sizes = size.identity, {}
    for content in reversed(CONTENTS):
        for layers in sorted({1, identity.shape.layers, shape.layers}):
            for dtype in dict.fromkeys((*_ANNOUNCED_DTYPES, identity.dtype)):
                other = replace(identity, content=content, dtype=dtype, shape=replace(shape, layers=layers))
                sizes[content, layers, dtype] = size.stored_as(other).bytes
    return sizes


def size_table(sizes: dict[Kind, int], chosen: Kind, format_bytes: Callable[[float], str]) -> str:
    """Lay out `sizes_by_kind` as text, one column for each dtype.

    Parameters
    ----------
    sizes : dict. Bytes by (content, number of layers, dtype).
    chosen : tuple. The kind whose size is put in brackets.
    format_bytes : callable. Turns a number of bytes into text.

    Returns
    -------
    str. The lines of the table.

    Examples
    --------
    >>> sizes = {("pooled", 1, "float16"): 300, ("tokens", 1, "float16"): 9000}
    >>> print(size_table(sizes, ("tokens", 1, "float16"), "{:.0f} B".format))
                        float16
    pooled, 1 layer       300 B
    tokens, 1 layer     [9000 B]
    """
    dtypes = list(dict.fromkeys(dtype for _, _, dtype in sizes))
    lines = ["".join([" " * 17, *(f"{dtype:>10} " for dtype in dtypes)]).rstrip()]
    for content, layers in dict.fromkeys((content, layers) for content, layers, _ in sizes):
        title = f"{content}, {layers} layer{'s' * (layers > 1)}"
        texts = {dtype: format_bytes(sizes[content, layers, dtype]) for dtype in dtypes}
        columns = [f"[{texts[d]}]" if (content, layers, d) == chosen else f"{texts[d]} " for d in dtypes]
        lines.append("".join([f"{title:<17}", *(f"{column:>11}" for column in columns)]).rstrip())
    return "\n".join(lines)
