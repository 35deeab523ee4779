"""Learners: the trainable part of a run, one module alone or many of them as rows of one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate, groupby
from typing import Protocol

import torch
from torch import Tensor
from torch.func import stack_module_state

from otoscope.probes import Probe
from otoscope.train.fit import adamw
from otoscope.train.losses import Loss
from otoscope.types import Tokens

Batch = Callable[[tuple[int, ...]], tuple[Tokens, Tensor]]
"""Seeds -> tokens and targets of the clips that trials of these seeds see in this step, one seed after another."""


def can_stack(module: Probe) -> bool:
    """Whether modules like this one can be rows of a `StackedLearner`: declared, over one layer, without state or penalty."""
    plain = type(module).penalty is Probe.penalty and not any(True for _ in module.buffers())
    return module.stackable and module.shape.layers == 1 and plain


class Learner(Protocol):
    """`rows` modules that are trained together. `share` is the part of its learning rate that a step takes."""

    @property
    def rows(self) -> int:
        """Number of modules."""

    @property
    def asks(self) -> list[tuple[int, ...]]:
        """The batches that a step asks for, in order."""

    def step(self, batch: Batch, share: float) -> Tensor:
        """Descend on one batch; the losses before it, [rows]."""

    def logits(self, tokens: Tokens) -> Tensor:
        """Logits in eval mode, [rows, B, C]."""

    def remember(self, rows: Sequence[int]) -> None:
        """Of these modules, hold on to the state as it is now in place of what was remembered before."""

    def best(self, row: int) -> dict[str, Tensor]:
        """What was remembered of one module."""

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all modules but these, at least one; they are rows 0, 1, ... from now on."""


class SingleLearner:
    """Any probe by itself, with torch's AdamW and its own stream of random numbers."""

    rows = 1

    def __init__(self, module: Probe, random: Tensor, lr: float, weight_decay: float, seed: int, loss: Loss) -> None:
        self.module, self.random, self.lr, self.seed, self.loss = module, random, lr, seed, loss
        self.state: dict[str, Tensor] = {}
        self.optimiser = adamw(module, lr, weight_decay)

    @property
    def asks(self) -> list[tuple[int, ...]]:
        return [(self.seed,)]

    def step(self, batch: Batch, share: float) -> Tensor:
        tokens, targets = batch((self.seed,))
        self.module.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.lr * share
        with self._chance(tokens.x.device):
            loss = self.loss(self.module(tokens), targets)
            penalty = self.module.penalty()
            loss = loss if penalty is None else loss + penalty
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.detach()[None]

    def logits(self, tokens: Tokens) -> Tensor:
        self.module.eval()
        with torch.no_grad(), self._chance(tokens.x.device):
            out: Tensor = self.module(tokens)
        return out[None]

    def remember(self, rows: Sequence[int]) -> None:
        if rows:
            self.state = {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}

    def best(self, row: int) -> dict[str, Tensor]:  # noqa: ARG002
        return self.state

    def keep(self, rows: Sequence[int]) -> None:
        """There is one."""

    @contextmanager
    def _chance(self, device: torch.device) -> Iterator[None]:
        """Inside, torch's generators go on from where this module left them."""
        cuda = device if device.type == "cuda" else None
        with torch.random.fork_rng(devices=[] if cuda is None else [cuda]):
            restore_random(self.random, device)
            yield
            self.random = random_state(device)


def random_state(device: torch.device) -> Tensor:
    """State of torch's global generator for modules on this device."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def restore_random(state: Tensor, device: torch.device) -> None:
    """Go back to a `random_state`."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


class StackedLearner:
    """`can_stack` modules of one probe as rows of one: parameters [rows, ...], products of all rows at once.

    Rows with the same seed see the same batches and must be neighbours: they learn from a batch together. Rows of
    other seeds do so after them, or, where a probe reads pooled vectors, at once, each from its own clips.
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
        self.remembered = {name: p.clone() for name, p in self.parameters.items()}
        decayed = [name for name in self.parameters if not name.startswith(self.module.no_decay)]
        self.optimiser = RowwiseAdamW(self.parameters, lr, dict.fromkeys(decayed, weight_decay))

    @property
    def rows(self) -> int:
        """Number of modules."""
        return len(self.seeds)

    @property
    def asks(self) -> list[tuple[int, ...]]:
        return [seeds for _, seeds in self._groups()]

    def step(self, batch: Batch, share: float) -> Tensor:
        self.optimiser.advance(share)
        return torch.cat([self._learn(rows, *batch(seeds), len(seeds)) for rows, seeds in self._groups()])

    def logits(self, tokens: Tokens) -> Tensor:
        with torch.no_grad():
            return self.module.stacked_forward(self.parameters, tokens, 1)

    def remember(self, rows: Sequence[int]) -> None:
        for name, p in self.parameters.items():
            self.remembered[name][rows] = p[rows]

    def best(self, row: int) -> dict[str, Tensor]:
        return {name: p[row] for name, p in self.remembered.items()}

    def keep(self, rows: Sequence[int]) -> None:
        self.seeds = [self.seeds[row] for row in rows]
        self.parameters = {name: p[rows] for name, p in self.parameters.items()}
        self.remembered = {name: p[rows] for name, p in self.remembered.items()}
        self.optimiser.keep(rows, self.parameters)

    def _groups(self) -> list[tuple[slice, tuple[int, ...]]]:
        """Rows that learn together, and the seeds of their batches: one for all, or one for each."""
        if len(set(self.seeds)) > 1 and self.module.reads != "tokens":
            return [(slice(0, self.rows), tuple(self.seeds))]
        sizes = [len(list(same)) for _, same in groupby(self.seeds)]
        ends = list(accumulate(sizes))
        return [(slice(end - size, end), (self.seeds[end - 1],)) for size, end in zip(sizes, ends, strict=True)]

    def _learn(self, rows: slice, tokens: Tokens, targets: Tensor, sets: int) -> Tensor:
        """Losses of these rows on their clips, before a step of them."""
        own = {name: p[rows].requires_grad_() for name, p in self.parameters.items()}
        logits = self.module.stacked_forward(own, tokens, sets)
        losses = self.loss(logits, targets if sets == 1 else targets.view(sets, -1, targets.shape[1]))
        gradients = torch.autograd.grad(losses.sum(), list(own.values()), allow_unused=True)
        self.optimiser.apply(rows, dict(zip(own, gradients, strict=True)))
        return losses.detach()


class RowwiseAdamW:
    """AdamW (Loshchilov & Hutter, arXiv 1711.05101) with a learning rate and a weight decay for each row.

    parameters: name to [rows, ...], changed in place; lr [rows]; weight_decay: name to [rows], for those that decay. A
    step is `advance` and then `apply` for all rows, a part at a time. Row by row the same as torch's, to rounding; a
    parameter without gradient stays as it is.
    """

    def __init__(
        self, parameters: dict[str, Tensor], lr: Sequence[float], weight_decay: Mapping[str, Sequence[float]]
    ) -> None:
        self.parameters, self.count, self.beta1, self.beta2, self.eps = parameters, 0, 0.9, 0.999, 1e-8
        self.lr = torch.tensor(lr, dtype=torch.float64)
        self.decay = {name: torch.tensor(rows, dtype=torch.float64) for name, rows in weight_decay.items()}
        self.moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in parameters.items()}

    def keep(self, rows: Sequence[int], parameters: dict[str, Tensor]) -> None:
        """Go on with `parameters`, these rows of those so far, alone."""
        self.parameters, self.lr = parameters, self.lr[rows]
        self.decay = {name: decay[rows] for name, decay in self.decay.items()}
        self.moments = {name: (first[rows], second[rows]) for name, (first, second) in self.moments.items()}

    def advance(self, share: float) -> None:
        """The next step takes `share` of every learning rate."""
        self.count += 1
        rate, self.unbias = self.lr * share, math.sqrt(1 - self.beta2**self.count)
        self.kept = {name: _wide(1 - rate * decay, self.parameters[name]) for name, decay in self.decay.items()}
        stride = rate * self.unbias / (1 - self.beta1**self.count)
        self.stride = {name: _wide(stride, p) for name, p in self.parameters.items()}

    def apply(self, rows: slice, gradients: Mapping[str, Tensor | None]) -> None:
        """The step of these rows, whose gradients are [len(rows), ...]."""
        for name, gradient in gradients.items():
            if gradient is None:
                continue
            p, (first, second) = self.parameters[name][rows], (moment[rows] for moment in self.moments[name])
            first.lerp_(gradient, 1 - self.beta1)
            second.mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
            if name in self.kept:
                p.mul_(self.kept[name][rows])
            p.addcdiv_(first * self.stride[name][rows], second.sqrt().add_(self.eps * self.unbias), value=-1)


def _wide(rows: Tensor, like: Tensor) -> Tensor:
    """Numbers [rows] so that they multiply a parameter [rows, ...]."""
    return rows.to(like).view(-1, *[1] * (like.ndim - 1))
