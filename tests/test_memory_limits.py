"""How much is kept in memory: 2 GiB of the tokens or features of a split, and other limits, to the byte.

Tensors of these sizes are views of a single number, and nothing is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from otoscope import probes
from otoscope.bank._clip_encoder import kept_in_memory
from otoscope.bank._shuffle import assign_windows, shuffle
from otoscope.ops.logistic import Design
from otoscope.train import _layer_features, batched, loader
from otoscope.train._head_inputs import fits_in_memory
from otoscope.train.batched import trials_at_once
from otoscope.train.exact import cross_validate
from otoscope.types import Tokens, TokenShape

GIB = 1024**3


def test_features_of_2_gib_are_kept() -> None:
    assert fits_in_memory((GIB // 4, 2))
    assert not fits_in_memory((GIB // 4, 2, 1, 2))
    assert not fits_in_memory((GIB // 2 + 1, 1))


def test_tokens_of_2_gib_that_are_encoded_on_the_fly_are_kept() -> None:
    assert [kept_in_memory(size) for size in (0, 2 * GIB, 2 * GIB + 1)] == [True, True, False]


class Split:
    """A split of clips with `values` numbers each."""

    shape = TokenShape(1, 1, 1, False, 1.0)

    def __init__(self, clips: int, values: int) -> None:
        self.clips, self.values = clips, values

    def __len__(self) -> int:
        return self.clips

    def tokens(self, rows: slice | list[int], layers: Sequence[int] | None) -> Tokens:  # noqa: ARG002
        return Tokens(torch.zeros(1, 1, 1, 1, 1).expand(1, 1, self.values, 1, 1))


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_token_maps_of_2_gib_are_kept_by_all_processes_together(
    processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "_processes", 1)
    monkeypatch.setattr(loader, "join", lambda parts: parts[0])
    loader.share_memory(processes)

    def load(clips: int, **options: Any) -> Any:
        return loader.split_loader(Split(clips, 4096), "tokens", (0,), **options)  # type: ignore[arg-type]

    clips = 2 * GIB // (4 * 4096) // processes
    assert not isinstance(load(clips), loader.DiskLoader)
    on_disk = load(clips + 1)
    assert isinstance(on_disk, loader.DiskLoader)
    assert on_disk.fits is (processes > 1), "it would fit without the other processes"
    assert isinstance(load(1, in_memory=4 * 4096 - 1), loader.DiskLoader)
    assert not isinstance(load(1, in_memory=4 * 4096), loader.DiskLoader)


def test_features_of_layers_are_kept_up_to_1_gib() -> None:
    kept = object.__new__(_layer_features.Kept)
    for keys, size, remembered in ((["a"], 1, True), (["a"], 0, True), (["a"], -1, False), (["a", "b"], 1, False)):
        kept._keys, kept._known = keys, {"other": torch.zeros(4)}
        kept.keep(torch.zeros(1, 1).expand((GIB - 16) // 4 - size, 1))
        assert ("a" in kept._known) is remembered


@pytest.mark.parametrize(
    ("parameters", "trials"),
    [
        (0, 32),
        (1, 32),
        (2 * GIB // 640, 32),
        (2 * GIB // 640 + 1, 31),
        (2 * GIB // 40, 2),
        (2 * GIB // 20 + 1, 1),
        (GIB, 1),
    ],
)
def test_the_state_of_the_trials_in_one_pass_takes_2_gib(
    parameters: int, trials: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank: Any = SimpleNamespace(shape=TokenShape(1, 1, 1, False, 1.0), task=SimpleNamespace(classes=("a",)))
    monkeypatch.setattr(batched.probes, "parameter_count", lambda *_, **__: parameters)
    assert trials_at_once("mhca", bank) == trials
    assert trials_at_once("knn", bank) == 32
    assert probes.solver_of("mhca", {}) == "adamw"


def test_a_window_of_clips_takes_2_gib() -> None:
    random = torch.Generator()
    for sizes, windows in (([GIB, GIB], 1), ([GIB, GIB + 1], 2), ([3 * GIB], 1), ([3 * GIB, 1], 2), ([GIB] * 4, 2)):
        assert len(assign_windows(torch.tensor(sizes), random.manual_seed(0)).unique()) == windows
    shards, whole = torch.arange(8), torch.randperm(8, generator=random.manual_seed(0))
    for more, same in ((0, True), (8, False)):
        order = shuffle(shards, torch.full((8,), GIB // 4 + more), random.manual_seed(0))
        assert torch.equal(order, whole) is same
        assert sorted(order.tolist()) == list(range(8))


@pytest.mark.parametrize(("n", "width"), [(6, 3), (3, 6)])
def test_standardised_features_are_kept_up_to_a_number_of_bytes(n: int, width: int) -> None:
    features = torch.randn(n, width, generator=torch.Generator().manual_seed(0))
    kept, blocks = (Design(features, max_bytes=n * width * 8 - less) for less in (0, 1))
    assert [design._standardised is None for design in (kept, blocks)] == [n >= width, True]
    assert [design._z is None for design in (kept, blocks)] == [False, n >= width]


def test_standardised_features_of_4_gib_are_kept_unless_another_number_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits: list[int] = []
    standardise = Design._standardise
    monkeypatch.setattr(Design, "_standardise", lambda self, size: (limits.append(size), standardise(self, size))[1])
    Design(torch.rand(4, 2))
    Design(torch.rand(4, 2), max_bytes=7)
    cross_validate(torch.rand(4, 2), torch.eye(2).repeat(2, 1), torch.arange(4) // 2, lambda _: 1.0, kind="multi-label")
    assert limits == [4 * GIB, 7, 2 * GIB, 2 * GIB, 4 * GIB], "folds share the memory"
