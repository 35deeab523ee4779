"""The entries of a suite: an encoder, a data set, a probe or fine-tuning, each as the suite's file declares it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from otoscope import bank as banks
from otoscope import datasets, encoders, probes
from otoscope.bank import Requirements
from otoscope.finetuning.recipe import Recipe
from otoscope.registry import UnknownNameError, unknown
from otoscope.results import FINETUNE
from otoscope.search import SearchSpec


@dataclass(frozen=True)
class Spec:
    """What to create, with which options, and the `label` that its results carry (its name by default)."""

    name: str
    label: str = ""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.label or self.name)


@dataclass(frozen=True)
class EncoderSpec(Spec):
    """An encoder of a suite."""

    def check(self) -> None:
        """Raise `UnknownNameError` or `TypeError` for a name or an option that nobody registered."""
        encoders.registry.check_options(self.name, self.options)


@dataclass(frozen=True)
class DatasetSpec:
    """A data set of a suite. `folds`: values of its option `fold`, one bank each; `shots`: clips per class, or all;
    `views`: of each clip of a few-shot draw (`train.mixed`), kept in a bank for each draw."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    folds: tuple[int | None, ...] = (None,)
    shots: int | None = None
    views: int = 0

    def created_with(self, fold: int | None) -> dict[str, Any]:
        """Options of the data set for this fold."""
        return dict(self.options) | ({} if fold is None else {"fold": fold})

    def check(self) -> None:
        """As `EncoderSpec.check`."""
        datasets.registry.check_options(self.name, self.created_with(self.folds[0]))


@dataclass(frozen=True)
class ProbeSpec(Spec):
    """A probe of a suite, which reads a bank. `layer`: as in `train.fit`; `lr`, `weight_decay`: where fixed, and so
    not searched."""

    layer: int | str | Sequence[int] | None = field(default=None, hash=False)
    lr: float | None = None
    weight_decay: float | None = None

    def check(self) -> None:
        """As `EncoderSpec.check`."""
        probes.registry.check_options(self.name, self.options)

    @property
    def requirements(self) -> Requirements:
        """What a bank must hold for it."""
        least = banks.requirements([self.name])
        return least if self.layer is None else least | Requirements("all", "pooled")

    def chosen_search(self, search: SearchSpec | None) -> SearchSpec | None:
        """The search of this probe.

        Parameters
        ----------
        search : the search of the suite.

        Returns
        -------
        `search`, or None for fewer than two trials, for a fixed learning rate or weight decay, and for a probe that is
        not trained by gradient.
        """
        fixed = self.lr is not None or self.weight_decay is not None
        if search is None or fixed or search.total < 2 or not self._by_gradient:
            return None
        return search

    def count_seeds(self, seeds: int) -> int:
        """Number of final runs, where the suite has `seeds`: one for a probe without gradient training."""
        return seeds if self._by_gradient else 1

    @property
    def _by_gradient(self) -> bool:
        """Whether the probe is trained by gradient."""
        return probes.solver_of(self.name, self.options) == "adamw"


@dataclass(frozen=True)
class FinetuneSpec(Spec):
    """Fine-tuning in the place of a probe; it reads clips and no bank.

    Its options are the fields of `train.recipe.Recipe`, and two more: `lrs`, learning rates of which validation chooses
    the best (instead of `lr`), and `seeds`, trainings with the best (default: the suite's).
    """

    def check(self) -> None:
        """Raise `TypeError` or `ValueError` for a recipe that cannot be meant."""
        known = {f.name for f in fields(Recipe)} | {"lrs", "seeds"}
        for option in self.options:
            if option not in known:
                raise TypeError(f"{FINETUNE}: {unknown('option', option, known)}")
        if "lrs" in self.options and ("lr" in self.options or not self.options["lrs"]):
            raise ValueError(f"{FINETUNE}: lrs lists the learning rates to choose from; give it, or lr, not both")
        if self.options.get("seeds", 1) < 1:
            raise ValueError(f"{FINETUNE}: seeds must be a whole number >= 1, found {self.options['seeds']}")
        if self.recipe.head not in probes.names():
            raise ValueError(f"{FINETUNE}: {unknown('head', self.recipe.head, probes.names())}")
        probes.registry.check_options(self.recipe.head, self.recipe.head_options)

    @cached_property
    def recipe(self) -> Recipe:
        """How to fine-tune, with the first learning rate."""
        own = {name: value for name, value in self.options.items() if name not in ("lrs", "seeds")}
        return Recipe(**own | ({"lr": self.options["lrs"][0]} if "lrs" in self.options else {}))

    @property
    def lrs(self) -> tuple[float, ...]:
        """Learning rates to choose from."""
        return tuple(self.options.get("lrs", (self.recipe.lr,)))

    def chosen_search(self, search: SearchSpec | None) -> SearchSpec | None:  # noqa: ARG002
        """The search among the learning rates in `lrs`; None for a single one. The search of the suite is not used."""
        return SearchSpec("list", {"settings": [{"lr": lr} for lr in self.lrs]}) if len(self.lrs) > 1 else None

    def count_seeds(self, seeds: int) -> int:
        """Number of final runs: the option `seeds`, or the number of seeds of the suite."""
        own: int = self.options.get("seeds", seeds)
        return own


def lack(spec: EncoderSpec | DatasetSpec | ProbeSpec | FinetuneSpec) -> str | None:
    """Why an entry cannot be had here, or None. Nothing is created.

    >>> lack(ProbeSpec("linear")), lack(ProbeSpec("sonar"))
    (None, 'not registered')
    >>> lack(FinetuneSpec("finetune", options={"epoch": 3}))[:54]
    "finetune: unknown option 'epoch'; did you mean 'epochs"
    """
    try:
        spec.check()
    except UnknownNameError:
        return "not registered"
    except (TypeError, ValueError) as error:
        return str(error)
    return None
