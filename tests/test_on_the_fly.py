"""Training and evaluation on clips that are encoded on the fly, compared with those on a stored bank."""

import threading
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from helpers_banks import VARIED, Sounds, Toy, every_kind
from helpers_suites import PLAIN, SOBOL, probe_specs, run_quietly
from otoscope import bank as banks
from otoscope import datasets, probes
from otoscope.audio.decode import AudioError
from otoscope.bank import BankError, _clip_encoder, _loader, _shuffle, encode_on_the_fly, take_turns
from otoscope.bank._pipeline import Loading
from otoscope.bank.read import open_held_out
from otoscope.bench import evaluation, runner
from otoscope.bench.specs import DatasetSpec, ProbeSpec
from otoscope.cli import main
from otoscope.registry import UnknownNameError
from otoscope.results import Store
from otoscope.sampling import with_few_shot, with_validation
from otoscope.train import DivergedError, TrainingConfig, fit, fit_many, fit_together, loader
from otoscope.types import Clip
from toys import Crossed, Ear, Tones, run_toy

CONFIG = TrainingConfig(epochs=2, batch_size=7, seed=3)


@pytest.fixture
def streamed(monkeypatch):
    """No tokens are kept in memory, and an epoch has several windows."""
    monkeypatch.setattr(_clip_encoder, "KEPT_BYTES", 0)
    monkeypatch.setattr(loader, "IN_MEMORY", 0)
    monkeypatch.setattr(_shuffle, "WINDOW_BYTES", 5000)


class CountingEar(Ear):
    """Counts the clips that it encodes."""

    def __init__(self):
        super().__init__()
        self.encoded = 0

    def embed(self, features):
        self.encoded += len(features.x)
        return super().embed(features)


def on_the_fly(encoder=None, dataset=None, **stored):
    return encode_on_the_fly(encoder or Ear(), dataset or Tones(), progress=False, **{"shard_clips": 8} | stored)


def stored_bank(folder, encoder=None, dataset=None, **stored):
    arguments = {"shard_clips": 8} | stored
    return banks.extract(encoder or Ear(), dataset or Tones(), folder / "bank", progress=False, **arguments)


def assert_same(fitted, expected, tokens, bank):
    assert fitted.protocol == expected.protocol
    assert [row["epoch"] for row in fitted.history if "epoch" in row] == [
        row["epoch"] for row in expected.history if "epoch" in row
    ]
    logits, target = (
        probe.predict_logits(open_held_out(from_bank)) for probe, from_bank in ((fitted, tokens), (expected, bank))
    )
    torch.testing.assert_close(logits, target, rtol=1e-4, atol=1e-5)


# Splits


@every_kind
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "encoded"])
def test_tokens_are_those_of_the_bank_bit_for_bit(tmp_path, monkeypatch, kind, kept):
    monkeypatch.setattr(_clip_encoder, "KEPT_BYTES", 2**30 if kept else 0)
    arguments = {"layers": [0, 2], "shard_clips": 2, "batch_size": 2} | kind
    pair = Toy(), Sounds(lengths=VARIED)
    bank, tokens = stored_bank(tmp_path, *pair, **arguments), on_the_fly(*pair, **arguments)
    assert tokens.identity == bank.identity
    assert (tokens.splits, tokens.task, tokens.shape, tokens.control) == (bank.splits, bank.task, bank.shape, False)
    for expected, split in ((bank.split("train"), tokens.split("train")), (open_held_out(bank), open_held_out(tokens))):
        assert (split.ids, split.events, split.groups, len(split)) == (
            expected.ids,
            expected.events,
            expected.groups,
            len(expected),
        )
        assert torch.equal(split.targets, expected.targets)
        assert (split.steps, split.stored_bytes) == (expected.steps, expected.stored_bytes)
        assert torch.equal(split.pooled().x, expected.pooled().x)
        if kind.get("content") == "pooled":
            with pytest.raises(BankError, match="pooled vectors"), split.batches([[0]]):
                pass
            continue
        rows = [1, 0, len(split) - 1]
        for layers in (None, [1]):
            one, other = split.tokens(rows, layers), expected.tokens(rows, layers)
            assert torch.equal(one.x, other.x)
            assert torch.equal(one.mask, other.mask)
            assert torch.equal(one.cls, other.cls)
        with split.subset([2, 1]).batches([[0], [1, 0]], [1]) as batches:
            assert [torch.equal(b.x, expected.tokens(r, [1]).x) for b, r in zip(batches, ([2], [1, 2]), strict=True)]


def test_a_split_that_fits_into_memory_is_encoded_once():
    encoder = CountingEar()
    tokens = on_the_fly(encoder)
    before = encoder.encoded
    fit("mean", tokens, CONFIG)
    fit("simpool", tokens, CONFIG)
    assert encoder.encoded - before == 48 + 24 + 1  # train and validation, and a clip to count the time steps


@pytest.mark.usefixtures("streamed")
def test_a_larger_split_is_encoded_in_every_epoch_with_the_layers_that_are_read(monkeypatch):
    encoder, layers_read = CountingEar(), set()
    tokens = on_the_fly(encoder, layers="all")
    stored = _clip_encoder.stored
    monkeypatch.setattr(
        _clip_encoder,
        "stored",
        lambda t, identity, clips: layers_read.add(identity.layers) or stored(t, identity, clips),
    )
    before = encoder.encoded
    fit("simpool", tokens, replace(CONFIG, standardise=False, resolve_head=False))
    assert encoder.encoded - before == 2 * (48 + 24) + 2 + 1  # and a clip of each split to measure its tokens
    assert layers_read == {(1,)}


@pytest.mark.usefixtures("streamed")
def test_an_epoch_has_the_order_of_the_bank(tmp_path):
    split, expected = (bank.split("train") for bank in (on_the_fly(), stored_bank(tmp_path)))
    order, target = (s.order(torch.Generator().manual_seed(1)) for s in (split, expected))
    assert torch.equal(order, target)
    assert not torch.equal(order, torch.randperm(48, generator=torch.Generator().manual_seed(1)))


def test_the_test_split_stays_closed():
    with pytest.raises(banks.HeldOutError, match="held out"):
        on_the_fly().split("test")


@pytest.mark.usefixtures("toy_suites")
def test_folds_share_what_is_encoded(tmp_path):
    whole = datasets.create("crossed")
    tokens, bank = on_the_fly(dataset=whole.fold(2)), stored_bank(tmp_path, dataset=whole.fold(2))
    assert (tokens.chosen_fold, tokens.splits) == (2, bank.splits)
    one, other = with_validation(tokens).split("validation"), with_validation(bank).split("validation")
    assert one.ids == other.ids
    assert torch.equal(one.tokens(slice(None)).x, other.tokens(slice(None)).x)
    Crossed.loaded.clear()
    with_validation(tokens.fold(1)).split("train").tokens([0])
    assert not Crossed.loaded
    with pytest.raises(
        ValueError, match=r"splits \['train'\] of one fold were requested, but a bank contains the clips"
    ):
        on_the_fly(dataset=whole.fold(2), splits=["train"])


# Training


@pytest.mark.usefixtures("streamed")
@pytest.mark.parametrize("probe", ["simpool", "protobin", "linear", "knn", "linear-frame", "wsum", "proto"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_probe_has_the_logits_and_the_protocol_of_the_bank(tmp_path, probe, workers):
    tokens, bank = on_the_fly(layers="all", loader_workers=workers), stored_bank(tmp_path, layers="all")
    fitted, expected = (fit(probe, each, CONFIG) for each in (tokens, bank))
    assert_same(fitted, expected, tokens, bank)


@pytest.mark.usefixtures("streamed")
def test_a_probe_has_the_record_of_the_bank(tmp_path):
    tokens, bank = on_the_fly(), stored_bank(tmp_path)
    record, expected = (evaluation.evaluate(fit("simpool", each, CONFIG), each) for each in (tokens, bank))
    assert record.key == expected.key
    assert record.value == pytest.approx(expected.value, abs=1e-6)


@pytest.mark.usefixtures("streamed")
def test_several_trials_and_a_few_shot_draw_are_those_of_the_bank(tmp_path):
    tokens, bank = (with_few_shot(each, 6) for each in (on_the_fly(), stored_bank(tmp_path)))
    configs = [replace(CONFIG, lr=lr) for lr in (1e-3, 1e-2)]
    for fitted, expected in zip(fit_many("mean", tokens, configs), fit_many("mean", bank, configs), strict=True):
        assert_same(fitted, expected, tokens, bank)


@pytest.mark.usefixtures("streamed")
def test_errors_name_the_clip_and_end_the_workers():
    class Broken(Tones):
        revision = 1

        def clips(self, split):
            clips = super().clips(split)
            missing = Clip("gone", lambda: clips[0].audio[:0], 1000, ("low",), (), split)
            return [*clips[:-1], missing] if split == "train" else clips

    with pytest.raises(AudioError, match="'gone' of split 'train'"):
        fit("simpool", on_the_fly(dataset=Broken(), loader_workers=1), CONFIG)
    assert not [thread for thread in threading.enumerate() if thread.name == "otoscope-turn"]


@pytest.mark.usefixtures("streamed")
def test_workers_load_ahead_of_the_encoder(monkeypatch):
    tokens, submitted = on_the_fly(loader_workers=1), []
    submit = _loader._submit
    monkeypatch.setattr(
        _loader, "_submit", lambda pool, rows, slot: submitted.append(len(rows)) or submit(pool, rows, slot)
    )
    with tokens.split("train").batches([[i] for i in range(48)]) as batches:
        next(batches)
        assert sum(submitted) > 8


def test_tokens_that_become_zeros_are_reported(monkeypatch):
    monkeypatch.setattr(_clip_encoder, "KEPT_BYTES", 0)

    class Faint(Ear):
        revision = 1

        def embed(self, features):
            tokens = super().embed(features)
            tokens.x[:, :, 0] *= 1e-9
            return tokens

    with pytest.warns(UserWarning, match="rounded to zeros in float16") as caught:
        fit("simpool", on_the_fly(Faint()), CONFIG)
    assert len(caught) <= 3  # one for each split, and one for the measurement of the speed
    with pytest.raises(BankError, match="not counted"):
        _ = on_the_fly().underflowed


class Silent(Sounds):
    """Sounds of which every eighth clip is silent."""

    def wave(self, id, length):
        return super().wave(id, length) * (not id.endswith("1"))


@pytest.mark.parametrize("progress", [True, False])
def test_silent_clips_are_reported_with_the_speed_if_progress_is_shown(capsys, progress):
    tokens = encode_on_the_fly(Toy(), Silent(), progress=progress)
    tokens.split("train")
    first, *others = capsys.readouterr().err.splitlines() or [""]
    assert first.startswith("sounds by toy, encoded on the fly: 14 clips, ") is progress
    assert first.endswith(" s of audio encoded per second") is progress
    assert all(": 1 clip ('train-1') silent" in line for line in others)
    assert len(others) == progress
    tokens.split("train")
    encode_on_the_fly(Toy(), Sounds(), progress=progress).split("train")
    assert "silent" not in capsys.readouterr().err


@pytest.mark.parametrize(("workers", "seconds"), [(None, 4 + 3), (0, 4 + 3), (1, 4 + 3), (2, 2 + 3), (8, 0.5 + 3)])
def test_the_speed_counts_loading_by_all_workers_and_encoding(monkeypatch, workers, seconds):
    times = iter([0.0, 4.0, 10.0, 13.0])
    clip_encoder = _clip_encoder.ClipEncoder(Toy(), Loading(workers=workers), progress=False)
    monkeypatch.setattr(_clip_encoder, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    clips = Sounds().clips("train")[:5]
    clip_encoder.measure(clips, banks.BankIdentity.of(Toy(), Sounds()))
    assert clip_encoder.speed == pytest.approx(5 * 0.6 / seconds)


def test_more_time_steps_than_a_longer_clip_has_are_refused():
    clip_encoder, identity = (
        _clip_encoder.ClipEncoder(Toy(), Loading(), progress=False),
        on_the_fly(Toy(), Sounds()).identity,
    )
    clips = Sounds().clips("train")[2:4]
    for steps in (None, 6, 8):
        with clip_encoder.loading(clips) as in_order:
            content = clip_encoder.encode(clips, in_order, identity, steps)
        assert content.tensors["mask"].sum(1).tolist() == [6, 6]
        assert content.tensors["x"].shape == (2, 1, steps or 6, 2, 4)
    message = "encoder 'toy' gives clip 'train-2' of split 'train' 6 time steps, but a clip at least as long has 5: use"
    with clip_encoder.loading(clips) as in_order, pytest.raises(BankError, match=message):
        clip_encoder.encode(clips, in_order, identity, 5)


@pytest.mark.parametrize(("clips", "progress", "shown"), [(255, True, False), (256, True, True), (256, False, False)])
def test_a_pass_over_many_clips_shows_a_bar(monkeypatch, clips, progress, shown):
    bars, updates = [], []

    @contextmanager
    def bar(**options):
        bars.append(options)
        yield SimpleNamespace(update=lambda: updates.append(1))

    @contextmanager
    def loaded(members, clip_loader, workers):
        assert (len(members), workers) == (clips, 0)
        yield map(clip_loader.load, members)

    monkeypatch.setattr("tqdm.tqdm", bar)
    monkeypatch.setattr(_clip_encoder, "loaded", loaded)
    clip_encoder = _clip_encoder.ClipEncoder(Toy(), Loading(workers=0), progress=progress)
    members = Sounds().clips("train")[:1] * clips
    assert clip_encoder.count_samples(members) == [60] * clips
    with clip_encoder.loading(members) as in_order:
        assert next(in_order).samples == 60
    options = {"total": clips, "unit": "clip", "disable": not shown, "leave": False}
    assert bars == [options | {"desc": desc} for desc in ("measuring lengths", "encoding on the fly")]
    assert len(updates) == clips, "of the second pass one clip has been requested, and is not counted yet"


@pytest.mark.parametrize("kept", [True, False])
def test_what_is_known_of_a_split_that_is_not_stored(monkeypatch, kept):
    monkeypatch.setattr(_clip_encoder, "KEPT_BYTES", 2**30 if kept else 0)
    tokens = on_the_fly(Toy(), Sounds(lengths=(60, 30)))
    split = tokens.split("train")
    reader = split._reader
    assert (len(reader), reader.steps, reader.fits, tokens._clip_encoder.rate) == (7, 6, kept, 100)
    assert reader.clip_seconds == pytest.approx((4 * 0.6 + 3 * 0.3) / 7)
    assert tokens._clip_encoder.speed > 0
    assert split.audio_seconds == pytest.approx(0 if kept else 3.3)
    assert split.subset([0, 1]).audio_seconds == pytest.approx(0 if kept else 2 * 3.3 / 7)
    assert split.pass_seconds == split.audio_seconds / tokens._clip_encoder.speed
    assert not split.shared
    assert take_turns([lambda: split.shared]) == [True]
    assert (tokens.extractions, str(tokens.path)) == ((), "(sounds by toy, not stored)")
    assert tokens.size == banks.estimate_size(Toy(), Sounds(lengths=(60, 30)), tokens.identity)
    tokens.verify()
    assert tokens.split("train") is split
    pooled = on_the_fly(Toy(), Sounds(), content="pooled").split("train")._reader
    assert (pooled.clip_seconds, pooled.steps) == (0.0, 1)


# Several probes in one pass

TOGETHER = ["simpool", "protobin", "linear", "wsum", "linear-frame"]


@pytest.mark.usefixtures("streamed")
def test_probes_that_are_trained_together_have_the_logits_of_the_bank(tmp_path):
    tokens, bank = on_the_fly(layers="all"), stored_bank(tmp_path, layers="all")
    before = torch.get_rng_state()
    together = fit_together(TOGETHER, tokens, CONFIG, options={"protobin": {"prototypes_per_class": 2}})
    assert torch.equal(torch.get_rng_state(), before)
    for name in TOGETHER:
        options = {"prototypes_per_class": 2} if name == "protobin" else {}
        assert_same(together[name], fit(name, bank, CONFIG, options=options), tokens, bank)


@pytest.mark.usefixtures("streamed")
def test_every_epoch_encodes_the_audio_once_for_all_probes():
    encoded = []
    several = ["simpool", "mhca", "coca", "ep"]
    for names in (several[:1], several):
        encoder = CountingEar()
        tokens = on_the_fly(encoder)
        before = encoder.encoded
        fit_together(names, tokens, CONFIG)
        encoded.append(encoder.encoded - before)
    alone, together = encoded
    assert together <= alone + 2 * (len(several) - 1)  # each probe reads one clip of each split to measure its tokens


@pytest.mark.usefixtures("streamed")
def test_each_function_that_takes_turns_has_its_own_random_numbers():
    split = on_the_fly().split("train")

    def draw(seed):
        torch.manual_seed(seed)
        with split.batches([[0], [1], [2]]) as batches:
            return [torch.rand(1).item() for _ in batches]

    together = take_turns([partial(draw, seed) for seed in (0, 1)])
    assert together == [draw(0), draw(1)]


@pytest.mark.usefixtures("streamed")
def test_passes_in_order_come_first_so_that_epochs_are_shared():
    encoder = CountingEar()
    split, before = on_the_fly(encoder).split("train"), encoder.encoded

    def read(*passes):
        for batches in passes:
            with split.batches(batches) as tokens:
                assert len(list(tokens)) == len(batches)

    epoch, in_order = [[3, 1], [2, 0]], [[0, 1], [2, 3]]
    assert take_turns([lambda: read(epoch), lambda: read(in_order, epoch)]) == [None, None]
    assert encoder.encoded - before == 4 + 4


@pytest.mark.usefixtures("streamed")
def test_an_error_of_the_encoder_reaches_all_probes_and_an_error_of_one_only_that_one(monkeypatch):
    tokens = on_the_fly()
    results = take_turns([lambda: fit("simpool", tokens, CONFIG), lambda: fit("no-probe", tokens), lambda: 7])
    assert [type(result).__name__ for result in results] == ["FittedProbe", "UnknownNameError", "int"]
    monkeypatch.setattr(Ear, "embed", lambda self, features: 1 / 0)  # noqa: ARG005
    results = take_turns([lambda: fit("simpool", tokens, CONFIG), lambda: fit("mean", tokens, CONFIG)])
    assert [type(result) for result in results] == [ZeroDivisionError] * 2


@pytest.mark.usefixtures("streamed")
def test_an_interruption_ends_all_threads(monkeypatch):
    tokens, calls = on_the_fly(), []
    encode = _clip_encoder.ClipEncoder.encode

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) > 5:
            raise KeyboardInterrupt
        return encode(*arguments)

    monkeypatch.setattr(_clip_encoder.ClipEncoder, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit_together(["simpool", "ep"], tokens, CONFIG)
    assert not [thread for thread in threading.enumerate() if thread.name == "otoscope-turn"]


def test_fit_together_refuses_a_name_twice_and_unused_options():
    for names, options in ((["mean", "mean"], {}), (["mean"], {"ep": {}})):
        with pytest.raises(ValueError, match="every probe once"):
            fit_together(names, on_the_fly(), CONFIG, options=options)


def test_fit_together_returns_divergences_and_raises_other_errors():
    tokens = on_the_fly()
    results = fit_together(["simpool", "mean"], tokens, replace(CONFIG, lr=1e30))
    assert list(results) == ["simpool", "mean"]
    assert isinstance(results["simpool"], DivergedError)
    assert results["mean"].validation > 0
    with pytest.raises(UnknownNameError, match="no-probe"):
        fit_together(["mean", "no-probe"], tokens, CONFIG)
    with pytest.raises(TypeError, match="unknown option"):
        fit_together(["mean"], tokens, CONFIG, options={"mean": {"nrom": "layer"}})


@pytest.mark.usefixtures("streamed")
def test_the_time_is_said_before_the_training(capsys):
    fit("simpool", on_the_fly(), CONFIG, progress=True)
    fit_together(["simpool", "ep"], on_the_fly(), CONFIG, progress=True)
    assert capsys.readouterr().err.count("encoding on the fly: 2 epochs x 0.02 h of audio") == 2


def test_no_time_is_said_where_nothing_is_encoded_again(capsys, tmp_path):
    fit("simpool", on_the_fly(), CONFIG, progress=True)
    fit("simpool", stored_bank(tmp_path), CONFIG, progress=True)
    assert "encoding on the fly" not in capsys.readouterr().err


# Suites and the command line

pair_of_toys = pytest.mark.usefixtures("toy_suites", "streamed")


def assert_same_records(store, expected):
    found, wanted = ({record.key: record for record in records} for records in (store, expected))
    assert found.keys() == wanted.keys()
    for key, record in found.items():
        assert record.value == pytest.approx(wanted[key].value, abs=1e-6)


@pair_of_toys
def test_a_suite_without_banks_has_the_records_of_one_with_banks(tmp_path):
    specs = (*probe_specs("linear", "protobin", "simpool", "wsum"), ProbeSpec("linear", "exact"))
    suite = replace(SOBOL, probes=specs)
    result, expected = run_quietly(suite, tmp_path / "a", stored=False), run_quietly(suite, tmp_path / "b")
    assert not result.failures
    assert_same_records(result.store, expected.store)
    assert not list((tmp_path / "a").glob("banks/*"))
    assert not run_quietly(suite, tmp_path / "a", stored=False).plan.runs


@pair_of_toys
def test_folds_few_shots_and_views_work_without_banks(tmp_path):
    datasets_ = (DatasetSpec("crossed"), DatasetSpec("tones", shots=2, views=2))
    suite = replace(PLAIN, datasets=datasets_, probes=probe_specs("simpool", "ep"), seeds=1)
    result, expected = run_quietly(suite, tmp_path / "a", stored=False), run_quietly(suite, tmp_path / "b")
    assert not result.failures
    assert len(result.plan.runs) == 8
    assert_same_records(result.store, expected.store)


@pair_of_toys
def test_the_probes_of_a_suite_share_the_passes(tmp_path, monkeypatch):
    monkeypatch.setattr(Ear, "encoded", 0, raising=False)
    embed = Ear.embed

    def counting(self, features):
        Ear.encoded += len(features.x)
        return embed(self, features)

    monkeypatch.setattr(Ear, "embed", counting)
    counts = []
    for names in (("simpool",), ("simpool", "ep", "mhca", "coca")):
        Ear.encoded = 0
        run_quietly(replace(SOBOL, probes=probe_specs(*names), seeds=1), tmp_path / str(len(names)), stored=False)
        counts.append(Ear.encoded)
    assert counts[1] <= counts[0] + 40  # single clips that are read to measure their tokens


@pair_of_toys
def test_a_failed_probe_does_not_stop_the_others(tmp_path, monkeypatch):
    prepare = probes.registry.get("ep").prepare
    monkeypatch.setattr(probes.registry.get("ep"), "prepare", lambda *_: 1 / 0)
    suite = replace(PLAIN, probes=probe_specs("simpool", "ep"), seeds=1)
    result = run_quietly(suite, tmp_path, stored=False)
    assert [failure.run for failure in result.failures] == ["ear x tones, ep, seed 0"]
    assert [record.probe for record in result.store] == ["simpool"]
    monkeypatch.setattr(probes.registry.get("ep"), "prepare", prepare)
    assert not run_quietly(suite, tmp_path, stored=False).failures


@pair_of_toys
def test_the_plan_counts_the_passes_and_writes_no_bank(tmp_path):
    suite = replace(SOBOL, probes=probe_specs("simpool", "ep"))
    plan = runner.prepare(suite, tmp_path, stored=False)
    assert "ear x tones: bank none, 8 passes over the clips" in str(plan)  # search and one more seed: 2 x (1 + 3)
    assert plan.bytes == 0
    assert plan.seconds > runner.prepare(suite, tmp_path).seconds


def test_several_workers_and_a_bank_are_refused_without_banks(tmp_path):
    for refused in ({"workers": 2}, {"bank": tmp_path / "bank"}):
        with pytest.raises(ValueError, match=r"leave out --workers and --bank"):
            run_quietly(PLAIN, tmp_path, stored=False, **refused)


@pytest.mark.usefixtures("plugin_folder", "streamed")
def test_probe_and_bench_take_no_bank(capsys):
    assert run_toy("probe", "--probe", "simpool", "--no-bank", "--epochs", "1", "--out", "a") == 0
    assert run_toy("probe", "--probe", "simpool", "--epochs", "1", "--out", "b") == 0
    assert_same_records(Store("a/results"), Store("b/results"))
    names = ["--encoders", "ear", "--datasets", "tones", "--probes", "simpool,ep", "--plugin", "toy.py"]
    command = ["bench", *names, "--no-bank", "--epochs", "2", "--no-control", "--trials", "1"]
    assert main([*command, "--dry-run"]) == 0
    assert "bank none, 5 passes over the clips" in capsys.readouterr().out
    assert main([*command, "--seeds", "1"]) == 0
    assert capsys.readouterr().err.count("encoding on the fly: 2 epochs x 0.02 h of audio") == 1
