"""What the training loops are served: the part of a bank that a probe reads, once, in the length it reads it."""

import dataclasses
import threading

import pytest
import torch

from otoscope import bank as banks
from otoscope import probes
from otoscope.bank import _shuffle as shuffle
from otoscope.train import TrainingConfig, fit, fit_many, loader
from otoscope.types import Tokens, TokenShape
from toys import Ear, Tones

SMALL = {"cgp": {"prototypes": 11}}
UNIT = [name for name in probes.names() if probes.registry.get(name).normalises_tokens]


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    path = tmp_path_factory.mktemp("feed") / "bank"
    return banks.extract(Ear(), Tones(), path, layers="all", shard_clips=5, progress=False)


def probe_of(name, bank):
    layers = loader.choose_layers(None, probes.registry.get(name).uses_all_layers, bank.shape)
    shape = TokenShape(len(layers), bank.shape.freq, bank.shape.dim, bank.shape.has_cls, bank.shape.frame_rate)
    torch.manual_seed(0)
    return probes.create(name, shape, 3, **SMALL.get(name, {})).eval(), layers


def test_probes_of_directions_are_known():
    assert {"cgp", "proto", "protobin", "protofloat"} <= set(UNIT)
    assert not {"linear", "mean", "mhca", "abmilp"} & set(UNIT)


@pytest.mark.parametrize("limit", [0, loader.IN_MEMORY])
@pytest.mark.parametrize("name", UNIT)
def test_a_probe_of_directions_is_served_them(bank, monkeypatch, name, limit):
    monkeypatch.setattr(loader, "IN_MEMORY", limit)
    module, layers = probe_of(name, bank)
    train, index = bank.split("train"), torch.tensor([40, 3, 3, 17])
    raw = train.tokens(index.tolist()).select_layers(layers)
    for serve in (
        loader.split_loader(train, module.reads, layers, normalise=module.normalises_tokens),
        loader.tokens_loader(train.tokens(slice(None)), module.reads, layers, normalise=module.normalises_tokens),
    ):
        served = serve(index)
        assert served.is_normalised
        assert torch.allclose(served.x.norm(dim=-1), torch.ones(served.x.shape[:-1]), atol=1e-6)
        assert torch.allclose(served.cls.norm(dim=-1), torch.ones(served.cls.shape[:-1]), atol=1e-6)
        assert not torch.allclose(raw.x, served.x, atol=0.1)
        with torch.no_grad():
            assert torch.allclose(module(served), module(raw), atol=1e-6, rtol=0)


@pytest.mark.parametrize("limit", [0, loader.IN_MEMORY])
def test_other_probes_are_served_lengths_too(bank, monkeypatch, limit):
    monkeypatch.setattr(loader, "IN_MEMORY", limit)
    train, index = bank.split("train"), torch.tensor([5, 0])
    served = loader.split_loader(train, "tokens", (1,))(index)
    assert not served.is_normalised
    assert torch.equal(served.x, train.tokens([5, 0]).x[:, [1]])


def test_tokens_are_normalised_once_and_not_in_each_step(bank, monkeypatch):
    work, unit = [], Tokens.normalised

    def counted(self):
        if not self.is_normalised:
            work.append(len(self))
        return unit(self)

    monkeypatch.setattr(Tokens, "normalised", counted)
    once = fit("protobin", bank, TrainingConfig(epochs=1, batch_size=8), options={"prototypes_per_class": 3})
    after_one = sum(work)
    work.clear()
    fit("protobin", bank, TrainingConfig(epochs=3, batch_size=8), options={"prototypes_per_class": 3})
    assert sum(work) == after_one
    work.clear()
    once.predict_logits(bank.split("validation"))
    assert sum(work) == 1 + len(bank.split("validation"))  # the first clip tells how large the split is


# Splits that are larger than memory

SHORT = TrainingConfig(epochs=2, batch_size=8)
TRIALS = [dataclasses.replace(SHORT, seed=seed, lr=lr) for seed, lr in ((0, 1e-2), (1, 1e-2), (0, 3e-3))]


@pytest.fixture
def on_disk(monkeypatch):
    monkeypatch.setattr(loader, "IN_MEMORY", 0)


@pytest.fixture
def reads(monkeypatch):
    """Rows and thread of every batch that is read of a train split."""
    found, tokens = [], banks.BankSplit.tokens

    def watched(self, index, layers=None):
        if self.name == "train" and isinstance(index, list):
            found.append((index, threading.current_thread().name))
        return tokens(self, index, layers)

    monkeypatch.setattr(banks.BankSplit, "tokens", watched)
    return found


def readers():
    return [thread for thread in threading.enumerate() if "otoscope-reader" in thread.name]


def same(a, b):
    assert a.history == b.history
    state, other = a.module.state_dict(), b.module.state_dict()
    assert all(torch.equal(state[name], other[name]) for name in state)


@pytest.mark.parametrize("name", ["protobin", "cgp", "mhca"])
def test_training_from_disk_gives_what_memory_gives(bank, monkeypatch, name):
    options = SMALL.get(name)
    held = fit(name, bank, SHORT, options=options), fit_many(name, bank, TRIALS, options=options)
    monkeypatch.setattr(loader, "IN_MEMORY", 0)
    same(fit(name, bank, SHORT, options=options), held[0])
    for found, expected in zip(fit_many(name, bank, TRIALS, options=options), held[1], strict=True):
        same(found, expected)
    split = bank.split("validation")
    logits = held[0].predict_logits(split, 5)
    monkeypatch.setattr(loader, "IN_MEMORY", 2**40)
    assert torch.equal(logits, held[0].predict_logits(split, 5))


def visits(batches):
    """Most shards that are open at once: between the first and the last reading of a clip of theirs."""
    shards = [row // 5 for batch in batches for row in batch]
    first = {shard: shards.index(shard) for shard in shards}
    last = {shard: place for place, shard in enumerate(shards)}
    return max(sum(first[s] <= place <= last[s] for s in first) for place in range(len(shards)))


def train_one(bank):
    fit("protofloat", bank, TrainingConfig(epochs=1, batch_size=8))


def train_many(bank):
    fit_many("protofloat", bank, [dataclasses.replace(config, epochs=1) for config in TRIALS[::2]])


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("train", [train_one, train_many])
def test_an_epoch_from_disk_goes_window_by_window(bank, monkeypatch, reads, train):
    train(bank)
    assert visits(rows for rows, _ in reads) > 5
    split = bank.split("train")
    stored = split.stored_bytes
    monkeypatch.setattr(shuffle, "WINDOW", stored // 4)
    reads.clear()
    train(bank)
    assert sorted(row for rows, _ in reads for row in rows) == list(range(48))
    assert visits(rows for rows, _ in reads) <= 3
    assert {name for _, name in reads} == {"otoscope-reader_0"}
    assert not readers()


def test_what_is_in_memory_is_shuffled_as_a_whole_however_large_the_bank(bank, monkeypatch):
    monkeypatch.setattr(shuffle, "WINDOW", 1)
    serve = loader.split_loader(bank.split("train"), "mean", (1,))
    seeded = [torch.Generator().manual_seed(3) for _ in range(2)]
    assert torch.equal(loader.order(serve, 48, seeded[0]), torch.randperm(48, generator=seeded[1]))


@pytest.mark.usefixtures("on_disk")
def test_the_next_batch_is_read_while_one_is_computed_on_and_no_more(bank, monkeypatch):
    started, read = threading.Semaphore(0), []
    tokens = banks.BankSplit.tokens

    def watched(self, index, layers=None):
        if isinstance(index, list):
            read.append(index)
            started.release()
        return tokens(self, index, layers)

    serve = loader.split_loader(bank.split("train"), "tokens", (1,))
    monkeypatch.setattr(banks.BankSplit, "tokens", watched)
    batches = torch.arange(48).split(8)
    with loader.prefetch(serve, batches) as served:
        for number, tokens_served in enumerate(served):
            assert torch.equal(
                tokens_served.x, tokens(bank.split("train"), batches[number].tolist()).select_layers([1]).x
            )
            while len(read) < min(number + 2, len(batches)):  # without asking for it
                assert started.acquire(timeout=20)
            assert len(read) <= number + 1 + loader.AHEAD
    assert read == [batch.tolist() for batch in batches]


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("train", [train_one, train_many])
def test_a_failing_read_is_raised_by_the_loop(bank, monkeypatch, train):
    tokens, left = banks.BankSplit.tokens, [3]

    def failing(self, index, layers=None):
        if self.name == "train" and isinstance(index, list):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(5, "the disk is gone")
        return tokens(self, index, layers)

    monkeypatch.setattr(banks.BankSplit, "tokens", failing)
    with pytest.raises(OSError, match="the disk is gone"):
        train(bank)
    assert left[0] >= -1 - loader.AHEAD
    assert not readers()


@pytest.mark.usefixtures("on_disk")
def test_a_failing_loop_leaves_no_thread(bank, reads):
    serve = loader.split_loader(bank.split("train"), "tokens", (1,))
    with pytest.raises(KeyboardInterrupt), loader.prefetch(serve, torch.arange(48).split(4)) as served:  # noqa: PT012
        next(served)
        raise KeyboardInterrupt
    assert not readers()
    assert len(reads) <= 1 + loader.AHEAD


@pytest.mark.parametrize("limit", [0, loader.IN_MEMORY])
def test_no_other_layers_are_read(bank, monkeypatch, limit):
    monkeypatch.setattr(loader, "IN_MEMORY", limit)
    copied, read = [], banks.BankSplit._read

    def watched(self, rows, layers=None):
        held = read(self, rows, layers)
        copied.append(held["x"].shape[1])
        return held

    monkeypatch.setattr(banks.BankSplit, "_read", watched)
    fit("protofloat", bank, TrainingConfig(epochs=1, batch_size=8))
    assert set(copied) == {1}
