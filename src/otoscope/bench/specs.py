"""Specifications of the encoders, data sets, probes and fine-tuning that a suite compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from otoscope import bank as banks
from otoscope import datasets, encoders, probes
from otoscope.bank import Requirements
from otoscope.datasets import Fold
from otoscope.datasets.folds import declared_folds
from otoscope.finetuning.recipe import Recipe, is_count, is_number
from otoscope.registry import UnknownNameError, unknown
from otoscope.results import FINETUNE
from otoscope.search import SearchSpec


@dataclass(frozen=True)
class Spec:
    """An encoder, data set or probe of a suite, by its registered name.

    Parameters
    ----------
    name : registered name.
    label : name in the results; "" takes `name`.
    options : options of the constructor.
    """

    name: str
    label: str = ""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.label or self.name)


@dataclass(frozen=True)
class EncoderSpec(Spec):
    """An encoder of a suite.

    A name with a text after a colon, such as "hf:openai/whisper-tiny", is replaced by the registered name and options.

    Parameters
    ----------
    name, label, options : as in `Spec`; for a name with a text, the label "" takes `otoscope.encoders.label`.
    control_of : label of the encoder whose control this one is; None for other encoders. `controls.with_controls` sets
        it; it is no key of a suite file.
    added : whether this is a control that the suite does not list. Fine-tuning is not run on it.
    """

    control_of: str | None = None
    added: bool = False

    def __post_init__(self) -> None:
        name, options = encoders.locate(self.name, self.options)
        if name != self.name:
            object.__setattr__(self, "label", self.label or encoders.label(name, options))
            object.__setattr__(self, "name", name)
            object.__setattr__(self, "options", options)
        super().__post_init__()

    def check(self) -> None:
        """Check name and options.

        Raises
        ------
        UnknownNameError : for a name that is not registered.
        TypeError : for an option that the encoder does not have.
        """
        encoders.registry.check_options(self.name, self.options)


@dataclass(frozen=True)
class DatasetSpec:
    """A data set of a suite.

    Parameters
    ----------
    name : registered name.
    options : options of the constructor.
    folds : values of the option `fold`; None for those that the data set declares (`Dataset.declared_folds`),
        which share a bank. A value of `fold` among the options is the only fold.
    shots : train clips per class of a few-shot draw; None for all clips.
    views : mixup views of each clip of a few-shot draw. Each draw has a bank of its views.
    allow_shared : whether the held-out split may have ids and audio files of other splits.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    folds: tuple[Fold, ...] | None = None
    shots: int | None = None
    views: int = 0
    allow_shared: bool = False

    def __post_init__(self) -> None:
        if self.folds is None and self.options.get("fold") is not None:
            object.__setattr__(self, "folds", (self.options["fold"],))
            others = {name: value for name, value in self.options.items() if name != "fold"}
            object.__setattr__(self, "options", others)

    @cached_property
    def declared(self) -> tuple[Fold, ...]:
        """The folds that the data set declares; empty for one without folds, and for one that cannot be read."""
        return declared_folds(self.name, self.options)

    @property
    def chosen_folds(self) -> tuple[Fold, ...]:
        """The folds to run, spelt as the data set declares them; (None,) for a data set without folds."""
        spelt: dict[str, Fold] = {str(fold): fold for fold in self.declared}
        return tuple(spelt.get(str(fold), fold) for fold in self.folds or self.declared) or (None,)

    @property
    def fold_units(self) -> list[tuple[Fold, ...]]:
        """The folds to run, in groups that share a bank: all of a data set that declares them, else each alone."""
        return [self.chosen_folds] if self.declared else [(fold,) for fold in self.chosen_folds]

    def options_of_fold(self, fold: Fold) -> dict[str, Any]:
        """The options with which the data set is created for a fold."""
        return dict(self.options) | ({} if fold is None else {"fold": fold})

    def check(self) -> None:
        """Check name, options and folds; raises as `EncoderSpec.check` does, and `ValueError` for an unknown fold."""
        datasets.registry.check_options(self.name, self.options_of_fold(self.chosen_folds[0]))
        for fold in self.chosen_folds if self.declared else ():
            if fold not in self.declared:
                raise ValueError(f"data set {self.name!r}: {unknown('fold', str(fold), map(str, self.declared))}")


@dataclass(frozen=True)
class ProbeSpec(Spec):
    """A probe of a suite.

    Parameters
    ----------
    name, label, options : as in `Spec`.
    layer : layers of the bank to read, as `TrainingConfig.layers`.
    lr, weight_decay : fixed values. None searches them if the suite has a search, and otherwise takes the middle of the
        probe's range.
    standardise : whether tokens are standardised, see `TrainingConfig`; None takes the value of the suite.
    resolve_head : whether the last linear layer is solved exactly after the training, see `TrainingConfig`.
    """

    layer: int | str | Sequence[int] | None = field(default=None, hash=False)
    lr: float | None = None
    weight_decay: float | None = None
    resolve_head: bool = True
    standardise: bool | None = None

    def check(self) -> None:
        """Check name and options; raises as `EncoderSpec.check` does.

        Raises
        ------
        ValueError : for a frame probe, for a learning rate that is not above 0, a weight decay below 0, or either of
            them for a probe that is not trained by gradient.
        """
        probes.registry.check_options(self.name, self.options)
        if issubclass(probes.registry.get(self.name), probes.FrameProbe):
            raise ValueError(
                f"probe {self.name!r} emits frame logits, but suites, `otoscope probe` and `otoscope layers` evaluate "
                "predictions for clips; choose a clip probe, or use otoscope.fit('linear-frame', bank) and "
                "otoscope.metrics.evaluate_frames"
            )
        if (self.lr, self.weight_decay) != (None, None) and not self._by_gradient:
            choice = ", or choose the option solver='adamw'" if "solver" in probes.registry.options(self.name) else ""
            raise ValueError(
                f"probe {self.name!r} is not trained by gradient and has no learning rate or weight decay, found "
                f"lr={self.lr} and weight_decay={self.weight_decay}; leave both out{choice}"
            )
        if self.lr is not None and not (is_number(self.lr) and self.lr > 0):
            raise ValueError(f"probe {self.name!r}: lr must be a number above 0, found {self.lr!r}")
        if self.weight_decay is not None and not (is_number(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"probe {self.name!r}: weight_decay must be a number >= 0, found {self.weight_decay!r}")

    @property
    def requirements(self) -> Requirements:
        """What the bank must contain."""
        minimum = banks.requirements([self.name])
        return minimum if self.layer is None else minimum | Requirements("all", "pooled")

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
        """Number of final runs in a suite with `seeds`: one for a probe that is not trained by gradient."""
        return seeds if self._by_gradient else 1

    @property
    def _by_gradient(self) -> bool:
        return probes.solver_of(self.name, self.options) == "adamw"


@dataclass(frozen=True)
class FinetuneSpec(Spec):
    """Fine-tuning of the whole encoder, listed among the probes of a suite. It reads clips and no bank.

    Parameters
    ----------
    name, label : as in `Spec`.
    options : fields of `Recipe`; `lrs`, learning rates to search instead of using `lr`; `seeds`,
        final runs (default: those of the suite).
    """

    def check(self) -> None:
        """Check the options.

        Raises
        ------
        TypeError : for an option that does not exist.
        ValueError : for a value outside its range.
        """
        known = {f.name for f in fields(Recipe)} | {"lrs", "seeds"}
        for option in self.options:
            if option not in known:
                raise TypeError(f"{FINETUNE}: {unknown('option', option, known)}")
        if "lrs" in self.options:
            self._check_rates(self.options["lrs"])
        elif isinstance(lr := self.options.get("lr"), list | tuple):
            raise ValueError(f"{FINETUNE}: lr is one number, found {lr!r}; lrs is the list of those to choose from")
        if not is_count(seeds := self.options.get("seeds", 1)) or seeds < 1:
            raise ValueError(f"{FINETUNE}: seeds must be a whole number >= 1, found {seeds!r}")
        try:
            self.recipe.check_head()
        except ValueError as error:
            raise ValueError(f"{FINETUNE}: {error}") from error

    def _check_rates(self, lrs: object) -> None:
        """Raise `ValueError` unless the option `lrs` is a list of learning rates, without the option `lr` beside it."""
        if "lr" in self.options:
            raise ValueError(f"{FINETUNE}: give either lrs, the learning rates to choose from, or lr, not both")
        if not isinstance(lrs, list | tuple) or not lrs or not all(is_number(lr) and lr > 0 for lr in lrs):
            raise ValueError(f"{FINETUNE}: lrs must be a list of at least one learning rate above 0, found {lrs!r}")

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe, with the first learning rate."""
        values = {name: value for name, value in self.options.items() if name not in ("lrs", "seeds")}
        return Recipe(**values | ({"lr": self.options["lrs"][0]} if "lrs" in self.options else {}))

    @property
    def lrs(self) -> tuple[float, ...]:
        """Learning rates to choose from."""
        return tuple(self.options.get("lrs", (self.recipe.lr,)))

    def chosen_search(self, search: SearchSpec | None) -> SearchSpec | None:  # noqa: ARG002
        """The search among the learning rates in `lrs`; None for a single one. The search of the suite is not used."""
        return SearchSpec("list", {"settings": [{"lr": lr} for lr in self.lrs]}) if len(self.lrs) > 1 else None

    def count_seeds(self, seeds: int) -> int:
        """Number of final runs: the option `seeds`, or the number of seeds of the suite."""
        count: int = self.options.get("seeds", seeds)
        return count


def unavailable_reason(spec: EncoderSpec | DatasetSpec | ProbeSpec | FinetuneSpec) -> str | None:
    """The reason why a part of a suite cannot be created on this machine. Nothing is created.

    Parameters
    ----------
    spec : the part of the suite.

    Returns
    -------
    The reason; None if name and options are known, and the weights of an encoder are not known to be missing.

    Examples
    --------
    >>> unavailable_reason(ProbeSpec("linear")), unavailable_reason(ProbeSpec("sonar"))
    (None, 'not registered; a plug-in is loaded with --plugin FILE')
    >>> unavailable_reason(FinetuneSpec("finetune", options={"epoch": 3}))[:54]
    "finetune: unknown option 'epoch'; did you mean 'epochs"
    """
    try:
        spec.check()
        if isinstance(spec, EncoderSpec):
            encoders.registry.get(spec.name).check_weights(spec.options)
    except UnknownNameError as error:
        return str(error) if ":" in spec.name else "not registered; a plug-in is loaded with --plugin FILE"
    except (TypeError, ValueError, FileNotFoundError) as error:
        return str(error)
    return None
