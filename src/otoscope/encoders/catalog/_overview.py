"""One line about each named encoder, for the command `encoders list` and for the documentation."""

from __future__ import annotations

import math

from otoscope.encoders.base import registry
from otoscope.encoders.catalog._ported import Ported

COLUMNS = ("encoder", "licence", "tokens of 10 s", "layers x width", "cls", "parameters", "labels")
"""The columns of `overview`."""


def ported() -> dict[str, type[Ported]]:
    """Return the named encoders with published weights by name, sorted."""
    classes = {name: registry.get(name) for name in registry.names()}
    return {name: cls for name, cls in classes.items() if issubclass(cls, Ported)}


def overview(name: str, cls: type[Ported]) -> list[str]:
    """Describe a named encoder in one line of a table.

    Parameters
    ----------
    name : its name.
    cls : its class.

    Returns
    -------
    A text for each of `COLUMNS`. The licence is that of the weights, without explanations. The number of tokens is that
    of time steps x frequency bands with audio; "labels" says whether labels were used in the pretraining or after it.
    """
    shape, card = cls.skeleton().shape, cls.card
    steps = math.ceil(10 * shape.frame_rate - 1e-6)
    return [
        name,
        card.short_licence,
        f"{steps} x {shape.freq}",
        f"{shape.layers} x {shape.dim}",
        "yes" if shape.has_cls else "no",
        f"{card.parameters:,.1f} M",
        "yes" if card.supervised else "no",
    ]
