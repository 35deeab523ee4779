"""The order of an epoch: random, and window by window from disk."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope import bank as banks
from otoscope.bank import _shuffle as shuffle
from otoscope.sampling import with_few_shot, with_validation
from toys import Ear, Tones

LAYOUTS = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 50)), min_size=1, max_size=12)  # clips, bytes of a clip


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def shards_and_sizes(layout):
    counts, sizes = (torch.tensor(column) for column in zip(*layout, strict=True))
    return torch.arange(len(layout)).repeat_interleave(counts), sizes


@settings(deadline=None, max_examples=40)
@given(LAYOUTS, st.integers(1, 300), st.integers(0, 3))
def test_order_goes_window_by_window(layout, limit, seed):
    shard, sizes = shards_and_sizes(layout)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "WINDOW_BYTES", limit)
        order = shuffle.shuffle(shard, sizes, seeded(seed))
        window = shuffle.assign_windows(torch.bincount(shard) * sizes, seeded(seed))
    assert order.dtype == torch.int64
    assert sorted(order.tolist()) == list(range(len(shard)))
    if int(sizes[shard].sum()) <= limit:
        assert torch.equal(order, torch.randperm(len(shard), generator=seeded(seed)))
        return
    opened = window[shard[order]]
    assert torch.equal(opened, opened.sort().values)  # every window, and so every shard, is opened once
    for number in range(int(window.max()) + 1):
        members = window == number
        weight = int((torch.bincount(shard) * sizes)[members].sum())
        assert weight <= limit or int(members.sum()) == 1


def test_windows_are_filled(monkeypatch):
    monkeypatch.setattr(shuffle, "WINDOW_BYTES", 100)
    window = shuffle.assign_windows(torch.full((24,), 25), seeded(0))
    assert torch.bincount(window).tolist() == [4] * 6


def test_every_epoch_has_another_order_and_the_seed_determines_it(monkeypatch):
    monkeypatch.setattr(shuffle, "WINDOW_BYTES", 64)
    shard, sizes = torch.arange(100).repeat_interleave(4), torch.full((100,), 4)
    generator = seeded(7)
    first, second = (shuffle.shuffle(shard, sizes, generator) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first, shuffle.shuffle(shard, sizes, seeded(7)))
    assert not torch.equal(first, shuffle.shuffle(shard, sizes, seeded(8)))
    shards_of_windows = [set(shard[window].tolist()) for window in torch.split(first, 16)]
    assert all(len(window) == 4 for window in shards_of_windows)  # four shards in each window
    assert any(max(window) - min(window) > 4 for window in shards_of_windows)  # which are not neighbours
    assert (first.view(25, 16).diff(dim=1) < 0).any(1).all()  # and whose rows are shuffled


def test_rows_and_windows_are_shuffled_evenly(monkeypatch):
    monkeypatch.setattr(shuffle, "WINDOW_BYTES", 8)
    shard, sizes, generator = torch.arange(4).repeat_interleave(2), torch.full((4,), 2), seeded(0)
    frequency = torch.zeros(8, 8)
    for _ in range(1000):
        frequency[shuffle.shuffle(shard, sizes, generator), torch.arange(8)] += 1
    assert (frequency / 1000 - 1 / 8).abs().max() < 0.04


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return banks.extract(Ear(), Tones(), tmp_path_factory.mktemp("b") / "b", shard_clips=5, progress=False)


def test_a_small_bank_is_shuffled_as_a_whole(bank):
    split = bank.split("train")
    assert torch.equal(split.order(seeded(3)), torch.randperm(48, generator=seeded(3)))


def test_a_large_split_and_its_subsets_are_read_shard_by_shard(bank, monkeypatch):
    train = bank.split("train")
    stored_bytes = train.stored_bytes
    assert stored_bytes == sum(tensor.nbytes for tensor in train._read(range(48)).values())
    monkeypatch.setattr(shuffle, "WINDOW_BYTES", stored_bytes // 4)
    rows = list(range(40, 3, -2))
    subset = train.subset(rows)
    for split, numbers in ((train, range(48)), (subset, rows)):
        order = split.order(seeded(1))
        assert sorted(order.tolist()) == list(range(len(split)))
        shards = [numbers[i] // 5 for i in order.tolist()]
        visits = [shard for i, shard in enumerate(shards) if shard not in shards[:i]]
        last = {shard: max(i for i, s in enumerate(shards) if s == shard) for shard in visits}
        open_at_once = max(sum(shards.index(s) <= i <= last[s] for s in visits) for i in range(len(shards)))
        assert open_at_once <= 5 < len(visits)
    assert not torch.equal(subset.order(seeded(1)), torch.randperm(len(subset), generator=seeded(1)))


def test_validation_cuts_and_few_shot_draws_have_an_order(bank):
    small = with_few_shot(with_validation(bank), 3).split("train")
    assert torch.equal(small.order(seeded(2)), torch.randperm(len(small), generator=seeded(2)))
