"""The protocol of a fine-tuning run, which a record stores."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from otoscope import probes
from otoscope.finetuning.recipe import Recipe
from otoscope.results import FINETUNE, Protocol, Sampling, SearchSettings


def finetune_protocol(
    recipe: Recipe,
    *,
    encoder_digest: str,
    dataset_digest: str,
    task: Literal["multi-label", "multi-class"],
    control: bool,
    sampling: Sampling,
    lrs: Sequence[float] = (),
) -> Protocol:
    """The protocol of fine-tuning.

    Parameters
    ----------
    recipe : how the encoder is trained.
    encoder_digest, dataset_digest : identities of the encoder before the training, and of the data set.
    task : kind of the data set's task.
    control : whether the encoder started from random weights.
    sampling : how the train clips were chosen.
    lrs : learning rates to search instead of using that of the recipe. With fewer than two there is no search.

    Returns
    -------
    Protocol. Without a fold, which only the caller knows.
    """
    values = dataclasses.asdict(recipe) | {"head_options": probes.chosen_options(recipe.head, recipe.head_options)}
    search = None
    if len(lrs) > 1:
        values["lr"] = None
        search = SearchSettings(kind="list", trials=len(lrs), options={"settings": [{"lr": lr} for lr in lrs]})
    return Protocol(
        encoder_digest=encoder_digest,
        dataset_digest=dataset_digest,
        task=task,
        control=control,
        probe=FINETUNE,
        probe_code=probes.registry.get(recipe.head).code(),
        recipe=values,
        search=search,
        **vars(sampling),
    )
