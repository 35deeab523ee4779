"""Extraction: workers that decode, batches of different lengths, long clips, autocast, compilation, recorded times."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers_banks import (
    RATE,
    VARIED,
    Sounds,
    Toy,
    encode_separately,
    every_kind,
    extract_quietly,
    file_contents,
    subclass_with,
)
from otoscope import bank as banks
from otoscope import encoders
from otoscope.audio.decode import AudioError
from otoscope.bank import _loader, _pipeline
from otoscope.bank._batches import BatchLimit, equal_length_batches, padded_batches
from otoscope.bank._encode import FrozenEncoder
from otoscope.bank.extraction import read_extractions
from otoscope.types import AudioBatch, Tokens
from toys import Ear, Tones, run_toy

MANY = (30, 3, 4)
"""With so many clips, the 14th is decoded by workers only: the size is estimated from the others."""

needs_fork = pytest.mark.skipif(not _loader.can_fork(), reason="workers need fork")


class Neutral(Toy):
    """A toy whose tokens depend neither on padding nor on other clips. `lengths` lists the steps of each batch."""

    revision, padding_neutral = 1, True

    def __init__(self):
        super().__init__()
        self.lengths = []

    def embed(self, features):
        self.lengths.append(features.lengths.tolist())
        x = torch.sin(features.x.mean(2)[:, None, :, None, None] * self.weight) * self.weight
        mask = torch.arange(x.shape[2])[None] < features.lengths[:, None]
        return Tokens(x.masked_fill(~mask[:, None, :, None, None], torch.nan), mask, x[:, :, 0, 0])


# The thread beside a GPU


@pytest.fixture
def batches_in_a_thread(monkeypatch):
    """An encoder on the CPU takes the way of one on a GPU: a thread prepares features, a batch at a time."""
    create = FrozenEncoder.__init__

    def initialise(self, *arguments, **options):
        create(self, *arguments, **options)
        self.loads_features = False

    monkeypatch.setattr(FrozenEncoder, "__init__", initialise)


in_a_thread = pytest.mark.usefixtures("batches_in_a_thread")


@in_a_thread
def test_a_thread_that_prepares_batches_changes_nothing(tmp_path, monkeypatch):
    data = Sounds(counts=(9, 3, 4), lengths=VARIED)
    encoder = Toy().train()
    extract_quietly(encoder, data, tmp_path / "thread")
    assert encoder.training
    monkeypatch.undo()
    extract_quietly(Toy(), data, tmp_path / "plain")
    assert file_contents(tmp_path / "thread") == file_contents(tmp_path / "plain")


@in_a_thread
def test_an_encoder_is_in_evaluation_mode_in_both_threads(tmp_path):
    modes = []

    class Recording(Toy):
        revision = 1

        def front_end(self, batch):
            modes.append(("front end", threading.current_thread().name, self.training, torch.is_grad_enabled()))
            return super().front_end(batch)

        def embed(self, features):
            modes.append(("body", threading.current_thread().name, self.training, torch.is_grad_enabled()))
            return super().embed(features)

    extract_quietly(Recording().train(), Sounds(counts=(20, 1, 1)), tmp_path / "b")
    assert ("front end", "otoscope-next-batch_0", False, False) in modes
    assert ("body", "MainThread", False, False) in modes
    assert not any(training or gradient for *_, training, gradient in modes)


@in_a_thread
def test_an_error_of_the_thread_names_the_clip_and_keeps_finished_shards(tmp_path):
    class Fails(Toy):
        revision = 1

        def front_end(self, batch):
            if batch.waves.shape[1] == 70:
                raise AudioError("too long")
            return super().front_end(batch)

    data = Sounds(counts=MANY, lengths=(60,) * 13 + (70,) + (60,) * 16)
    with pytest.raises(AudioError, match="too long\nin split 'train', clips train-13"):
        extract_quietly(Fails(), data, tmp_path / "b", splits=["train"])
    assert 4 <= len(list((tmp_path / "b" / "train").glob("shard-*"))) <= 6


def test_one_ahead_computes_one_item_more():
    computed = []

    def items():
        for item in range(5):
            computed.append(item)
            yield item

    with closing(_pipeline.one_ahead(items())) as ahead:
        assert next(ahead) == 0
    assert computed == [0, 1]
    assert list(_pipeline.one_ahead(items())) == [0, 1, 2, 3, 4]


# Workers


@needs_fork
@every_kind
@pytest.mark.parametrize("encoder", [Toy, Neutral])
@pytest.mark.parametrize("limits", [(2, 2), (1 << 26, 1 << 21), (150, 70)])
def test_workers_change_no_byte(tmp_path, monkeypatch, encoder, kind, limits):
    monkeypatch.setattr(_loader, "WAITING_VALUES", limits[0])
    monkeypatch.setattr(_loader, "_TASK_VALUES", limits[1])
    data = Sounds(counts=(11, 4, 4), lengths=VARIED, rate=RATE * 2)
    alone = extract_quietly(encoder(), data, tmp_path / "0", **kind, loader_workers=0)
    for workers in (1, 3):
        extract_quietly(encoder(), data, tmp_path / str(workers), **kind, loader_workers=workers)
        assert file_contents(tmp_path / str(workers)) == file_contents(alone.path)
        assert banks.open(tmp_path / str(workers)).extractions[0].loader_workers == workers


@needs_fork
def test_workers_report_the_same_faults(tmp_path, capsys):
    class Silent(Sounds):
        def wave(self, id, length):
            return super().wave(id, length) * (not id.endswith("1"))

    reports = []
    for workers in (0, 2):
        banks.extract(Toy(), Silent(), tmp_path / str(workers), loader_workers=workers)
        reports.append([line for line in capsys.readouterr().err.splitlines() if line.startswith("audio of")])
    assert reports[0] == reports[1]
    assert "audio of 14 clips: 3 clips ('train-1', 'validation-1', 'test-1') silent" in reports[0][0]


@needs_fork
def test_an_error_of_a_worker_names_the_clip_as_without_workers(tmp_path):
    class Broken(Sounds):
        def wave(self, id, length):
            return super().wave(id, length) * (np.nan if id == "train-13" else 1)

    for workers in (0, 2):
        with pytest.raises(AudioError, match=r"clip 'train-13' of split 'train': its audio has NaN"):
            extract_quietly(Toy(), Broken(counts=MANY), tmp_path / str(workers), loader_workers=workers)


@needs_fork
def test_an_error_that_cannot_be_pickled_keeps_its_text_and_its_note(tmp_path):
    class LocalError(Exception):
        def __init__(self, first, second):
            super().__init__(f"{first} and {second}")

    class Broken(Sounds):
        def wave(self, id, length):
            if id == "train-13":
                raise LocalError("one", "two")
            return super().wave(id, length)

    with pytest.raises(RuntimeError, match="LocalError: one and two") as caught:
        extract_quietly(Toy(), Broken(counts=MANY), tmp_path / "b", loader_workers=1)
    assert caught.value.__notes__ == ["in split 'train', clips train-13"]


@needs_fork
def test_a_worker_that_is_killed_ends_the_extraction_with_advice(tmp_path):
    main = os.getpid()

    class Fatal(Sounds):
        def wave(self, id, length):
            if id == "train-13" and os.getpid() != main:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().wave(id, length)

    with pytest.raises(banks.BankError, match=r"a loader worker ended abruptly.*fewer --loader-workers"):
        extract_quietly(Toy(), Fatal(counts=MANY), tmp_path / "b", loader_workers=2)


KILLED = """
import os, signal, sys, time
sys.path.insert(0, {tests!r})
from helpers_banks import Sounds, Toy, extract_quietly

class Slow(Sounds):
    def wave(self, id, length):
        if os.getpid() != main:
            print(os.getpid(), flush=True)
        time.sleep(0.05)
        return super().wave(id, length)

main = os.getpid()
class Fatal(Toy):
    revision = 1
    def embed(self, features):
        if len(self.calls) == 9:
            os.kill(main, signal.SIGKILL)
        return super().embed(features)

Fatal.__name__ = "Toy"
extract_quietly(Fatal(), Slow(), {folder!r}, loader_workers=2)
"""


@needs_fork
def test_workers_end_with_a_main_process_that_is_killed(tmp_path):
    code = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "b"))
    run = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=300, text=True)
    assert run.returncode == -signal.SIGKILL
    workers = {int(line) for line in run.stdout.split()}
    assert len(workers) == 2  # both have closed stdout, else run() would not have returned


def test_workers_are_not_started_for_few_clips_or_in_daemons(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr(_loader, "available_cores", lambda: 12)
    monkeypatch.setattr(_loader, "can_fork", lambda: True)
    assert [_loader.default_workers(n, cpu) for n in (255, 256)] == [0, 3]
    assert [_loader.default_workers(n, cuda) for n in (31, 32)] == [0, 11]
    monkeypatch.setattr(_loader, "can_fork", lambda: False)
    assert _loader.default_workers(1000, cuda) == 0
    message = "2 loader workers were requested; they are available on Linux"
    with pytest.raises(ValueError, match=message), _loader.loaded([], FrozenEncoder(Toy()), 2):
        pass


@needs_fork
@pytest.mark.parametrize(("limits", "ahead"), [((100, 100), 2), ((1 << 26, 240), 32)], ids=["long clips", "many clips"])
def test_few_clips_wait_for_the_encoder(monkeypatch, limits, ahead):
    """Of long clips, one for each worker is decoded ahead; of short ones, four tasks for each worker."""
    monkeypatch.setattr(_loader, "WAITING_VALUES", limits[0])
    monkeypatch.setattr(_loader, "_TASK_VALUES", limits[1])
    clips, loaded = Sounds(counts=(90, 1, 1)).clips("train"), []
    submit = _loader._submit
    monkeypatch.setattr(_loader, "_submit", lambda pool, rows, slot: (loaded.extend(rows), submit(pool, rows, slot))[1])
    with _loader.loaded(clips, FrozenEncoder(Toy()), 2) as in_order:
        for number, clip in enumerate(in_order):
            assert clip.samples == 60
            assert np.array_equal(clip.features.x.flatten(), clips[number].audio)
            assert len(loaded) <= number + 1 + ahead
    assert loaded == list(range(90))


# Batches


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=60), st.integers(1, 9), st.integers(1, 2000))
def test_batches_have_every_clip_once_and_keep_the_limits(lengths, clips, samples):
    def padded(length):
        return -(-length // 50) * 50

    limit = BatchLimit(clips, samples)
    for batches in (list(equal_length_batches(lengths, limit)), list(padded_batches(lengths, limit, padded))):
        assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
        assert all(len(batch) <= clips for batch in batches)
    assert all(len({lengths[row] for row in batch}) == 1 for batch in equal_length_batches(lengths, limit))
    for batch in equal_length_batches(lengths, limit):
        assert len(batch) == 1 or sum(lengths[row] for row in batch) <= samples
    for batch in padded_batches(lengths, limit, padded):
        costs = [padded(lengths[row]) for row in batch]
        assert len(batch) == 1 or len(batch) * max(costs) <= samples
        assert sum(costs) >= 0.8 * len(batch) * max(costs)


@pytest.mark.parametrize("content", ["tokens", "pooled"])
def test_clips_of_similar_lengths_are_encoded_together_if_padding_is_neutral(tmp_path, content):
    data = Sounds(counts=(8, 1, 1), lengths=(500, 600, 550, 570))
    encoder = Neutral()
    bank = extract_quietly(encoder, data, tmp_path / "b", shard_clips=8, batch_size=4, content=content, dtype="float32")
    assert encoder.lengths[-4:-2] == [[60, 60, 57, 57], [55, 55, 50, 50]]
    train = bank.split("train")
    for row, clip in enumerate(data.clips("train")):
        expected = encode_separately(Neutral(), clip).select_layers([2])
        steps = int(expected.mask.sum())
        stored = train.tokens([row]) if content == "tokens" else train.pooled().select_clips(torch.tensor([row]))
        wanted = expected.x if content == "tokens" else expected.pooled().x
        torch.testing.assert_close(stored.x[:, :, : wanted.shape[2]], wanted)
        assert content == "pooled" or int(stored.mask.sum()) == steps
        torch.testing.assert_close(stored.cls, expected.cls)


def test_clips_of_different_lengths_are_encoded_separately_if_padding_is_not_neutral(tmp_path):
    class Lengths(Neutral):
        revision, padding_neutral = 1, False

    encoder = Lengths()
    extract_quietly(encoder, Sounds(counts=(8, 1, 1), lengths=(500, 600)), tmp_path / "b", shard_clips=8, batch_size=3)
    assert all(len(set(lengths)) == 1 for lengths in encoder.lengths)
    assert encoder.lengths[-6:-2] == [[50, 50, 50], [50], [60, 60, 60], [60]]


def test_padded_length_decides_which_clips_cost_the_same(tmp_path):
    windows = subclass_with(Neutral, padded_length=lambda _, samples: -(-samples // 600) * 600)
    encoder = windows()
    extract_quietly(
        encoder, Sounds(counts=(4, 1, 1), lengths=(50, 600, 300, 550)), tmp_path / "b", shard_clips=4, batch_size=4
    )
    assert encoder.lengths[-3] == [60, 55, 30, 5]


def test_a_batch_has_at_most_the_given_duration(tmp_path):
    encoder = Neutral()
    data = Sounds(counts=(8, 1, 1), lengths=(500,))
    extract_quietly(encoder, data, tmp_path / "b", shard_clips=8, batch_size=8, batch_seconds=16)
    assert encoder.lengths[-5:-2] == [[50] * 3, [50] * 3, [50] * 2]


def test_long_clips_of_a_shard_are_encoded_group_by_group(tmp_path, monkeypatch):
    data = Sounds(counts=(8, 1, 1), lengths=(500, 600, 550, 570))
    whole = extract_quietly(Neutral(), data, tmp_path / "whole", shard_clips=8, batch_size=1, dtype="float32")
    monkeypatch.setattr(_pipeline, "WAITING_VALUES", 1600)
    encoder = Neutral()
    bank = extract_quietly(encoder, data, tmp_path / "b", shard_clips=8, batch_size=4, dtype="float32")
    assert encoder.lengths[-5:-2] == [[60, 55, 50], [60, 57, 50], [57, 55]]
    for name in ("x", "mask", "cls"):
        torch.testing.assert_close(
            getattr(bank.split("train").tokens(range(8)), name), getattr(whole.split("train").tokens(range(8)), name)
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_seconds": 0.0}, "batch_seconds must be above 0, got 0.0"),
        ({"batch_seconds": float("nan")}, "batch_seconds must be above 0, got nan"),
        ({"loader_workers": -1}, "loader_workers must be at least 0, got -1"),
    ],
)
def test_options_are_checked(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        banks.extract(Toy(), Sounds(), tmp_path / "b", **options)


# Precision and compilation


def test_autocast_is_an_option_of_every_encoder_and_part_of_its_identity():
    plain, half = (
        encoders.create("tiny", weights="random"),
        encoders.create("tiny", weights="random", autocast="bfloat16"),
    )
    assert (plain.autocast, half.autocast) == (None, "bfloat16")
    assert plain.options_text == '{"weights": "random"}'
    assert half.options_text == '{"autocast": "bfloat16", "weights": "random"}'
    assert plain.identity_digest != half.identity_digest
    assert plain.digest == half.digest
    wave = (0.1 * np.random.default_rng(0).standard_normal(32000)).astype(np.float32)
    x, y = (encoder.encode(AudioBatch.of([wave], 16000)).x for encoder in (plain, half))
    assert x.dtype == y.dtype == torch.float32
    assert not torch.equal(x, y)
    assert float((x - y).norm() / x.norm()) < 0.02
    with pytest.raises(ValueError, match="encoder 'tiny': autocast='int4'; allowed: bfloat16, float16, or None"):
        encoders.create("tiny", autocast="int4")


def test_the_front_end_is_not_computed_in_the_precision_of_autocast():
    plain, half = encoders.create("tiny"), encoders.create("tiny", autocast="bfloat16")
    batch = AudioBatch.of([np.linspace(-0.1, 0.1, 16000, dtype=np.float32)], 16000)
    seen = []
    half.embed = lambda features: (seen.append(features), plain.embed(features))[1]
    half.encode(batch)
    assert torch.equal(seen[0].x, plain.front_end(batch).x)


def test_a_bank_in_another_precision_is_another_bank(tmp_path):
    data = Tones(sizes={"train": 4, "validation": 4, "test": 4})
    banks.extract(Ear(), data, tmp_path / "b", progress=False)
    half = Ear()
    half.autocast = "bfloat16"
    with pytest.raises(banks.MismatchError, match=r"encoder_options: requested.*autocast.*bfloat16.*stored '{}'"):
        banks.extract(half, data, tmp_path / "b", progress=False)


def test_the_encoder_is_compiled_on_request(tmp_path, monkeypatch):
    compiled = []

    def compile(function):
        compiled.append(function)
        return lambda features, layers: replace_cls(function(features, layers), 7)

    def replace_cls(tokens, value):
        return Tokens(tokens.x, tokens.mask, torch.full_like(tokens.cls, value))

    monkeypatch.setattr(torch, "compile", compile)
    encoder = Toy()
    bank = extract_quietly(encoder, Sounds(), tmp_path / "b", compile=True)
    assert [function.__self__ for function in compiled] == [encoder]
    assert bank.split("train").tokens([0]).cls.unique().tolist() == [7]
    assert bank.extractions[0].compiled
    assert not extract_quietly(Toy(), Sounds(), tmp_path / "c").extractions[0].compiled


# The record of times


def test_where_the_time_went_is_recorded_and_printed(tmp_path, capsys):
    banks.extract(Toy(), Sounds(counts=(7, 3, 4)), tmp_path / "b", batch_size=5)
    (extraction,) = banks.open(tmp_path / "b").extractions
    assert (extraction.clips, extraction.audio_seconds, extraction.batch_size) == (14, 14 * 0.6, 5)
    assert (extraction.device, extraction.loader_workers, extraction.threads) == ("cpu", 0, torch.get_num_threads())
    parts = {"audio", "front end", "encoder", "storing"}
    assert set(extraction.seconds) == parts | {"total"}
    assert all(extraction.seconds[part] > 0 for part in parts)
    assert sum(extraction.share(part) for part in parts) <= 1
    assert str(extraction) in capsys.readouterr().err


def test_the_slow_part_has_the_largest_share(tmp_path, monkeypatch):
    import time

    def slowly(function):
        def call(*arguments):
            time.sleep(0.02)
            return function(*arguments)

        return call

    def shares(encoder, data):
        extraction = extract_quietly(encoder, data, tmp_path / str(len(list(tmp_path.iterdir())))).extractions[0]
        return {part: extraction.share(part) for part in ("audio", "front end", "encoder", "storing")}

    slow_audio = Sounds()
    slow_audio.wave = slowly(slow_audio.wave)
    assert shares(Toy(), slow_audio)["audio"] > 0.6
    for method, part in (("front_end", "front end"), ("embed", "encoder")):
        slow = subclass_with(Toy, **{method: slowly(getattr(Toy, method))})
        assert shares(slow(), Sounds())[part] > 0.6
    from otoscope.bank import _store

    monkeypatch.setattr(_store, "stored", slowly(_store.stored))
    assert shares(Toy(), Sounds())["storing"] > 0.6


def test_each_extraction_that_encodes_something_is_recorded(tmp_path):
    extract_quietly(Toy(), Sounds(), tmp_path / "b")
    extract_quietly(Toy(), Sounds(), tmp_path / "b")
    (tmp_path / "b" / "test" / "shard-00001.safetensors").unlink()
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b")
    assert [extraction.clips for extraction in bank.extractions] == [14, 2]


def test_a_damaged_record_is_named_and_replaced(tmp_path):
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b")
    (bank.path / "extraction.json").write_text('{"extractions": [{"clips": "x"}]}')
    with pytest.raises(banks.DamagedError, match=r"extraction\.json is damaged.*delete it"):
        read_extractions(bank.path)
    (bank.path / "test" / "shard-00001.safetensors").unlink()
    assert [each.clips for each in extract_quietly(Toy(), Sounds(), bank.path).extractions] == [2]


def test_a_bank_without_a_record_has_no_extractions(tmp_path):
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b")
    (bank.path / "extraction.json").unlink()
    assert banks.open(bank.path).extractions == ()


# The thread that writes


def test_an_error_of_the_thread_that_writes_ends_the_extraction(tmp_path):
    many = Sounds(counts=(40, 1, 1))
    encoder = Toy(scale=1e5)
    with pytest.raises(banks.BankError, match=r"overflows torch\.float16"):
        extract_quietly(encoder, many, tmp_path / "b", shard_clips=40)
    assert sum(encoder.calls) < 20  # not after all clips


def test_tokens_are_returned_on_the_cpu_with_the_requested_layers():
    clips, frozen = Sounds().clips("train")[:2], FrozenEncoder(Toy())
    tokens = frozen.encode(clips, [frozen.load(clip) for clip in clips], (2, 0))
    expected = encode_separately(Toy(), clips[0]).select_layers((2, 0))
    torch.testing.assert_close(tokens.x[:1], expected.x, equal_nan=True)


def test_front_ends_on_a_device_compute_batches_of_waveforms():
    """As beside a GPU, but on the CPU."""
    clips, frozen, device = (
        Sounds(lengths=(50, 60)).clips("train")[:2],
        FrozenEncoder(Neutral()),
        FrozenEncoder(Neutral()),
    )
    device.loads_features = False
    loaded = [device.load(clip) for clip in clips]
    assert all(np.array_equal(each.wave, clip.audio) for each, clip in zip(loaded, clips, strict=True))
    assert [each.values for each in loaded] == [each.samples for each in loaded] == [50, 60]
    tokens, expected = device.encode(clips, loaded), frozen.encode(clips, [frozen.load(clip) for clip in clips])
    torch.testing.assert_close(tokens.x, expected.x, equal_nan=True)
    assert torch.equal(tokens.mask, expected.mask)


@needs_fork
def test_workers_send_waveforms_to_an_encoder_on_a_device():
    clips, frozen = Sounds(counts=(30, 1, 1)).clips("train"), FrozenEncoder(Toy())
    frozen.loads_features = False
    with _loader.loaded(clips, frozen, 2) as in_order:
        for clip, loaded in zip(clips, in_order, strict=True):
            assert loaded.features is None
            assert np.array_equal(loaded.wave, clip.audio)


# The command line


@pytest.mark.usefixtures("isolated_registries")
def test_the_command_line_passes_all_options(tmp_path, monkeypatch):
    from conftest import TOY_PLUGIN

    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.py").write_text(TOY_PLUGIN)
    options = ["--batch-size", "3", "--batch-seconds", "2.5", "--shard-clips", "20", "--loader-workers", "0"]
    assert run_toy("extract", "--bank", "b", *options, "--autocast", "bfloat16") == 0
    bank = banks.open(tmp_path / "b")
    (extraction,) = bank.extractions
    assert (extraction.batch_size, extraction.batch_seconds, extraction.loader_workers) == (3, 2.5, 0)
    assert (bank.identity.shard_clips, bank.identity.encoder_options) == (20, '{"autocast": "bfloat16"}')
    assert not extraction.compiled


@pytest.mark.parametrize("option", [["--batch-seconds", "0"], ["--batch-seconds", "nan"], ["--loader-workers", "-1"]])
def test_the_command_line_refuses_numbers_that_make_no_sense(option, capsys):
    with pytest.raises(SystemExit):
        run_toy("extract", *option)
    assert f"argument {option[0]}: {option[1]!r} is not a" in capsys.readouterr().err
