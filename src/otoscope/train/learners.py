"""Learners: the modules that the training loop trains, one module by itself or many as rows of stacked parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate, groupby
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import stack_module_state

from otoscope.probes import Probe
from otoscope.train.losses import Loss
from otoscope.train.optim import RowwiseAdamW
from otoscope.train.rng import RandomStream

Batch = Sequence[tuple[Any, Tensor]]
"""The clips of one step: (inputs of a module, targets [b, C]) for each micro-batch. Their gradients are accumulated."""
Seeds = tuple[int, ...]
"""Seeds of trials. A batch for several seeds contains one set of clips for each seed, one after another."""
BatchFor = Callable[[Seeds], Batch]
"""Seeds -> the batch of the current step for trials with these seeds."""


class Learner(Protocol):
    """One or several modules ("rows") that are trained together."""

    @property
    def rows(self) -> int:
        """Number of modules."""

    @property
    def batches_read(self) -> list[Seeds]:
        """The seeds of the batches that one call of `step` reads, in order."""

    def train(self) -> None:
        """Switch to training mode."""

    def eval(self) -> None:
        """Switch to evaluation mode."""

    def step(self, batch_for: BatchFor, lr_factor: float) -> Tensor:
        """Take one optimiser step.

        Parameters
        ----------
        batch_for : gives the batch for the seeds listed in `batches_read`.
        lr_factor : factor for every learning rate in this step.

        Returns
        -------
        float [rows]. The losses before the step.
        """

    def logits(self, inputs: Any) -> Tensor:
        """Logits of B clips without a gradient, float [rows, B, C]; call `eval` first."""

    def save_best(self, rows: Sequence[int]) -> None:
        """Store the current weights of these rows; they replace the weights stored before."""

    def best(self, row: int) -> dict[str, Tensor]:
        """The state dict that `save_best` stored last for a row."""

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only these rows, at least one, and number them from 0."""


class SingleLearner:
    """One module with an optimiser of torch.

    Parameters
    ----------
    module : maps the inputs of a micro-batch to logits [b, C].
    optimiser : its parameter groups hold the base learning rates.
    loss : logits [b, C] and targets [b, C] to the mean loss over the clips.
    seed : seed of the order of clips.
    random : the module's own stream of random numbers; None to use torch's global generator as it is.
    penalty : gives a term that is added to the loss, or None.
    validated : the module that is validated and stored in place of `module`, such as an average of its weights.
    autocast : whether to compute steps in bfloat16 on CUDA.
    """

    rows = 1

    def __init__(
        self,
        module: nn.Module,
        optimiser: torch.optim.Optimizer,
        loss: Loss,
        *,
        seed: int = 0,
        random: RandomStream | None = None,
        penalty: Callable[[], Tensor | None] = lambda: None,
        validated: nn.Module | None = None,
        autocast: bool = False,
    ) -> None:
        self.module, self.optimiser, self.loss, self.random, self.penalty = module, optimiser, loss, random, penalty
        self.validated = module if validated is None else validated
        self._autocast = autocast and next(module.parameters()).device.type == "cuda"
        self.batches_read: list[Seeds] = [(seed,)]
        self.best_state: dict[str, Tensor] = {}
        self._base_lr: list[float] = [group["lr"] for group in optimiser.param_groups]

    def train(self) -> None:
        """Switch the module to training mode."""
        self.module.train()

    def eval(self) -> None:
        """Switch the module that is validated to evaluation mode."""
        self.validated.eval()

    def step(self, batch_for: BatchFor, lr_factor: float) -> Tensor:
        """See `Learner.step`."""
        (seeds,) = self.batches_read
        batch = batch_for(seeds)
        clips = sum(len(targets) for _, targets in batch)
        for group, lr in zip(self.optimiser.param_groups, self._base_lr, strict=True):
            group["lr"] = lr * lr_factor
        with self._random_numbers():
            self.optimiser.zero_grad()
            losses = [self._backward(inputs, targets, len(targets) / clips) for inputs, targets in batch]
        self.optimiser.step()
        return sum(losses[1:], losses[0])[None]

    def logits(self, inputs: Any) -> Tensor:
        """See `Learner.logits`."""
        with torch.no_grad(), self._random_numbers():
            logits: Tensor = self.validated(inputs)
        return logits[None]

    def save_best(self, rows: Sequence[int]) -> None:
        """See `Learner.save_best`."""
        if rows:
            self.best_state = {name: t.detach().clone() for name, t in self.validated.state_dict().items()}

    def best(self, row: int) -> dict[str, Tensor]:  # noqa: ARG002
        """See `Learner.best`."""
        return self.best_state

    def keep(self, rows: Sequence[int]) -> None:
        """Does nothing, because there is only one row."""

    def _backward(self, inputs: Any, targets: Tensor, weight: float) -> Tensor:
        """Accumulate the gradient of the loss of a micro-batch times `weight`. Returns the weighted loss."""
        if self._autocast:
            with torch.autocast("cuda", torch.bfloat16):
                logits = self.module(inputs)
        else:
            logits = self.module(inputs)
        loss, penalty = self.loss(logits, targets), self.penalty()
        loss = loss if penalty is None else loss + penalty
        loss = loss if weight == 1 else loss * weight
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _random_numbers(self) -> AbstractContextManager[None]:
        return nullcontext() if self.random is None else self.random.active()


def can_stack(module: Probe) -> bool:
    """Whether probes like this one can be rows of a `StackedLearner`.

    Parameters
    ----------
    module : a probe. It can be stacked if its class declares `stackable`, it reads one layer, and it has neither
        buffers nor a penalty.
    """
    plain = type(module).penalty is Probe.penalty and not any(True for _ in module.buffers())
    return module.stackable and module.shape.layers == 1 and plain


class StackedLearner:
    """Several probes of the same kind as rows of stacked parameters [rows, ...], computed together.

    Rows with the same seed read the same batches and must be neighbours; they share one forward pass. Rows of different
    seeds are computed one seed after another, or at once where the probe reads pooled vectors.

    Parameters
    ----------
    modules : probes for which `can_stack` holds.
    lr, weight_decay, seeds : one value for each probe.
    loss : logits [rows, b, C] and targets to losses [rows].
    """

    def __init__(
        self,
        modules: Sequence[Probe],
        lr: Sequence[float],
        weight_decay: Sequence[float],
        seeds: Sequence[int],
        loss: Loss,
    ) -> None:
        self.module, self.seeds, self.loss = modules[0], list(seeds), loss
        self.parameters = {name: p.detach() for name, p in stack_module_state(list(modules))[0].items()}
        self.best_parameters = {name: p.clone() for name, p in self.parameters.items()}
        decayed = [name for name in self.parameters if not name.startswith(self.module.no_decay)]
        self.optimiser = RowwiseAdamW(self.parameters, lr, dict.fromkeys(decayed, weight_decay))

    @property
    def rows(self) -> int:
        """Number of probes."""
        return len(self.seeds)

    @property
    def batches_read(self) -> list[Seeds]:
        """See `Learner.batches_read`."""
        return [seeds for _, seeds in self._parts()]

    def train(self) -> None:
        """Does nothing, because a probe that can be stacked behaves the same in both modes."""

    def eval(self) -> None:
        """Does nothing, because a probe that can be stacked behaves the same in both modes."""

    def step(self, batch_for: BatchFor, lr_factor: float) -> Tensor:
        """See `Learner.step`."""
        self.optimiser.advance(lr_factor)
        return torch.cat([self._step(rows, batch_for(seeds), len(seeds)) for rows, seeds in self._parts()])

    def logits(self, inputs: Any) -> Tensor:
        """See `Learner.logits`."""
        with torch.no_grad():
            return self.module.stacked_forward(self.parameters, inputs, 1)

    def save_best(self, rows: Sequence[int]) -> None:
        """See `Learner.save_best`."""
        for name, p in self.parameters.items():
            self.best_parameters[name][rows] = p[rows]

    def best(self, row: int) -> dict[str, Tensor]:
        """See `Learner.best`."""
        return {name: p[row] for name, p in self.best_parameters.items()}

    def keep(self, rows: Sequence[int]) -> None:
        """See `Learner.keep`."""
        self.seeds = [self.seeds[row] for row in rows]
        self.parameters = {name: p[rows] for name, p in self.parameters.items()}
        self.best_parameters = {name: p[rows] for name, p in self.best_parameters.items()}
        self.optimiser.keep(rows, self.parameters)

    def _parts(self) -> list[tuple[slice, Seeds]]:
        """Slices of rows that are computed together. The seeds of a slice are one common seed or one for each row."""
        if len(set(self.seeds)) > 1 and self.module.reads != "tokens":
            return [(slice(0, self.rows), tuple(self.seeds))]
        sizes = [len(list(same)) for _, same in groupby(self.seeds)]
        ends = list(accumulate(sizes))
        return [(slice(end - size, end), (self.seeds[end - 1],)) for size, end in zip(sizes, ends, strict=True)]

    def _step(self, rows: slice, batch: Batch, sets: int) -> Tensor:
        """Update these rows on a batch with `sets` sets of clips. Returns their losses before the update."""
        ((inputs, targets),) = batch
        parameters: Mapping[str, Tensor] = {name: p[rows].requires_grad_() for name, p in self.parameters.items()}
        logits = self.module.stacked_forward(parameters, inputs, sets)
        losses = self.loss(logits, targets if sets == 1 else targets.view(sets, -1, targets.shape[1]))
        gradients = torch.autograd.grad(losses.sum(), list(parameters.values()), allow_unused=True)
        self.optimiser.apply(rows, dict(zip(parameters, gradients, strict=True)))
        return losses.detach()
