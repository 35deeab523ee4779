"""Loading of the tokens that a probe reads: layers, normalisation, order and reading ahead."""

import dataclasses
import mmap
import threading

import pytest
import torch

from otoscope import bank as banks
from otoscope import probes
from otoscope.bank import _shuffle as shuffle
from otoscope.bank import _will_need
from otoscope.train import TrainingConfig, fit, fit_many, loader
from otoscope.types import Tokens, TokenShape
from toys import Ear, Tones

SMALL = {"cgp": {"prototypes": 11}}
NORMALISING = [name for name in probes.names() if probes.registry.get(name).normalises_tokens]


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    path = tmp_path_factory.mktemp("loader") / "bank"
    return banks.extract(Ear(), Tones(), path, layers="all", shard_clips=5, progress=False)


def probe_of(name, bank):
    layers = loader.choose_layers(None, probes.registry.get(name).uses_all_layers, bank.shape)
    shape = TokenShape(len(layers), bank.shape.freq, bank.shape.dim, bank.shape.has_cls, bank.shape.frame_rate)
    torch.manual_seed(0)
    return probes.create(name, shape, 3, **SMALL.get(name, {})).eval(), layers


def test_the_prototype_probes_normalise_tokens():
    assert {"cgp", "proto", "protobin", "protofloat"} <= set(NORMALISING)
    assert not {"linear", "mean", "mhca", "abmilp"} & set(NORMALISING)


@pytest.mark.parametrize("limit", [0, loader.IN_MEMORY])
@pytest.mark.parametrize("name", NORMALISING)
def test_a_probe_that_normalises_tokens_gets_normalised_tokens(bank, monkeypatch, name, limit):
    monkeypatch.setattr(loader, "IN_MEMORY", limit)
    module, layers = probe_of(name, bank)
    train, index = bank.split("train"), torch.tensor([40, 3, 3, 17])
    raw = train.tokens(index.tolist()).select_layers(layers)
    for load in (
        loader.split_loader(train, module.reads, layers, normalise=module.normalises_tokens),
        loader.tokens_loader(train.tokens(slice(None)), module.reads, layers, normalise=module.normalises_tokens),
    ):
        loaded = load(index)
        assert loaded.is_normalised
        assert torch.allclose(loaded.x.norm(dim=-1), torch.ones(loaded.x.shape[:-1]), atol=1e-6)
        assert torch.allclose(loaded.cls.norm(dim=-1), torch.ones(loaded.cls.shape[:-1]), atol=1e-6)
        assert not torch.allclose(raw.x, loaded.x, atol=0.1)
        with torch.no_grad():
            assert torch.allclose(module(loaded), module(raw), atol=1e-6, rtol=0)


@pytest.mark.parametrize("limit", [0, loader.IN_MEMORY])
def test_other_probes_get_tokens_as_stored(bank, monkeypatch, limit):
    monkeypatch.setattr(loader, "IN_MEMORY", limit)
    train, index = bank.split("train"), torch.tensor([5, 0])
    loaded = loader.split_loader(train, "tokens", (1,))(index)
    assert not loaded.is_normalised
    assert torch.equal(loaded.x, train.tokens([5, 0]).x[:, [1]])


def test_tokens_are_normalised_once_and_not_in_each_step(bank, monkeypatch):
    counts, normalised = [], Tokens.normalised

    def counted(self):
        if not self.is_normalised:
            counts.append(len(self))
        return normalised(self)

    monkeypatch.setattr(Tokens, "normalised", counted)
    once = fit("protobin", bank, TrainingConfig(epochs=1, batch_size=8), options={"prototypes_per_class": 3})
    after_one = sum(counts)
    counts.clear()
    fit("protobin", bank, TrainingConfig(epochs=3, batch_size=8), options={"prototypes_per_class": 3})
    assert sum(counts) == after_one
    counts.clear()
    once.predict_logits(bank.split("validation"))
    # the first clip is read once more, to estimate the size of the split
    assert sum(counts) == 1 + len(bank.split("validation"))


# Splits that are larger than memory

CONFIG = TrainingConfig(epochs=2, batch_size=8)
TRIALS = [dataclasses.replace(CONFIG, seed=seed, lr=lr) for seed, lr in ((0, 1e-2), (1, 1e-2), (0, 3e-3))]


@pytest.fixture
def on_disk(monkeypatch):
    monkeypatch.setattr(loader, "IN_MEMORY", 0)


@pytest.fixture
def reads(monkeypatch):
    """Rows and thread of every batch that is read from a train split."""
    batches, tokens = [], banks.BankSplit.tokens

    def counting(self, index, layers=None):
        if self.name == "train" and isinstance(index, list):
            batches.append((index, threading.current_thread().name))
        return tokens(self, index, layers)

    monkeypatch.setattr(banks.BankSplit, "tokens", counting)
    return batches


def readers():
    return [thread for thread in threading.enumerate() if "otoscope-reader" in thread.name]


def same(a, b):
    assert a.history == b.history
    state, other = a.module.state_dict(), b.module.state_dict()
    assert all(torch.equal(state[name], other[name]) for name in state)


@pytest.mark.parametrize("name", ["protobin", "cgp", "mhca"])
def test_training_from_disk_equals_training_from_memory(bank, monkeypatch, name):
    options = SMALL.get(name)
    from_memory = fit(name, bank, CONFIG, options=options), fit_many(name, bank, TRIALS, options=options)
    monkeypatch.setattr(loader, "IN_MEMORY", 0)
    same(fit(name, bank, CONFIG, options=options), from_memory[0])
    for result, expected in zip(fit_many(name, bank, TRIALS, options=options), from_memory[1], strict=True):
        same(result, expected)
    split = bank.split("validation")
    logits = from_memory[0].predict_logits(split, 5)
    monkeypatch.setattr(loader, "IN_MEMORY", 2**40)
    assert torch.equal(logits, from_memory[0].predict_logits(split, 5))


def open_shards(batches):
    """Largest number of shards that are open at once, from the first to the last reading of one of their clips."""
    shards = [row // 5 for batch in batches for row in batch]
    first = {shard: shards.index(shard) for shard in shards}
    last = {shard: position for position, shard in enumerate(shards)}
    return max(sum(first[s] <= position <= last[s] for s in first) for position in range(len(shards)))


def train_one(bank):
    fit("protofloat", bank, TrainingConfig(epochs=1, batch_size=8, resolve_head=False))


def train_many(bank):
    fit_many("protofloat", bank, [dataclasses.replace(config, epochs=1, resolve_head=False) for config in TRIALS[::2]])


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("train", [train_one, train_many])
def test_an_epoch_from_disk_reads_window_by_window(bank, monkeypatch, reads, train):
    train(bank)
    assert open_shards(rows for rows, _ in reads) > 5
    split = bank.split("train")
    stored = split.stored_bytes
    monkeypatch.setattr(shuffle, "WINDOW_BYTES", stored // 4)
    reads.clear()
    train(bank)
    assert sorted(row for rows, _ in reads for row in rows) == list(range(48))
    assert open_shards(rows for rows, _ in reads) <= 3
    assert {name for _, name in reads} == {"MainThread"}  # a thread would take a core from the computation


def test_clips_in_memory_are_shuffled_as_a_whole(bank, monkeypatch):
    monkeypatch.setattr(shuffle, "WINDOW_BYTES", 1)
    load = loader.split_loader(bank.split("train"), "mean", (1,))
    seeded = [torch.Generator().manual_seed(3) for _ in range(2)]
    assert torch.equal(loader.clip_order(load, 48, seeded[0]), torch.randperm(48, generator=seeded[1]))


@pytest.mark.usefixtures("on_disk")
def test_one_batch_is_read_in_advance_and_no_more(bank, monkeypatch):
    started, read = threading.Semaphore(0), []
    tokens = banks.BankSplit.tokens

    def counting(self, index, layers=None):
        if isinstance(index, list):
            read.append(index)
            started.release()
        return tokens(self, index, layers)

    load = loader.split_loader(bank.split("train"), "tokens", (1,))
    monkeypatch.setattr(banks.BankSplit, "tokens", counting)
    batches = torch.arange(48).split(8)
    with loader.prefetch(load, batches, torch.device("cuda")) as loaded:
        for number, tokens_loaded in enumerate(loaded):
            assert torch.equal(
                tokens_loaded.x, tokens(bank.split("train"), batches[number].tolist()).select_layers([1]).x
            )
            while len(read) < min(number + 2, len(batches)):  # without requesting it
                assert started.acquire(timeout=20)
            assert len(read) <= number + 1 + loader.PREFETCHED
    assert read == [batch.tolist() for batch in batches]
    assert not readers()


@pytest.mark.usefixtures("on_disk")
def test_on_the_cpu_the_operating_system_reads_the_next_batch_in_advance(bank, reads, monkeypatch):
    announced = []
    monkeypatch.setattr(banks.BankSplit, "announce", lambda *arguments: announced.append(arguments[1:]))
    load = loader.split_loader(bank.split("train"), "tokens", (1,))
    batches = torch.arange(48).split(16)
    with loader.prefetch(load, batches, torch.device("cpu")) as loaded:
        for number, tokens in enumerate(loaded):
            assert torch.equal(tokens.x, load(batches[number]).x)
            assert announced == [(batch.tolist(), (1,)) for batch in batches[1 : number + 2]]
    assert {name for _, name in reads} == {"MainThread"}


@pytest.mark.parametrize("layers", [None, [1], [-1, 0]])
def test_rows_are_announced_as_whole_pages_of_shards_that_are_open(bank, monkeypatch, layers):
    split, advised = banks.open(bank.path).split("train"), []
    split.tokens([0, 6])  # shards 0 and 1 of five clips each
    monkeypatch.setattr(_will_need, "_advise", lambda: lambda *arguments: advised.append(arguments))
    split.announce([3, 4, 5, 22], layers)
    maps = split._reader._maps
    assert list(maps) == [0, 1]
    for tensors, rows in ((maps[0], (3, 4)), (maps[1], (0,))):
        for row in rows:
            for layer in range(split.shape.layers) if layers is None else layers:
                part = tensors["x"][row, layer]
                first, last = part.ctypes.data, part.ctypes.data + part.nbytes
                assert any(start <= first and last <= start + length for start, length, _ in advised)
    assert {advice for *_, advice in advised} == {mmap.MADV_WILLNEED}
    assert all(start % mmap.PAGESIZE == 0 for start, *_ in advised)


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("train", [train_one, train_many])
def test_a_read_error_is_raised_by_the_training(bank, monkeypatch, train):
    tokens, remaining = banks.BankSplit.tokens, [3]

    def failing(self, index, layers=None):
        if self.name == "train" and isinstance(index, list):
            remaining[0] -= 1
            if remaining[0] < 0:
                raise OSError(5, "the disk is gone")
        return tokens(self, index, layers)

    monkeypatch.setattr(banks.BankSplit, "tokens", failing)
    with pytest.raises(OSError, match="the disk is gone"):
        train(bank)
    assert remaining[0] >= -1 - loader.PREFETCHED
    assert not readers()


@pytest.mark.usefixtures("on_disk")
def test_an_interrupted_loop_ends_the_reader_thread(bank, reads):
    load = loader.split_loader(bank.split("train"), "tokens", (1,))
    batches, device = torch.arange(48).split(4), torch.device("cuda")
    with pytest.raises(KeyboardInterrupt), loader.prefetch(load, batches, device) as loaded:  # noqa: PT012
        next(loaded)
        raise KeyboardInterrupt
    assert not readers()
    assert len(reads) <= 1 + loader.PREFETCHED


@pytest.mark.parametrize("limit", [0, loader.IN_MEMORY])
def test_only_the_chosen_layers_are_read(bank, monkeypatch, limit):
    monkeypatch.setattr(loader, "IN_MEMORY", limit)
    copied, read = [], banks.BankSplit._read

    def counting(self, rows, layers=None):
        from_memory = read(self, rows, layers)
        copied.append(from_memory["x"].shape[1])
        return from_memory

    monkeypatch.setattr(banks.BankSplit, "_read", counting)
    fit("protofloat", bank, TrainingConfig(epochs=1, batch_size=8, resolve_head=False))
    assert set(copied) == {1}


def test_a_loader_that_keeps_nothing_reads_each_batch_from_disk(bank):
    train, index = bank.split("train"), torch.tensor([5, 2, 2])
    kept, streamed = (loader.split_loader(train, "tokens", (1,), in_memory=limit) for limit in (None, 0))
    assert [isinstance(load, loader.DiskLoader) for load in (kept, streamed)] == [False, True]
    assert torch.equal(kept(index).x, streamed(index).x)


@pytest.mark.parametrize(("processes", "on_disk"), [(1, False), (2, True)])
def test_processes_that_share_memory_keep_smaller_maps(bank, monkeypatch, processes, on_disk):
    train = bank.split("train")
    size = 4 * train.tokens(slice(0, 1), [1]).x.numel() * len(train)
    monkeypatch.setattr(loader, "IN_MEMORY", size)
    monkeypatch.setattr(loader, "_processes", 1)  # restored after the test
    loader.share_memory(processes)
    assert isinstance(loader.split_loader(train, "tokens", (1,)), loader.DiskLoader) == on_disk


def test_results_do_not_depend_on_the_number_of_processes(bank, monkeypatch):
    monkeypatch.setattr(shuffle, "WINDOW_BYTES", 1)  # so that a split on disk has another order
    monkeypatch.setattr(loader, "_processes", 1)
    config = TrainingConfig(epochs=2, batch_size=8)
    alone = fit("protofloat", bank, config)
    loader.share_memory(10**12)
    shared = fit("protofloat", bank, config)
    assert isinstance(loader.split_loader(bank.split("train"), "tokens", (1,)), loader.DiskLoader)
    assert shared.validation == alone.validation
    for name, tensor in alone.module.state_dict().items():
        assert torch.equal(tensor, shared.module.state_dict()[name])
