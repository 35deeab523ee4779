"""A trained probe: what was fitted, how, and how to use, save and load it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from otoscope import metrics, probes
from otoscope.bank import Bank, BankSplit
from otoscope.files import json_number, json_text, replacing
from otoscope.probes import FixedFeatureBase, Probe
from otoscope.results import Protocol
from otoscope.results.convergence import Reasons
from otoscope.train._saved import FORMAT, SAVED, SAVED_LATER, check_size, read_saved, read_tensors
from otoscope.train._task import task_for
from otoscope.train.config import TrainingConfig
from otoscope.train.convergence import head_reasons, training_reasons
from otoscope.train.exact import ExactHead
from otoscope.train.loader import Loader, prefetch, split_loader, tokens_loader
from otoscope.train.shipping import HeadDtype, pack, unpack
from otoscope.train.standardise import Standardiser, take_standardiser
from otoscope.types import Task, Tokens, TokenShape


@dataclass(frozen=True, eq=False)
class FittedProbe:
    """A probe after training.

    Parameters
    ----------
    module : the probe of the best epoch, in evaluation mode on the CPU.
    probe, options : registered name and options that the probe was created with.
    task : classes and metric of the data set; for a frame probe, those of its time steps (several labels, mAP).
    shape : shape of the tokens of the bank, with all its layers.
    config : the configuration of the training, with every default replaced by the value that was used; `layers` are
        indices into the layers of the bank. `lr` and `weight_decay` are None for a probe without gradient training.
    protocol : everything that decides the training, apart from the seed.
    history : one row per epoch: `epoch`, `loss` (with gradient training) and `validation`. For an exact head, one row
        per penalty: `penalty` and `validation`, the chosen penalty last.
    validation : main score on the validation split, of the best epoch or of the exact head.
    train_seconds : wall-clock time of the training.
    standardiser : standardises the tokens before `module` reads them; None where `module` reads tokens as they are, or
        where the standardisation is a part of its weights (`Probe.fold`).
    not_converged : reasons why the training has not converged (`otoscope.train.convergence`); empty if it has
        converged, None if that is not known, as for probes that an older version saved.
    """

    module: Probe
    probe: str
    options: dict[str, Any]
    task: Task
    shape: TokenShape
    config: TrainingConfig
    protocol: Protocol
    history: list[dict[str, float]]
    validation: float
    train_seconds: float
    standardiser: Standardiser | None = None
    not_converged: Reasons | None = None

    @property
    def seed(self) -> int:
        """Seed of the training."""
        return self.config.seed

    @property
    def lr(self) -> float | None:
        """Learning rate that was used; None for a probe without gradient training."""
        return self.config.lr

    @property
    def weight_decay(self) -> float | None:
        """Weight decay that was used; None for a probe without gradient training."""
        return self.config.weight_decay

    @property
    def epochs(self) -> int | None:
        """Number of epochs of the training; None for a probe without gradient training."""
        return None if self.protocol.training is None else self.config.epochs

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers of the bank that the probe reads."""
        return layers_of(self.config)

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self.module.parameters() if p.requires_grad)

    def predict_logits(self, source: Tokens | BankSplit, batch_size: int = 64) -> Tensor:
        """Logits of every clip.

        Parameters
        ----------
        source : a split of a bank, or tokens [n, L, T, F, D] with the layers that `shape` counts.
        batch_size : number of clips per batch.

        Returns
        -------
        float32 [n, C], or [n, T, C] for a frame probe, whose logits of padded steps are arbitrary. On the CPU.

        Raises
        ------
        ValueError : if the tokens have another shape than those the probe was trained on.
        """
        return predict(self.module, self.loader(source), len(source), batch_size)

    def loader(self, source: Tokens | BankSplit) -> Loader:
        """A loader of the tokens that `module` reads: layers selected, tokens pooled, standardised and normalised.

        Parameters
        ----------
        source : as for `predict_logits`, which raises the same errors.

        Returns
        -------
        Loader. Clip indices int64 [B] to the tokens of these clips.
        """
        module, standardiser, normalise = self.module, self.standardiser, self.module.normalises_tokens
        if isinstance(source, Tokens):
            self._check(source)
            return tokens_loader(source, module.reads, self.layers, standardiser=standardiser, normalise=normalise)
        if source.shape != self.shape:
            raise ValueError(f"probe {self.probe!r} was trained on {self.shape}, this split holds {source.shape}")
        return split_loader(
            source, module.reads, self.layers, standardiser=standardiser, normalise=normalise, in_memory=0
        )

    def _check(self, tokens: Tokens) -> None:
        _, layers, _, freq, dim = tokens.x.shape
        needs_no_grid = self.module.reads != "tokens" and freq == 1
        same_grid = freq == self.shape.freq or needs_no_grid
        if (layers, dim) != (self.shape.layers, self.shape.dim) or not same_grid:
            raise ValueError(
                f"probe {self.probe!r} was trained on {self.shape}, found {list(tokens.x.shape)} [B, L, T, F, D]; "
                "Tokens.select_layers(...) selects the layers of the bank"
            )
        if self.shape.has_cls and tokens.cls is None:
            raise ValueError(f"probe {self.probe!r} was trained on tokens with a cls token, these have none")

    def save(self, folder: str | Path, *, head_dtype: HeadDtype = "float32") -> None:
        """Write the probe to a folder, in few bytes (`Probe.shipped_state`); `load` reads it.

        Parameters
        ----------
        folder : the folder. The files `probe.safetensors` (weights) and `probe.json` (everything else) are written,
            each atomically.
        head_dtype : "float32", "float16" or "int8". Dtype of the weights of the last linear layer. The loaded probe
            gives bitwise equal logits with "float32", and those of rounded weights otherwise (`shipping.pack`).

        Raises
        ------
        ValueError : for another dtype than float32 if the probe has no last linear layer, or if a weight overflows.
        """
        folder, state = Path(folder), pack(self.module, head_dtype)
        state |= self.standardiser.state() if self.standardiser else {}
        with replacing(folder / "probe.safetensors") as temporary:
            save_file(state, temporary)
        device = None if self.config.device is None else str(self.config.device)
        saved = {name: getattr(self, name) for name in (*SAVED, *SAVED_LATER)} | {"format": FORMAT}
        saved |= {"config": asdict(self.config) | {"device": device}, "protocol": self.protocol.to_json()}
        saved |= {"task": asdict(self.task), "shape": asdict(self.shape)}
        with replacing(folder / "probe.json") as temporary:
            temporary.write_text(json_text(saved, sort_keys=True) + "\n")


def fitted_on(
    bank: Bank,
    module: Probe,
    protocol: Protocol,
    config: TrainingConfig,
    history: list[dict[str, float]],
    train_seconds: float,
    standardiser: Standardiser | None,
    head: ExactHead | None = None,
) -> FittedProbe:
    """The `FittedProbe` of a finished training. The standardisation is folded into its weights where that is possible.

    Parameters
    ----------
    bank : the bank of the training.
    module, protocol, config, history, train_seconds : fields of `FittedProbe`.
    standardiser : standardised the tokens of the training; None for no standardisation.
    head : the exact head of the probe; None if its head was trained by gradient, or if it has none.
    """
    module = module.cpu().eval()
    folded = standardiser is not None and module.fold(standardiser.mean, standardiser.scale)
    task = task_for(module, bank.task)
    sort_key = metrics.main_metric(task).sort_key
    trained = () if head and isinstance(module, FixedFeatureBase) else training_reasons(history, sort_key)
    return FittedProbe(
        module=module,
        probe=protocol.probe,
        options=dict(protocol.options),
        task=task,
        shape=bank.shape,
        config=config,
        protocol=protocol,
        history=history,
        validation=head.validation if head else max((row["validation"] for row in history), key=sort_key),
        train_seconds=train_seconds,
        standardiser=None if folded else standardiser,
        not_converged=(*trained, *(head_reasons(head, sort_key) if head else ())),
    )


def load(folder: str | Path) -> FittedProbe:
    """Read a probe that `FittedProbe.save` wrote. Its logits are bitwise equal, unless its head was rounded.

    Parameters
    ----------
    folder : the folder that was given to `FittedProbe.save`.

    Raises
    ------
    FileNotFoundError : if no probe was saved there.
    ValueError : if another version of otoscope wrote it, or the weights do not belong to the probe in `probe.json`.
    """
    folder = Path(folder)
    saved = read_saved(folder)
    task = Task(tuple(saved["task"]["classes"]), saved["task"]["kind"], saved["task"]["metric"])
    shape = TokenShape(**saved["shape"])
    config = TrainingConfig(**saved["config"] | {"layers": tuple(saved["config"]["layers"])})
    layers = chosen_shape(shape, layers_of(config))
    check_size(folder, lambda: probes.create(saved["probe"], layers, len(task.classes), **saved["options"]))
    module = probes.create(saved["probe"], layers, len(task.classes), **saved["options"])
    saved["validation"] = json_number(saved["validation"])
    saved["history"] = [{name: json_number(value) for name, value in row.items()} for row in saved["history"]]
    state, standardiser = take_standardiser(read_tensors(folder))
    try:
        unpack(module, state)
    except RuntimeError as error:
        raise ValueError(f"the weights in {folder} do not fit the probe that probe.json names: {error}") from error
    loaded = {"task": task, "shape": shape, "config": config, "protocol": Protocol.from_json(saved["protocol"])}
    loaded |= {"not_converged": None if saved["not_converged"] is None else tuple(saved["not_converged"])}
    return FittedProbe(**saved | loaded, module=module.eval(), standardiser=standardiser)


def layers_of(config: TrainingConfig) -> tuple[int, ...]:
    """The layers of a configuration whose defaults were replaced by the values that were used."""
    assert isinstance(config.layers, tuple)
    return config.layers


def chosen_shape(shape: TokenShape, layers: Sequence[int]) -> TokenShape:
    """The shape of tokens after these layers were selected.

    Parameters
    ----------
    shape : shape of tokens with all layers.
    layers : indices of the layers.
    """
    return TokenShape(len(layers), shape.freq, shape.dim, shape.has_cls, shape.frame_rate)


def predict(module: Probe, load: Loader, clips: int, batch_size: int) -> Tensor:
    """Logits of clips in evaluation mode. The mode of the module is restored.

    Parameters
    ----------
    module : a probe.
    load : loads clips by their index.
    clips : number of clips, 0 .. clips - 1.
    batch_size : number of clips per batch.

    Returns
    -------
    float32 [clips, C], or [clips, T, C] for a frame probe. Logits, on the CPU.
    """
    device = next((t.device for t in chain(module.parameters(), module.buffers())), torch.device("cpu"))
    was_training = module.training
    module.eval()
    try:
        index = torch.split(torch.arange(clips), batch_size)
        with torch.no_grad(), prefetch(load, index, device) as loaded:
            batches = [module(tokens.to(device)).float().cpu() for tokens in loaded]
    finally:
        module.train(was_training)
    return torch.cat(batches)
