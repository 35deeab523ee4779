"""Tokens, labels and layers of a bank: reading returns what was encoded."""

import numpy as np
import pytest
import torch

from helpers_banks import BLOCK, RATE, VARIED, Sounds, Toy, encode_separately, extract_quietly, file_contents
from otoscope import bank as banks
from otoscope.bank.read import open_held_out
from otoscope.registry import UnknownNameError
from otoscope.types import AudioBatch


@pytest.mark.parametrize("lengths", [(60,), VARIED])
@pytest.mark.parametrize("has_cls", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-7), ("float16", 1e-3), ("bfloat16", 8e-3)])
def test_stored_tokens_are_those_of_the_encoder(tmp_path, lengths, has_cls, dtype, tolerance):
    encoder, data = Toy(has_cls=has_cls), Sounds(lengths=lengths)
    bank = extract_quietly(encoder, data, tmp_path / "b", dtype=dtype, layers="all")
    assert (bank.shape, bank.task, bank.splits) == (encoder.shape, data.task, data.splits)
    train, clips = bank.split("train"), data.clips("train")
    assert train.steps == max(lengths) // BLOCK
    tokens = train.tokens(slice(None))
    assert tokens.x.dtype == torch.float32
    assert tokens.x.shape == (7, 3, train.steps, 2, 4)
    assert (tokens.cls is None) == (not has_cls)
    for row, clip in enumerate(clips):
        expected = encode_separately(encoder, clip)
        steps = expected.x.shape[2]
        torch.testing.assert_close(tokens.x[row, :, :steps], expected.x[0], atol=tolerance, rtol=tolerance)
        assert tokens.mask[row].tolist() == [True] * steps + [False] * (train.steps - steps)
        assert not tokens.x[row, :, steps:].any()
        if has_cls:
            torch.testing.assert_close(tokens.cls[row], expected.cls[0], atol=tolerance, rtol=tolerance)


def test_steps_that_the_encoder_pads_are_stored_as_zeros(tmp_path):
    encoder, data = Toy(pad_to=80), Sounds(lengths=VARIED)
    train = extract_quietly(encoder, data, tmp_path / "b").split("train")
    tokens = train.tokens(slice(None))
    assert tokens.x.shape[2] == train.steps == 8
    assert tokens.mask.sum(1).tolist() == [4, 6, 2, 6, 4, 4, 6]
    assert not tokens.x[~tokens.mask[:, None].expand(7, 1, 8)].any()
    assert torch.isfinite(train.pooled().x).all()
    torch.testing.assert_close(
        tokens.x[0, 0, :4], encode_separately(encoder, data.clips("train")[0]).x[0, -1, :4], atol=1e-3, rtol=0
    )


def test_ids_labels_and_events_are_stored(tmp_path):
    data = Sounds()
    train = extract_quietly(Toy(), data, tmp_path / "b").split("train")
    clips = data.clips("train")
    assert train.ids == tuple(clip.id for clip in clips)
    assert train.events == tuple(clip.events for clip in clips)
    assert torch.equal(train.targets, data.task.targets(clips))
    assert train.targets.dtype == torch.float32
    assert len(train) == 7
    assert train.groups == ((),) * 7


def test_groups_are_stored_and_kept_by_subsets(tmp_path):
    train = extract_quietly(Toy(), Sounds(sites=3), tmp_path / "b").split("train")
    assert train.groups == tuple((f"site {i % 3}",) for i in range(7))
    assert train.subset([4, 0]).groups == (("site 1",), ("site 0",))


@pytest.mark.parametrize(
    ("layers", "kept"), [("last", [2]), ("all", [0, 1, 2]), ([0], [0]), ([-1, 0], [2, 0]), ((1, 2), [1, 2])]
)
def test_only_the_selected_layers_are_stored(tmp_path, layers, kept):
    encoder, data = Toy(), Sounds()
    bank = extract_quietly(encoder, data, tmp_path / "b", layers=layers, dtype="float32")
    assert (bank.identity.layers, bank.shape.layers) == (tuple(kept), len(kept))
    expected = encode_separately(encoder, data.clips("validation")[1]).select_layers(kept)
    tokens = bank.split("validation").tokens([1])
    torch.testing.assert_close(tokens.x, expected.x)
    torch.testing.assert_close(tokens.cls, expected.cls)


def test_rows_are_returned_in_the_requested_order(tmp_path):
    train = extract_quietly(Toy(), Sounds(lengths=VARIED), tmp_path / "b").split("train")
    whole = train.tokens(range(7))
    for index in ([6, 0, 3, 3], [-1, -7], np.random.default_rng(0).permutation(7), torch.tensor([5, 1]), []):
        rows = [int(i) for i in index]
        tokens = train.tokens(index)
        assert torch.equal(tokens.x, whole.x[rows])
        assert torch.equal(tokens.mask, whole.mask[rows])
        assert torch.equal(tokens.cls, whole.cls[rows])
    assert torch.equal(train.tokens(slice(5, 1, -2)).x, whole.x[[5, 3]])
    for wrong in ([7], [0, -8]):
        with pytest.raises(IndexError, match=r"rows .* of split 'train', which has 7 clips"):
            train.tokens(wrong)
    with pytest.raises(TypeError):
        train.tokens([0.5])


def test_changing_tokens_does_not_change_the_bank(tmp_path):
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b")
    before, train = file_contents(bank.path), bank.split("train")
    first = train.tokens([0]).x.clone()
    train.tokens([0]).x.zero_()
    assert torch.equal(train.tokens([0]).x, first)
    assert file_contents(bank.path) == before


@pytest.mark.parametrize("has_cls", [True, False])
def test_pooled_is_the_masked_mean_and_is_read_once(tmp_path, has_cls):
    data = Sounds(counts=(35, 1, 1), lengths=VARIED)
    bank = extract_quietly(Toy(has_cls=has_cls), data, tmp_path / "b", layers="all")
    train = bank.split("train")
    pooled, whole = train.pooled(), train.tokens(slice(None))
    assert pooled.x.shape == (35, 3, 1, 1, 4)
    torch.testing.assert_close(pooled.summary, whole.summary)
    torch.testing.assert_close(pooled.mean, whole.mean)
    assert train.pooled() is pooled
    assert bank.split("train").pooled() is pooled


def test_tokens_do_not_depend_on_the_other_clips_of_a_batch(tmp_path):
    encoder, data = Toy(), Sounds(lengths=VARIED)
    waves = [clip.audio for clip in data.clips("train")[:2]]
    padded = encoder.encode(AudioBatch.of(waves, RATE)).x[0, :, :3]
    unpadded = encode_separately(encoder, data.clips("train")[0]).x[0, :, :3]
    assert not torch.allclose(padded, unpadded, atol=1e-3)  # padding would change the tokens
    flat = Sounds(lengths=VARIED)
    one = extract_quietly(Toy(), flat, tmp_path / "1", batch_size=1, shard_clips=7, dtype="float32").split("train")
    for row, clip in enumerate(data.clips("train")):
        expected = encode_separately(encoder, clip).select_layers([-1])
        torch.testing.assert_close(one.tokens([row]).x[:, :, : expected.x.shape[2]], expected.x)


def test_a_batch_contains_clips_of_one_length_and_one_shard(tmp_path):
    encoder = Toy()
    extract_quietly(
        encoder, Sounds(counts=(7, 1, 1), lengths=(60, 60, 35)), tmp_path / "b", shard_clips=4, splits=["train"]
    )
    assert encoder.calls == [1, 2, 2, *[1, 2], *[1, 1, 2]]  # the size, two clips twice, (35 | 60 60 60), (35 ...)


def test_clips_at_another_rate_are_resampled(tmp_path):
    bank = extract_quietly(Toy(), Sounds(rate=2 * RATE, lengths=(120,)), tmp_path / "b")
    assert bank.split("train").steps == 6


# The held-out split


def test_only_open_held_out_opens_the_test_split(tmp_path):
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b")
    with pytest.raises(banks.HeldOutError, match=r"held out.*otoscope\.bench"):
        bank.split("test")
    assert open_held_out(bank).ids == tuple(f"test-{i}" for i in range(4))
    with pytest.raises(UnknownNameError, match="did you mean 'train'"):
        bank.split("trian")


def test_a_bank_without_test_split_has_no_held_out_split(tmp_path):
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b", splits=["train"])
    with pytest.raises(UnknownNameError, match="unknown split 'test'; known: train"):
        open_held_out(bank)
