"""Choosing tokens by an approximate product: how often the choice agrees with the exact one, and the effect on mAP.

python benchmarks/screened.py            # `protobin` on 160 + 80 scenes of `tiny`, three seeds each
python benchmarks/screened.py --small    # tiny sizes, to check that it runs
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated
from unittest import mock

import torch
from torch import Tensor

import otoscope.bank
from measure import compare
from otoscope import datasets, encoders
from otoscope.bank import Bank
from otoscope.ops import Screening, Selection, max_dot, principal_directions
from otoscope.probes import _prototypes
from otoscope.train import FittedProbe, TrainingConfig, fit
from otoscope.types import Tokens
from render import command
from rows import Section, Spread

RANKS = (16, 64)
COMPARED = """\
`protobin` on `scenes`, encoder `tiny` (D = 192): {train} clips to train on, {validation} to validate, {epochs}
epochs, {seeds} seeds. For every clip and prototype, the token is chosen by the exact product, by the product in int8
(`selection="int8"`), or by the exact product among eight candidates. Each candidate is the best token of one eighth
of the clip in a projection to few dimensions (`otoscope.ops.Screening`; principal directions of the train split,
computed once). Value and gradient are exact for the chosen token in all three cases. The share of equal choices and
the speed of the forward kernel are measured on validation clips with the exactly trained probe of the first seed.
mAP is that of a probe trained and validated with the given choice; the change is relative to the exactly trained
probe of the same seed."""
BOUNDS = """\
The tokens of a clip are similar, and the second best token is often nearly as good as the best. A different choice
changes the value only a little, but training then takes another course, as with another seed (see the range beside
each mAP). The share of equal choices may therefore be low although mAP is not. A projection is faster only if its
few dimensions distinguish the tokens and are much fewer than the width: the candidates are multiplied one by one,
which is slower than a dense product for narrow tokens. The exact kernel already excludes tokens by an integer
product where the processor supports it, without changing any choice, so that a projection gains little. Neither int8
nor a projection is lossless; probes use them only on request."""


@dataclass(frozen=True)
class Size:
    """Scenes of each split, epochs and seeds."""

    train: int = 160
    validation: int = 80
    epochs: int = 5
    seeds: int = 3


SMALL = Size(train=3, validation=2, epochs=1, seeds=1)


@dataclass(frozen=True)
class Choice:
    """One way of choosing tokens, compared with the exact one."""

    what: Annotated[str, "chosen"]
    agree: Annotated[str, "equal choices"]
    faster: Annotated[Spread, "forward, times faster than exact: median (spread)"]
    mean_ap: Annotated[str, "mAP in %, over seeds: mean (lowest .. highest)"]
    change: Annotated[str, "change in points: mean (lowest .. highest)"]


def sections(small: bool) -> list[Section]:
    """Measure one row per way of choosing."""
    size = SMALL if small else Size()
    data = datasets.create("scenes", train=size.train, validation=size.validation, test=0)
    with tempfile.TemporaryDirectory() as folder:
        splits = ("train", "validation")
        bank = otoscope.bank.extract(encoders.create("tiny"), data, f"{folder}/bank", splits=splits, progress=False)
        exact = _trained(bank, "exact", size)
        rows = [_row(what, how, bank, exact, size) for what, how in _ways(bank).items()]
    numbers = {"train": size.train, "validation": size.validation, "epochs": size.epochs, "seeds": size.seeds}
    return [Section("8. Choosing tokens by an approximate product", COMPARED.format(**numbers), [rows], BOUNDS)]


def _ways(bank: Bank) -> dict[str, Selection]:
    tokens = bank.split("train").tokens(slice(0, 64)).normalised()
    directions = principal_directions(tokens.x[tokens.mask[:, None].expand(tokens.x.shape[:3])], max(RANKS))
    screened: dict[str, Selection] = {f"projection, {r} dimensions": Screening(directions[:, :r]) for r in RANKS}
    return {"exactly": "exact", "in int8": "int8"} | screened


def _row(what: str, how: Selection, bank: Bank, exact: list[FittedProbe], size: Size) -> Choice:
    tokens = bank.split("validation").tokens(slice(0, 16)).normalised()
    probe = exact[0].module
    agree = _places(probe, tokens, how).eq(_places(probe, tokens, "exact")).float().mean()
    speed = compare(what, lambda: _places(probe, tokens, how), lambda: _places(probe, tokens, "exact")).faster
    fitted = exact if how == "exact" else _trained(bank, how, size)
    changes = [100 * (a.validation - b.validation) for a, b in zip(fitted, exact, strict=True)]
    values = [100 * f.validation for f in fitted]
    return Choice(what, f"{100 * agree:.1f} %", speed, _over_seeds(values, ".1f"), _over_seeds(changes, "+.1f"))


def _over_seeds(values: list[float], how: str) -> str:
    return f"{statistics.mean(values):{how}} ({min(values):{how}} .. {max(values):{how}})"


def _places(probe: torch.nn.Module, tokens: Tokens, how: Selection) -> Tensor:
    with torch.no_grad():
        return max_dot(tokens.flat[:, 0], probe.prototypes.normalised(), tokens.token_mask, selection=how)[1]


def _trained(bank: Bank, how: Selection, size: Size) -> list[FittedProbe]:
    with _choosing(how):
        return [
            fit("protobin", bank, TrainingConfig(seed=s, epochs=size.epochs, batch_size=32)) for s in range(size.seeds)
        ]


@contextmanager
def _choosing(how: Selection) -> Iterator[None]:
    """Within the block, prototypes choose their tokens in this way, whatever the option of the probe is."""

    def chosen(z: Tensor, p: Tensor, mask: Tensor | None, *, selection: Selection) -> tuple[Tensor, Tensor]:  # noqa: ARG001
        return max_dot(z, p, mask, selection=how)

    with mock.patch.object(_prototypes, "max_dot", chosen):
        yield


if __name__ == "__main__":
    command(sections, __doc__, None)
