"""Fine-tuning of a whole encoder with a probe as its head."""

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
from otoscope.datasets.checks import checked_clips
from otoscope.datasets.doubts import warn_of_doubts
from otoscope.encoders import Encoder
from otoscope.finetuning import lora
from otoscope.finetuning.features import extract_features, predict
from otoscope.finetuning.learning_rates import depth_groups
from otoscope.finetuning.module import EncoderWithHead
from otoscope.finetuning.protocol import finetune_protocol
from otoscope.finetuning.recipe import Recipe
from otoscope.finetuning.training import FinetuneRun, Split
from otoscope.results import FINETUNE, Protocol, Sampling
from otoscope.results.convergence import Reasons
from otoscope.sampling import TrainingSet
from otoscope.train import loader
from otoscope.train.convergence import training_reasons
from otoscope.train.device import usable_device
from otoscope.train.fitted import chosen_shape
from otoscope.train.rng import seeded
from otoscope.types import Clip, Task


@dataclass(frozen=True, eq=False)
class FittedFinetune:
    """A fine-tuned encoder with its head.

    Parameters
    ----------
    module : encoder and head of the best epoch, in evaluation mode on the CPU. With `Recipe.lora_rank` the encoder
        keeps its low-rank updates apart from its weights; `otoscope.finetuning.lora.merge` makes a plain encoder of it.
    encoder, dataset : names of the encoder and of the data set.
    task : classes and metric of the data set.
    seed : seed of the training.
    protocol : everything that decides the training, apart from the seed: the recipe, and the identities of the encoder
        before training and of the data set.
    lr, weight_decay : learning rate of the head, and weight decay.
    history : one row per epoch: `epoch`, `loss` and `validation`.
    validation : main score of the best epoch on the validation split.
    train_seconds : wall-clock time of the training.
    probe : the name under which it is compared with probes.
    not_converged : reasons why the training of all weights has not converged (`otoscope.train.convergence`); empty if
        it has converged.
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
    not_converged: Reasons | None = None

    @property
    def parameters(self) -> int:
        """Number of trained parameters: all of them, or with `Recipe.lora_rank` those of the updates and the head."""
        return sum(p.numel() for p in self.module.parameters() if p.requires_grad)

    @property
    def epochs(self) -> int:
        """Number of epochs of both phases of the training."""
        return len(self.history)

    def predict_logits(self, clips: Sequence[Clip], batch_size: int = 32) -> Tensor:
        """Logits of clips.

        Parameters
        ----------
        clips : n clips of any sample rate.
        batch_size : number of clips per batch.

        Returns
        -------
        float32 [n, C]. Logits, on the CPU.
        """
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
    """Fine-tune a copy of an encoder with a head on the train split. The validation split selects the best epoch.

    The front end computes the features of each clip once; they stay in memory (0.5 MB for 10 s of 128 mel bins). The
    training uses layer-wise learning rates with warm-up and cosine decay, time roll, SpecAugment and mixup, in bfloat16
    on CUDA. The random numbers of an epoch depend only on the seed and on the number of the epoch. The held-out split
    is not opened.

    Parameters
    ----------
    encoder : starting point; it is not changed.
    dataset : its splits "train" and "validation" are read. Without a validation split, one is cut from the train split
        (`otoscope.sampling.VALIDATION_CUT`).
    recipe : how to fine-tune; None for the defaults of `Recipe`.
    seed : seed of the head's initial weights, of the order of clips, of the augmentation and of dropout.
    device : where to compute; None for the CPU.
    checkpoint : file that is written after each epoch, atomically. The same call continues from it, with the same
        result as without an interruption.
    progress : whether to show progress bars and the size of the training on stderr.

    Returns
    -------
    FittedFinetune. Encoder and head of the best epoch, or of the first of equally good epochs.

    Raises
    ------
    TypeError : see `Recipe.check_head`.
    DataError : when the splits cannot be measured (`otoscope.datasets.checks`).
    ValueError : for a head that cannot be trained with the encoder, a device that this machine does not have, or a
        checkpoint of another run.
    DivergedError : if the loss or a validation score becomes nan or infinite.
    """
    recipe = recipe or Recipe()
    recipe.check_head()
    device = usable_device(device)
    if not dataset.has_validation:
        dataset = TrainingSet(dataset, cut=True)
    clips = checked_clips(dataset, ("train", "validation"))
    warn_of_doubts(dataset, clips)
    targets = {name: dataset.task.targets(clips[name]) for name in clips}
    protocol = _protocol(encoder, dataset, recipe)
    digests = {"encoder_digest": protocol.encoder_digest, "dataset_digest": protocol.dataset_digest}
    identity = dataclasses.asdict(recipe) | digests | ({} if protocol.fold is None else {"fold": protocol.fold})
    with seeded(seed, device):
        module = _build(encoder, recipe, len(dataset.task.classes)).to(device)
        run = FinetuneRun(module, recipe, dataset.task, seed, checkpoint, identity)
        if not run.finished:
            splits = {s: Split(extract_features(encoder, clips[s], progress=progress), targets[s]) for s in clips}
            run.train(splits["train"], splits["validation"], progress=progress)
    module.load_state_dict(run.best_state)
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
        not_converged=training_reasons(
            run.history[recipe.probe_epochs :], metrics.main_metric(dataset.task).sort_key, warmup=recipe.warmup
        ),
    )


def _protocol(encoder: Encoder, dataset: Dataset, recipe: Recipe) -> Protocol:
    protocol = finetune_protocol(
        recipe,
        encoder_digest=encoder.identity_digest,
        dataset_digest=dataset.identity_digest,
        task=dataset.task.kind,
        control=encoder.control,
        sampling=dataset.sampling if isinstance(dataset, TrainingSet) else Sampling(),
    )
    return dataclasses.replace(protocol, fold=dataset.chosen_fold)


def _build(encoder: Encoder, recipe: Recipe, classes: int) -> EncoderWithHead:
    """A copy of the encoder with a new head, and with low-rank updates if the recipe has a `lora_rank`."""
    kind = probes.registry.get(recipe.head)
    layers = loader.choose_layers(None, kind.uses_all_layers, encoder.shape)
    head = probes.create(recipe.head, chosen_shape(encoder.shape, layers), classes, **recipe.head_options)
    body = copy.deepcopy(encoder).requires_grad_(True)
    depths = depth_groups(body)
    if recipe.lora_rank is not None:
        depths = lora.adapt(body, depths, rank=recipe.lora_rank, alpha=recipe.lora_alpha)
    return EncoderWithHead(body, head, layers, depths, freezes_batch_norm=recipe.lora_rank is not None)
