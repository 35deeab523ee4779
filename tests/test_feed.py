"""What the training loops are served: the part of a bank that a probe reads, once, in the length it reads it."""

import pytest
import torch

from otoscope import bank as banks
from otoscope import probes
from otoscope.train import feed, fit
from otoscope.types import Tokens, TokenShape
from toys import Ear, Tones

SMALL = {"cgp": {"prototypes": 11}}
UNIT = [name for name in probes.names() if probes.registry.get(name).unit]


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    path = tmp_path_factory.mktemp("feed") / "bank"
    return banks.extract(Ear(), Tones(), path, layers="all", shard_clips=5, progress=False)


def probe_of(name, bank):
    layers = feed.choose_layers(None, probes.registry.get(name).depth, bank.shape)
    shape = TokenShape(len(layers), bank.shape.freq, bank.shape.dim, bank.shape.has_cls, bank.shape.frame_rate)
    torch.manual_seed(0)
    return probes.create(name, shape, 3, **SMALL.get(name, {})).eval(), layers


def test_probes_of_directions_are_known():
    assert {"cgp", "proto", "protobin", "protofloat"} <= set(UNIT)
    assert not {"linear", "mean", "mhca", "abmilp"} & set(UNIT)


@pytest.mark.parametrize("limit", [0, feed.IN_MEMORY])
@pytest.mark.parametrize("name", UNIT)
def test_a_probe_of_directions_is_served_them(bank, monkeypatch, name, limit):
    monkeypatch.setattr(feed, "IN_MEMORY", limit)
    module, layers = probe_of(name, bank)
    train, index = bank.split("train"), torch.tensor([40, 3, 3, 17])
    raw = train.tokens(index.tolist()).layers(layers)
    for serve in (
        feed.of_split(train, module.reads, layers, unit=module.unit),
        feed.of_tokens(train.tokens(slice(None)), module.reads, layers, unit=module.unit),
    ):
        served = serve(index)
        assert served.is_unit
        assert torch.allclose(served.x.norm(dim=-1), torch.ones(served.x.shape[:-1]), atol=1e-6)
        assert torch.allclose(served.cls.norm(dim=-1), torch.ones(served.cls.shape[:-1]), atol=1e-6)
        assert not torch.allclose(raw.x, served.x, atol=0.1)
        with torch.no_grad():
            assert torch.allclose(module(served), module(raw), atol=1e-6, rtol=0)


@pytest.mark.parametrize("limit", [0, feed.IN_MEMORY])
def test_other_probes_are_served_lengths_too(bank, monkeypatch, limit):
    monkeypatch.setattr(feed, "IN_MEMORY", limit)
    train, index = bank.split("train"), torch.tensor([5, 0])
    served = feed.of_split(train, "tokens", (1,))(index)
    assert not served.is_unit
    assert torch.equal(served.x, train.tokens([5, 0]).x[:, [1]])


def test_tokens_are_normalised_once_and_not_in_each_step(bank, monkeypatch):
    work, unit = [], Tokens.unit

    def counted(self):
        if not self.is_unit:
            work.append(len(self))
        return unit(self)

    monkeypatch.setattr(Tokens, "unit", counted)
    once = fit("protobin", bank, epochs=1, batch_size=8, options={"prototypes_per_class": 3})
    after_one = sum(work)
    work.clear()
    fit("protobin", bank, epochs=3, batch_size=8, options={"prototypes_per_class": 3})
    assert sum(work) == after_one
    work.clear()
    once.predict_logits(bank.split("validation"))
    assert sum(work) == 1 + len(bank.split("validation"))  # the first clip tells how large the split is
