"""Units that write shards of a bank: their plan, and how one is done."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from otoscope import datasets, encoders
from otoscope.bank.identity import BankIdentity
from otoscope.bank.manifest import bank_exists, check_identity, shard_name, shard_rows
from otoscope.bank.parts import BankParts
from otoscope.bench.cost import PairSize
from otoscope.bench.units.canary import check_canaries
from otoscope.bench.units.folder import BankLayout, Layout, PlanError, PlanFolder, relative, with_absolute_paths
from otoscope.bench.units.unit import ExtractUnit
from otoscope.datasets.doubts import warn_of_doubts
from otoscope.encoders import REMOTE_CODE
from otoscope.files import json_text
from otoscope.remote import local_folder

_MOST_CLIPS = 4096
"""Largest number of clips of a unit, unless another is given."""

_UNITS = 32
"""Number of units of a bank with fewer clips, so that as many workers can share it."""

_PROCESS_MB = 700
"""Memory of a process that has imported torch and waits for audio, in MB."""


def plan_extraction(
    out: str | Path,
    *,
    encoder: str,
    encoder_options: Mapping[str, Any],
    dataset: str,
    dataset_options: Mapping[str, Any],
    bank: str | Path | None = None,
    unit_clips: int | None = None,
    batch_size: int = 16,
    batch_seconds: float = 320.0,
    compiled: bool = False,
    allow_shared: bool = False,
    **stored: Any,
) -> PlanFolder:
    """Plan an extraction. Nothing is encoded but a few clips, from which the size is estimated.

    Parameters
    ----------
    out : folder of the plan.
    encoder, encoder_options : name and options of the encoder.
    dataset, dataset_options : name, or path, and options of the data set.
    bank : folder of the bank, or its URL; None for the folder "bank" in that of the plan.
    unit_clips : clips of a unit, rounded up to whole shards; None for 4,096, or fewer if the bank would have fewer than
        32 units.
    batch_size, batch_seconds, compiled, allow_shared : as for `otoscope.bank.extract`.
    stored : splits, layers, content, dtype and shard_clips, as for `otoscope.bank.extract`.

    Returns
    -------
    The plan.

    Raises
    ------
    PlanError : when the folder contains a plan with another layout.
    BankError : when the folder of the bank contains another bank, or something else.
    """
    dataset, dataset_options = datasets.locate(dataset, dataset_options)
    options = checked_options(encoder, encoder_options, dataset, dataset_options)
    created = datasets.create(dataset, **options[1])
    path = local_folder(bank or Path(out) / "bank")
    parts = BankParts.of(encoders.create(encoder, **options[0]), created, path, allow_shared=allow_shared, **stored)
    if bank_exists(path):
        check_identity(path, parts.identity, parts.dataset)
    warn_of_doubts(parts.dataset, parts.clips)
    layout = BankLayout(
        path=relative(path, Path(out)),
        encoder=encoder,
        encoder_options=options[0],
        dataset=dataset,
        dataset_options=options[1],
        identity=plain_identity(parts.identity),
        allow_shared=allow_shared,
        batch_size=batch_size,
        batch_seconds=batch_seconds,
        compiled=compiled,
        unit_clips=unit_clips,
    )
    size = PairSize(
        clips=parts.manifest.clips,
        shape=parts.encoder.shape,
        steps=parts.size().longest,
        parameters=sum(p.numel() for p in parts.encoder.parameters()),
        classes=len(created.task.classes),
        bytes=1,
    )
    return PlanFolder.create(out, Layout((layout,)), list(extract_units(0, layout, parts.identity, size)))


def extract_units(bank: int, layout: BankLayout, identity: BankIdentity, size: PairSize) -> Iterator[ExtractUnit]:
    """The units of a bank, in the order of its shards, with numbers from 0.

    Parameters
    ----------
    bank : number of the bank in the layout.
    layout : the bank.
    identity : its identity.
    size : the size of encoder and data set; its clips are those of the splits of the bank.
    """
    minutes_per_clip = size.encoding_seconds(()) / sum(size.clips.values()) / 60
    shard_values = identity.shard_clips * identity.shape.layers * size.tokens * identity.shape.dim
    unit_shards = _unit_shards(layout.unit_clips, sum(size.clips.values()), identity.shard_clips)
    memory = _PROCESS_MB + 4 * (size.parameters + 2 * shard_values) // 10**6
    number = 0
    for split in identity.splits:
        rows = list(shard_rows(split, size.clips[split], identity.shard_clips).values())
        for first in range(0, len(rows), unit_shards):
            members = rows[first : first + unit_shards]
            clips = sum(map(len, members))
            yield ExtractUnit(
                id=number,
                name=f"{split} {members[0].start:,}-{members[-1].stop - 1:,} of {layout.dataset} by {layout.encoder}",
                bank=bank,
                minutes=round(clips * minutes_per_clip, 4),
                memory=memory,
                split=split,
                first=first,
                end=first + len(members),
                clips=clips,
            )
            number += 1


def _unit_shards(unit_clips: int | None, clips: int, shard_clips: int) -> int:
    """The number of shards of a unit of a bank with this number of clips.

    It depends on the data alone, so that the same command with another number of workers goes on with its plan.

    >>> [_unit_shards(None, clips, 64) for clips in (272, 40_000, 2_000_000)]
    [1, 20, 64]
    >>> _unit_shards(100, 2_000_000, 64)
    2
    """
    return -(-(unit_clips or min(_MOST_CLIPS, -(-clips // _UNITS))) // shard_clips)


def checked_options(
    encoder: str, encoder_options: Mapping[str, Any], dataset: str, dataset_options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of a plan, with absolute paths and as JSON would return them.

    Raises
    ------
    PlanError : for an option that JSON cannot express, and for one that executes code of a repository.
    """
    if encoder_options.get(REMOTE_CODE):
        raise PlanError(
            f"a plan cannot allow the code of a repository, found {REMOTE_CODE} for encoder {encoder!r}; extract on "
            "one machine with --trust-remote-code, without a plan"
        )
    absolute = (
        with_absolute_paths(encoder_options, encoders.registry.get(encoder).provenance),
        with_absolute_paths(dataset_options, datasets.provenance_of(dataset)),
    )
    try:
        first, second = (json.loads(json.dumps(options)) for options in absolute)
    except TypeError as error:
        raise PlanError(f"options of {encoder!r} or {dataset!r} cannot be written into a plan: {error}") from error
    return first, second


def plain_identity(identity: BankIdentity) -> dict[str, Any]:
    """The identity as plain values."""
    plain: dict[str, Any] = json.loads(json_text(asdict(identity)))
    return plain


@dataclass
class Extracting:
    """Does the units of banks. Encoder, data set and canaries are prepared once for each bank.

    Parameters
    ----------
    plan : the plan.
    device : where the encoder runs; None for the CPU.
    loader_workers : processes that decode; None chooses.
    sharing : number of workers that share the cores of this machine.
    say : called with a message when the work has to wait.
    seconds_per_clip : upper bound of the time of a clip of the bank that was prepared last, measured on the canaries.
    """

    plan: PlanFolder
    device: str | None = None
    loader_workers: int | None = None
    sharing: int = 1
    say: Callable[[str], object] = lambda _: None
    seconds_per_clip: float = 0.0
    _parts: dict[int, BankParts] = field(default_factory=dict)

    def do(self, unit: ExtractUnit, stop: Callable[[], bool]) -> bool:
        """Write the missing shards of a unit; return whether it is done.

        Parameters
        ----------
        unit : the unit.
        stop : asked before each shard and while the work has to wait; if it returns True, no further one is written.

        Raises
        ------
        PlanError : when this machine has another encoder or data set, or gives other tokens.
        """
        parts = self._prepared(unit.bank, stop)
        if parts is None:
            return False
        names = [f"{unit.split}/{shard_name(number)}" for number in range(unit.first, unit.end)]
        loading = self.plan.layout.banks[unit.bank].loading(self.loader_workers, self.sharing)
        parts.write(names, loading, stop=stop, waiting=self._say_that_it_waits)
        return not parts.missing(names)

    def is_prepared(self, number: int) -> bool:
        """Whether encoder and data set of a bank are in memory and have been checked."""
        return number in self._parts

    def _say_that_it_waits(self) -> None:
        self.say("waiting for a process that extracts the whole bank")

    def _prepared(self, number: int, stop: Callable[[], bool]) -> BankParts | None:
        """The bank, begun and checked against the plan and the canaries; None if `stop` ended a wait."""
        if number not in self._parts:
            layout = self.plan.layout.banks[number]
            encoder = encoders.create(layout.encoder, **layout.encoder_options).to(self.device or "cpu")
            parts = BankParts.of(
                encoder,
                datasets.create(layout.dataset, **layout.dataset_options),
                self.plan.bank_path(number),
                allow_shared=layout.allow_shared,
                **layout.stored,
            )
            layout.check(parts.identity)
            self.seconds_per_clip = check_canaries(parts, self.plan.path / "canary" / f"{number}.safetensors")
            if not parts.begin(stop=stop, waiting=self._say_that_it_waits):
                return None
            self._parts = {number: parts}  # one encoder at a time
        return self._parts[number]
