"""A trained probe: what was fitted, how, and how to use, save and load it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from otoscope import probes
from otoscope.bank import BankSplit
from otoscope.files import replacing
from otoscope.probes import Probe
from otoscope.results import Protocol
from otoscope.train import loader
from otoscope.types import Task, Tokens, TokenShape

_FORMAT = 2
_KEPT = (
    *("probe", "options", "task", "shape", "layer", "seed", "protocol", "lr", "weight_decay"),
    *("history", "validation", "train_seconds"),
)


@dataclass(frozen=True, eq=False)
class FittedProbe:
    """A probe after training.

    module: the best epoch's probe, in eval mode; probe, options: how it was created; shape: the tokens it was offered,
    of which it reads the layers `layer`; protocol: what was decided before the training, except the seed; lr,
    weight_decay: those it was trained with, None where nothing is trained by gradient; history: one dict per epoch;
    validation: the headline metric of the best epoch on the validation split; train_seconds: wall-clock time of `fit`.
    """

    module: Probe
    probe: str
    options: dict[str, Any]
    task: Task
    shape: TokenShape
    layer: tuple[int, ...]
    seed: int
    protocol: Protocol
    lr: float | None
    weight_decay: float | None
    history: list[dict[str, float]]
    validation: float
    train_seconds: float

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self.module.parameters() if p.requires_grad)

    def predict_logits(self, source: Tokens | BankSplit, batch_size: int = 64) -> Tensor:
        """Logits of every clip of `source`, float32 [n, C] on the CPU.

        `source` is a split of a bank, or tokens [n, L, T, F, D] with the layers that `shape` counts. `ValueError` if
        they are of another shape than those the probe was trained on.
        """
        if isinstance(source, Tokens):
            self._check(source)
            serve = loader.tokens_loader(source, self.module.reads, self.layer, normalise=self.module.normalises_tokens)
        else:
            if source.shape != self.shape:
                raise ValueError(f"probe {self.probe!r} was trained on {self.shape}, this split holds {source.shape}")
            serve = loader.split_loader(source, self.module.reads, self.layer, normalise=self.module.normalises_tokens)
        return predict(self.module, serve, len(source), batch_size)

    def _check(self, tokens: Tokens) -> None:
        _, layers, _, freq, dim = tokens.x.shape
        pooled_is_fine = self.module.reads != "tokens" and freq == 1
        same_grid = freq == self.shape.freq or pooled_is_fine
        if (layers, dim) != (self.shape.layers, self.shape.dim) or not same_grid:
            raise ValueError(
                f"probe {self.probe!r} was trained on {self.shape}, found {list(tokens.x.shape)} [B, L, T, F, D]; "
                "Tokens.select_layers(...) chooses the layers that the bank held"
            )
        if self.shape.has_cls and tokens.cls is None:
            raise ValueError(f"probe {self.probe!r} was trained on tokens with a cls token, these have none")

    def save(self, folder: str | Path) -> None:
        """Write `probe.safetensors` (weights) and `probe.json` (all else) into `folder`, each whole or not at all."""
        folder = Path(folder)
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.module.state_dict().items()}
        with replacing(folder / "probe.safetensors") as temporary:
            save_file(state, temporary)
        held = {name: getattr(self, name) for name in _KEPT} | {"format": _FORMAT}
        held |= {"task": asdict(self.task), "shape": asdict(self.shape), "protocol": self.protocol.to_json()}
        with replacing(folder / "probe.json") as temporary:
            temporary.write_text(json.dumps(held, indent=1, sort_keys=True) + "\n")


def load(folder: str | Path) -> FittedProbe:
    """Read what `FittedProbe.save` wrote; the logits are equal to the bit.

    `FileNotFoundError` where nothing was saved; `ValueError` if the weights do not fit the probe that the json names.
    """
    folder = Path(folder)
    if not (folder / "probe.json").is_file():
        raise FileNotFoundError(f"no saved probe in {folder} (probe.json is not there); FittedProbe.save writes one")
    held = json.loads((folder / "probe.json").read_text())
    if held.pop("format", None) != _FORMAT or set(held) != set(_KEPT):
        raise ValueError(f"{folder / 'probe.json'} was written by another version of otoscope; fit the probe again")
    task = Task(tuple(held["task"]["classes"]), held["task"]["kind"], held["task"]["metric"])
    shape, layer = TokenShape(**held["shape"]), tuple(held["layer"])
    module = probes.create(held["probe"], chosen_shape(shape, layer), len(task.classes), **held["options"])
    try:
        module.load_state_dict(load_file(folder / "probe.safetensors"))
    except RuntimeError as error:
        raise ValueError(f"the weights in {folder} do not fit the probe that probe.json names: {error}") from error
    protocol = Protocol.from_json(held["protocol"])
    decided = {"task": task, "shape": shape, "layer": layer, "protocol": protocol}
    return FittedProbe(**(held | {"module": module.eval()} | decided))


def chosen_shape(shape: TokenShape, layer: Sequence[int]) -> TokenShape:
    """The shape of tokens of `shape` once only these layers are left."""
    return TokenShape(len(layer), shape.freq, shape.dim, shape.has_cls, shape.frame_rate)


def predict(module: Probe, serve: loader.Loader, n: int, batch_size: int) -> Tensor:
    """Logits of clips 0 .. n-1, float32 on the CPU, in eval mode; the module's mode is restored."""
    device = next((t.device for t in chain(module.parameters(), module.buffers())), torch.device("cpu"))
    training = module.training
    module.eval()
    try:
        with torch.no_grad(), loader.prefetch(serve, torch.split(torch.arange(n), batch_size)) as served:
            batches = [module(tokens.to(device)).float().cpu() for tokens in served]
    finally:
        module.train(training)
    return torch.cat(batches)
