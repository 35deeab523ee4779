"""The fine-tuning reference: the very encoder that is probed, trained end to end with a probe as its head."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from otoscope import metrics, probes
from otoscope.datasets import Dataset
from otoscope.encoders import Encoder
from otoscope.finetuning import lora
from otoscope.finetuning.features import extract_features, predict
from otoscope.finetuning.learning_rates import depth_groups
from otoscope.finetuning.protocol import finetune_protocol
from otoscope.finetuning.recipe import Recipe
from otoscope.finetuning.training import EncoderWithHead, FinetuneRun
from otoscope.results import FINETUNE, Protocol, Sampling
from otoscope.sampling.training_set import TrainingSet
from otoscope.train import loader
from otoscope.train.fit import seeded
from otoscope.train.fitted import chosen_shape
from otoscope.types import Clip, Task


@dataclass(frozen=True, eq=False)
class FittedFinetune:
    """A fine-tuned encoder with its head (`module`, the best epoch), and what decided it; fields as in `FittedProbe`.

    `protocol` holds the recipe and the digests of the encoder it started from and of the data set. With `lora_rank` the
    encoder in `module` keeps its updates apart; `otoscope.finetuning.lora.merge` makes a plain encoder of it.
    """

    module: EncoderWithHead
    encoder: str
    dataset: str
    task: Task
    seed: int
    protocol: Protocol
    lr: float
    weight_decay: float
    history: list[dict[str, float]]
    validation: float
    train_seconds: float
    probe: str = FINETUNE

    @property
    def parameters(self) -> int:
        """Number of trained parameters: all of them, or with `lora_rank` those of the updates and the head."""
        return sum(p.numel() for p in self.module.parameters() if p.requires_grad)

    def predict_logits(self, clips: Sequence[Clip], batch_size: int = 32) -> Tensor:
        """Logits of clips, float32 [n, C] on the CPU."""
        return predict(self.module, extract_features(self.module.encoder, clips), batch_size)


def finetune(
    encoder: Encoder,
    dataset: Dataset,
    *,
    recipe: Recipe | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = False,
) -> FittedFinetune:
    """Train a copy of `encoder` with a head on the train split, keep the epoch that is best on the validation split.

    Features come from `encoder.front_end` once and stay in memory (0.5 MB for 10 s of 128 mel); the body is trained
    with layer-wise learning rates, warm-up and cosine, time roll, SpecAugment and mixup (see `Recipe`), in bfloat16 on
    CUDA. `Recipe.probe_epochs` trains the head alone before that, `Recipe.lora_rank` low-rank updates in place of the
    encoder's weights. What is random in an epoch is drawn from (seed, epoch). With `checkpoint`, a file is written
    whole after each epoch, and the same call goes on from it to the same result; one of anything else is refused.
    With `progress`, bars and the size of the training (parameters, time of an epoch) are shown on stderr.

    The encoder given is not changed. `DivergedError` when the loss stops being finite. The test split is not opened.
    """
    recipe = recipe or Recipe()
    metrics.main_metric(dataset.task)
    device = torch.device("cpu" if device is None else device)
    clips = {split: dataset.clips(split) for split in ("train", "validation")}
    targets = {split: dataset.task.targets(clips[split]) for split in clips}
    for split, hot in targets.items():
        if not bool(hot.any()):
            raise ValueError(f"the {split} split of {dataset.name!r} has no positive label; fine-tuning needs some")
    protocol = finetune_protocol(
        recipe,
        encoder_digest=encoder.digest,
        dataset_digest=dataset.digest,
        task=dataset.task.kind,
        control=encoder.control,
        sampling=dataset.sampling if isinstance(dataset, TrainingSet) else Sampling(),
    )
    digests = {"encoder_digest": protocol.encoder_digest, "dataset_digest": protocol.dataset_digest}
    config = dataclasses.asdict(recipe) | digests
    with seeded(seed, device):
        module = _build(encoder, recipe, len(dataset.task.classes)).to(device)
        run = FinetuneRun(module, recipe, dataset.task, seed, None if checkpoint is None else Path(checkpoint), config)
        if not run.finished:
            heard = {split: extract_features(encoder, clips[split], progress=progress) for split in clips}
            run.train(heard["train"], targets["train"], heard["validation"], targets["validation"], progress)
    module.load_state_dict(run.kept)
    return FittedFinetune(
        module=module.cpu().eval(),
        encoder=encoder.name,
        dataset=dataset.name,
        task=dataset.task,
        seed=seed,
        protocol=protocol,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        history=run.history,
        validation=run.validation,
        train_seconds=run.seconds,
    )


def _build(encoder: Encoder, recipe: Recipe, classes: int) -> EncoderWithHead:
    kind = probes.registry.get(recipe.head)
    if not kind.trained:
        raise ValueError(f"head {recipe.head!r} is not trained by gradient; choose another probe as head")
    layers = loader.choose_layers(None, kind.uses_all_layers, encoder.shape)
    head = probes.create(recipe.head, chosen_shape(encoder.shape, layers), classes, **recipe.head_options)
    own = copy.deepcopy(encoder).requires_grad_(True)
    depths = depth_groups(own)
    if recipe.lora_rank is not None:
        depths = lora.adapt(own, depths, rank=recipe.lora_rank, alpha=recipe.lora_alpha)
    return EncoderWithHead(own, head, layers, depths)
