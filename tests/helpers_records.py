"""Stores of simulated results: the skill of every encoder and probe is a given number, so their order is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from otoscope import metrics
from otoscope.results import Predictions, Protocol, Record, Store, TrainingSettings

CLASSES = tuple(f"class{i:02d}" for i in range(64))
TRAINING = TrainingSettings(epochs=30, batch_size=128)
SCENE_CLASSES = ("dog", "<b>siren</b>", "rain")
IDS = tuple(f"test/{i}" for i in range(90))
TARGETS = (np.random.default_rng(0).random((90, 3)) < 0.4).astype(np.uint8)


def without_digest(file: Path) -> dict[str, Any]:
    """The JSON of a record as an older version wrote it."""
    stored = json.loads(file.read_text())
    return {name: value for name, value in stored.items() if name not in ("digest", "predictions")}


@dataclass(frozen=True)
class LabelledClips:
    """The clips of a data set: ids, and multi-hot targets [n, C]."""

    name: str
    targets: np.ndarray

    @classmethod
    def random(
        cls, name: str, n_clips: int = 150, n_classes: int = 6, rate: float = 0.2, seed: int = 0
    ) -> LabelledClips:
        return cls(name, (np.random.default_rng(seed).random((n_clips, n_classes)) < rate).astype(np.uint8))

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(f"{self.name}/{i:04d}" for i in range(len(self.targets)))

    def scores(self, skill: float, noise_seed: int, training: int = 0) -> np.ndarray:
        """Scores with this skill, noise that depends on `noise_seed`, and weaker noise that depends on both seeds."""
        shared, independent = (
            np.random.default_rng(s).normal(size=self.targets.shape) for s in ([7, noise_seed], [noise_seed, training])
        )
        return (shared + 0.3 * independent + skill * self.targets).astype(np.float32)


def add_trainings(
    store: Store,
    clips: LabelledClips,
    encoder: str,
    skills: Mapping[str, float],
    *,
    seeds: int = 2,
    protocol: Mapping[str, Any] | None = None,
    lr: float | None = None,
    noise_seed: int = 0,
    metric: str = "mAP",
    encoder_name: str = "",
) -> None:
    """Add `seeds` trainings of every probe in `skills` on one encoder and data set.

    `protocol` contains the fields of the protocol that differ from the defaults. `encoder` is a label, and
    `encoder_name` the registered name.
    """
    for probe, skill in skills.items():
        for seed in range(seeds):
            scores = clips.scores(skill, noise_seed, seed)
            values = metrics.evaluate(scores, clips.targets, "multi-label")
            record = Record(
                encoder=encoder,
                dataset=clips.name,
                probe=probe,
                seed=seed,
                protocol=make_protocol(f"of {encoder}", f"of {clips.name}", probe, protocol),
                lr=lr,
                metric=metric,
                value=values[metric],
                metrics=values,
                parameters=99,
                train_seconds=2.0,
                machine="2 cores",
                not_converged=(),
                encoder_name=encoder_name,
            )
            store.add(record, Predictions(clips.ids, scores, clips.targets, CLASSES[: clips.targets.shape[1]]))


def add_folds(store: Store, encoder: str, skill: float, *, folds: int = 3, digest: Callable[[int], str] = str) -> None:
    """Add trainings of `linear`, with this skill, and of `mean` on the folds 1, 2, ... of a data set `esc`."""
    for fold in range(folds):
        clips = LabelledClips("esc", LabelledClips.random("esc", seed=fold).targets)
        protocol = {"fold": fold + 1, "dataset_digest": digest(fold)}
        skills = {"linear": skill, "mean": skill / 2}
        add_trainings(store, clips, encoder, skills, protocol=protocol, lr=0.1 * (fold + 1), noise_seed=fold)


def make_protocol(encoder: str, dataset: str, probe: str, changes: Mapping[str, Any] | None = None) -> Protocol:
    """The protocol of a probe on an encoder and a data set of these digests, with other values for some fields."""
    fields = {"encoder_digest": encoder, "dataset_digest": dataset, "probe": probe, "training": TRAINING}
    fields |= {"task": "multi-label"} | dict(changes or {})
    if fields["probe"] == "finetune":
        fields |= {"training": None, "recipe": {"epochs": 30}}
    return Protocol(**fields)


def scene_scores(skill: float, seed: int) -> np.ndarray:
    """Scores of the 90 clips of `TARGETS` with this skill."""
    noise = np.random.default_rng(5).normal(size=TARGETS.shape) + 0.3 * np.random.default_rng(seed).normal(size=(90, 3))
    return (noise + skill * TARGETS).astype(np.float32)


def scene_record(
    probe: str,
    seed: int,
    value: float,
    encoder: str = "tiny",
    *,
    protocol: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Record:
    """A record of a probe on the scenes; `protocol` contains the fields that differ from the defaults."""
    record = Record(
        encoder=encoder,
        dataset="scenes",
        probe=probe,
        seed=seed,
        protocol=make_protocol(encoder, "d" * 64, probe, protocol),
        lr=0.001,
        metric="mAP",
        value=value,
        metrics={"mAP": value},
        parameters=5404,
        train_seconds=75.0,
        machine="2 cores",
        date="2026-01-02",
        versions={"otoscope": "0.1.0"},
        not_converged=(),
    )
    return replace(record, **changes)


def add_scenes(store: Store, probe: str, skill: float, seeds: int = 2, **changes: Any) -> None:
    """Add trainings of a probe on the scenes with this skill; `changes` are passed to `scene_record`."""
    for seed in range(seeds):
        scores = scene_scores(skill, seed)
        value = metrics.evaluate(scores, TARGETS, "multi-label")["mAP"]
        predictions = Predictions(IDS, scores, TARGETS, SCENE_CLASSES)
        store.add(scene_record(probe, seed, value, **changes), predictions)
