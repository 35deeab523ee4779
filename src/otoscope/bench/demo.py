"""`otoscope demo`: the embedded encoder and data set, four probes under one protocol, fine-tuning beside them.

Every cell (encoder, probe, seed) has its protocol before anything is trained, and is done once a record with that
protocol is in the store. So a second run takes seconds, and a killed one goes on with the cell it was in.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from otoscope import bank as banks
from otoscope import datasets, encoders
from otoscope.bank import Bank
from otoscope.bench import recorded, run
from otoscope.bench.recorded import FINETUNE
from otoscope.datasets import Dataset
from otoscope.encoders import Encoder
from otoscope.exhibit import path_beside
from otoscope.files import replacing
from otoscope.results import Record, Store
from otoscope.train import FittedFinetune, FittedProbe, fit, load, search
from otoscope.train import finetune as finetune_encoder
from otoscope.train.recipe import Recipe

PROBES = ("linear", "mean", "mhca", "protobin")
SHOWN = "protobin"
"""The probe whose strongest prototype the exhibit shows."""
_ENCODING = 0.07
_TRAINING = {"linear": 4e-5, "mean": 4e-5, "mhca": 3e-4, "protobin": 1.2e-3}
"""Seconds for a clip to be mixed and encoded, and for a clip and epoch of a probe, on two cores (measured)."""


@dataclass(frozen=True)
class Size:
    """How much of a demo: clips by split, seeds, the protocol that all probes share, and fine-tuning's own.

    Batches of 32 instead of the paper's 128, for all probes alike: 1,000 scenes x 30 epochs are then 960 optimiser
    steps and not 240. Prototypes need several hundred, for each step moves a prototype towards one token of each clip.
    """

    clips: Mapping[str, int]
    seeds: int = 3
    trials: int = 4
    epochs: int = 30
    batch_size: int = 32
    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=12, batch_size=16, head="mean"))
    finetune_lrs: tuple[float, ...] = (2e-3,)
    finetune_seeds: int = 1


SIZES = {
    "full": Size({"train": 1000, "validation": 200, "test": 300}),
    "small": Size(
        {"train": 120, "validation": 40, "test": 60},
        seeds=1,
        trials=2,
        epochs=10,
        recipe=Recipe(epochs=2),
        finetune_lrs=(1e-3,),
    ),
}


def run_demo(
    out: str | Path,
    *,
    size: str = "full",
    seeds: int | None = None,
    encoder: str = "tiny",
    dataset: str = "scenes",
    control: bool = False,
    finetune: bool = False,
    device: str | None = None,
    progress: bool = True,
) -> Store:
    """Do what is missing of the demo in the folder `out`; returns its results, `out/results`.

    Beside them: `banks/` (tokens), `search/` (learning rates tried), `probes/` (the fitted probes of seed 0) and
    `exhibit.npz` (one test clip through `protobin`). `size` is "full" or "small", a reduced run that is no result;
    `seeds` overrides its number of seeds. `control` probes the same encoder with random weights too, as
    `<encoder>-random`. `finetune` trains the fine-tuning reference here, 15 minutes on two cores; else the one
    that ships is set beside the probes, marked as recorded, if it is of this very encoder and data set.

    With `progress`, what is to be done and about how long it takes is told on stderr first.
    """
    if size not in SIZES:
        raise ValueError(f"demo size {size!r}; allowed: {', '.join(map(repr, SIZES))}")
    chosen = SIZES[size] if seeds is None else dataclasses.replace(SIZES[size], seeds=seeds)
    data = datasets.create(dataset, **chosen.clips)
    demo = _Demo(Path(out), chosen, device, progress)
    subjects = [_Subject(encoder, encoders.create(encoder), data)]
    if control:
        subjects.append(_Subject(f"{encoder}-random", encoders.create(encoder, weights="random"), data))
    demo.announce(subjects)
    for subject in subjects:
        demo.probe(subject)
    demo.exhibit(subjects[0])
    demo.finetune(subjects[0]) if finetune else demo.recall(subjects[0])
    return demo.store


@dataclass(frozen=True)
class _Subject:
    """An encoder and a data set, under the name that the records carry."""

    name: str
    encoder: Encoder
    dataset: Dataset

    @cached_property
    def digests(self) -> dict[str, str]:
        return {"encoder_digest": self.encoder.digest, "dataset_digest": self.dataset.digest}


class _Demo:
    """A demo's folder: what is done in it, and how the rest is done."""

    def __init__(self, out: Path, size: Size, device: str | None, progress: bool) -> None:
        self.out, self.size, self.device, self.progress = out, size, device, progress
        self.store = Store(out / "results")

    def say(self, text: str) -> None:
        if self.progress:
            print(text, file=sys.stderr, flush=True)

    def protocol(self, probe: str) -> dict[str, Any]:
        """What decides a cell before it is trained, as it will stand in its record."""
        if probe == FINETUNE:
            rule = {"recipe": dataclasses.asdict(self.size.recipe), "lrs": self.size.finetune_lrs}
        else:
            rule = {name: getattr(self.size, name) for name in ("trials", "epochs", "batch_size")}
        whole: dict[str, Any] = json.loads(json.dumps(rule | {"otoscope": importlib.metadata.version("otoscope")}))
        return whole

    def done(self, subject: _Subject, probe: str) -> list[Record]:
        """The records of this encoder, data set and probe that were made here by this protocol."""
        return [
            record
            for record in self.store
            if (record.encoder, record.probe, record.recorded) == (subject.name, probe, None)
            and record.config.get("protocol") == self.protocol(probe)
            and recorded.matches(record, subject.digests)
        ]

    def missing(self, subject: _Subject, probe: str) -> list[int]:
        """Seeds that are not done."""
        wanted = self.size.finetune_seeds if probe == FINETUNE else self.size.seeds
        return sorted(set(range(wanted)) - {record.seed for record in self.done(subject, probe)})

    def announce(self, subjects: list[_Subject]) -> None:
        """Say what will be done and about how long it takes."""
        size, names = self.size, ", ".join(subject.name for subject in subjects)
        cells = {(s.name, probe): len(self.missing(s, probe)) for s in subjects for probe in PROBES}
        unheard = [s for s in subjects if any(cells[s.name, p] for p in PROBES) and not self._bank_path(s).exists()]
        seconds = _ENCODING * len(unheard) * sum(size.clips.values())
        for (_, probe), left in cells.items():
            runs = left + size.trials - 1 if left else 0
            seconds += runs * size.epochs * size.clips["train"] * _TRAINING[probe]
        self.say(
            f"demo in {self.out}: {names} under {', '.join(PROBES)}, {size.seeds} seeds each; the best of "
            f"{size.trials} learning rates by validation; {size.epochs} epochs in batches of {size.batch_size}\n"
            f"{sum(cells.values())} of {len(cells) * size.seeds} cells to do, "
            f"about {seconds / 60:.0f} minutes on 2 cores"
        )

    def probe(self, subject: _Subject) -> None:
        """Every missing cell of an encoder."""
        for probe in PROBES:
            seeds = self.missing(subject, probe)
            if not seeds:
                continue
            bank = self._bank(subject)
            setting, first = self._search(subject, probe, bank)
            if probe == SHOWN and 0 in seeds:
                path_beside(self.store.path).unlink(missing_ok=True)
            for seed in seeds:
                fitted = first if first is not None and seed == 0 else self._fit(probe, bank, seed, setting)
                self._measure(subject, fitted, bank)

    def exhibit(self, subject: _Subject) -> None:
        """Show the first seed's strongest prototype in a test clip, unless that is done."""
        path = path_beside(self.store.path)
        if not path.exists():
            shown = load(self._saved(subject, SHOWN))
            run.exhibit(shown, self._bank(subject), subject.encoder, subject.dataset, name=subject.name).save(path)

    def finetune(self, subject: _Subject) -> None:
        """Fine-tune with each learning rate, choose by validation, then the other seeds."""
        recorded.forget(self.store)
        seeds = self.missing(subject, FINETUNE)
        if not seeds:
            return
        best = max((self._finetune(subject, lr, 0) for lr in self.size.finetune_lrs), key=lambda f: f.validation)
        for seed in seeds:
            fitted = best if seed == 0 else self._finetune(subject, best.config["lr"], seed)
            record = run.evaluate_finetuned(
                fitted, subject.dataset, store=self.store, encoder=subject.name, protocol=self.protocol(FINETUNE)
            )
            self._tell(record)

    def recall(self, subject: _Subject) -> None:
        """Set the shipped fine-tuning record beside the probes, unless it was measured here."""
        if self.done(subject, FINETUNE):
            return
        if not recorded.add_to(self.store, subject.name, subject.digests):
            self.say(
                "no recorded fine-tuning is of this encoder and data set: the share of the gap stays open; "
                "`otoscope demo --finetune` measures it"
            )

    # One step each

    def _bank_path(self, subject: _Subject) -> Path:
        return self.out / "banks" / subject.name

    def _bank(self, subject: _Subject) -> Bank:
        """The bank, extracted if it is not there."""
        return banks.extract(subject.encoder, subject.dataset, self._bank_path(subject), progress=self.progress)

    def _saved(self, subject: _Subject, probe: str) -> Path:
        return self.out / "probes" / f"{subject.name}-{probe}"

    def _search(self, subject: _Subject, probe: str, bank: Bank) -> tuple[dict[str, float], FittedProbe | None]:
        """The setting that is best on validation, read if it is known, and the probe of seed 0 if it was fitted."""
        path = self.out / "search" / f"{subject.name}-{probe}.json"
        asked = {"protocol": self.protocol(probe)} | subject.digests
        if path.exists():
            known = json.loads(path.read_text())
            if known["asked"] == asked:
                return known["setting"], None
        found = search(
            probe,
            bank,
            trials=self.size.trials,
            epochs=self.size.epochs,
            batch_size=self.size.batch_size,
            device=self.device,
            progress=self.progress,
        )
        setting = {name: found.best.config[name] for name in ("lr", "weight_decay")}
        trials = [dataclasses.asdict(trial) for trial in found.trials]
        with replacing(path) as temporary:
            temporary.write_text(json.dumps({"asked": asked, "setting": setting, "trials": trials}, indent=1) + "\n")
        return setting, found.best

    def _fit(self, probe: str, bank: Bank, seed: int, setting: Mapping[str, float]) -> FittedProbe:
        return fit(
            probe,
            bank,
            seed=seed,
            lr=setting["lr"],
            weight_decay=setting["weight_decay"],
            epochs=self.size.epochs,
            batch_size=self.size.batch_size,
            device=self.device,
            progress=self.progress,
        )

    def _measure(self, subject: _Subject, fitted: FittedProbe, bank: Bank) -> None:
        if fitted.seed == 0:
            fitted.save(self._saved(subject, fitted.probe))
        protocol = self.protocol(fitted.probe)
        self._tell(run.evaluate(fitted, bank, store=self.store, encoder=subject.name, protocol=protocol))

    def _finetune(self, subject: _Subject, lr: float, seed: int) -> FittedFinetune:
        return finetune_encoder(
            subject.encoder,
            subject.dataset,
            recipe=dataclasses.replace(self.size.recipe, lr=lr),
            seed=seed,
            device=self.device,
            checkpoint=self.out / "finetune" / f"{subject.name}-lr{lr:g}-seed{seed}.pt",
            progress=self.progress,
        )

    def _tell(self, record: Record) -> None:
        self.say(
            f"{record.encoder}, {record.probe}, seed {record.seed}: {record.metric} {100 * record.value:.1f} "
            f"({record.train_seconds:.0f} s)"
        )
