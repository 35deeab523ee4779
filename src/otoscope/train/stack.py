"""Learners: the trainable part of a run, one module alone or many of them as rows of one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state

from otoscope.probes import Probe
from otoscope.train.fit import adamw
from otoscope.train.losses import Loss
from otoscope.types import Tokens

STACKABLE = ("abmilp", "ep", "linear", "mean", "mhca", "protobin", "protofloat")
"""Probes whose modules may be rows of a `Stack`; a test holds each of them equal to `fit`."""


def stackable(module: Probe) -> bool:
    """Whether modules like this one can be rows of a `Stack`: listed, over one layer, without state or chance."""
    return module.name in STACKABLE and module.shape.layers == 1 and not any(True for _ in module.buffers())


class Learner(Protocol):
    """`rows` modules that see batches together. `share` is the part of its learning rate that a step takes."""

    @property
    def rows(self) -> int:
        """Number of modules."""

    def step(self, tokens: Tokens, targets: Tensor, share: float) -> Tensor:
        """Descend on one batch; the losses before it, [rows]."""

    def logits(self, tokens: Tokens) -> Tensor:
        """Logits in eval mode, [rows, B, C]."""

    def state(self, row: int) -> dict[str, Tensor]:
        """A copy of the state of one module."""

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all modules but these, at least one; they are rows 0, 1, ... from now on."""


class Alone:
    """Any probe by itself, with torch's AdamW and its own stream of random numbers."""

    rows = 1

    def __init__(self, module: Probe, random: Tensor, lr: float, weight_decay: float, loss: Loss) -> None:
        self.module, self.random, self.lr, self.loss = module, random, lr, loss
        self.optimiser = adamw(module, lr, weight_decay)

    def step(self, tokens: Tokens, targets: Tensor, share: float) -> Tensor:
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

    def state(self, row: int) -> dict[str, Tensor]:  # noqa: ARG002
        return {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}

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


class Stack:
    """`stackable` modules of one probe as rows of one: parameters [rows, ...], products of all rows at once.

    A batch holds the same clips for every row, or, where rows have different `seeds`, one after another the clips of
    each row.
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
        self.parameters, _ = stack_module_state(list(modules))
        decay = {n: [0.0 if n.startswith(self.module.no_decay) else w for w in weight_decay] for n in self.parameters}
        self.optimiser = RowwiseAdamW(self.parameters, lr, decay)

    @property
    def rows(self) -> int:
        """Number of modules."""
        return len(self.seeds)

    def step(self, tokens: Tokens, targets: Tensor, share: float) -> Tensor:
        apart = len(set(self.seeds)) > 1
        loss = torch.vmap(self.loss, in_dims=(0, 0 if apart else None))
        losses = loss(self._forward(tokens, apart), self._by_row(targets) if apart else targets)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        self.optimiser.step(share)
        return losses.detach()

    def logits(self, tokens: Tokens) -> Tensor:
        with torch.no_grad():
            return self._forward(tokens, False)

    def state(self, row: int) -> dict[str, Tensor]:
        return {name: p[row].detach().clone() for name, p in self.parameters.items()}

    def keep(self, rows: Sequence[int]) -> None:
        self.seeds = [self.seeds[row] for row in rows]
        self.parameters = {name: p[rows].detach().requires_grad_() for name, p in self.parameters.items()}
        self.optimiser.keep(rows, self.parameters)

    def _forward(self, tokens: Tokens, apart: bool) -> Tensor:
        """[rows, B, C]; tokens [B], or with `apart` [rows * B] without padding."""
        if not apart:
            shared: Callable[[dict[str, Tensor]], Tensor] = torch.vmap(
                lambda p: functional_call(self.module, p, (tokens,))
            )
            return shared(self.parameters)

        def own(parameters: dict[str, Tensor], x: Tensor, cls: Tensor | None) -> Tensor:
            out: Tensor = functional_call(self.module, parameters, (Tokens(x, None, cls),))
            return out

        x, cls = self._by_row(tokens.x), None if tokens.cls is None else self._by_row(tokens.cls)
        logits: Tensor = torch.vmap(own, in_dims=(0, 0, None if cls is None else 0))(self.parameters, x, cls)
        return logits

    def _by_row(self, t: Tensor) -> Tensor:
        return t.reshape(self.rows, -1, *t.shape[1:])


class RowwiseAdamW:
    """AdamW (Loshchilov & Hutter, arXiv 1711.05101) with a learning rate and a weight decay for each row.

    parameters: name to [rows, ...]; lr [rows]; weight_decay: name to [rows]. Row by row the same as torch's, to
    rounding; a parameter that got no gradient stays as it is. `step` forgets the gradients.
    """

    def __init__(
        self, parameters: dict[str, Tensor], lr: Sequence[float], weight_decay: dict[str, list[float]]
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

    @torch.no_grad()
    def step(self, share: float) -> None:
        """One step with `share` of every learning rate."""
        self.count += 1
        shrink, unbias = 1 - self.beta1**self.count, math.sqrt(1 - self.beta2**self.count)
        for name, p in self.parameters.items():
            if p.grad is None:
                continue
            rate = self.lr * share
            kept, stride = (t.to(p).view(-1, *[1] * (p.ndim - 1)) for t in (1 - rate * self.decay[name], rate / shrink))
            first, second = self.moments[name]
            first.lerp_(p.grad, 1 - self.beta1)
            second.mul_(self.beta2).addcmul_(p.grad, p.grad, value=1 - self.beta2)
            p.mul_(kept).sub_(first / second.sqrt().div_(unbias).add_(self.eps) * stride)
            p.grad = None
