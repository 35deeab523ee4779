"""Everything that computes on a card gives there what it gives on the CPU. Skipped on machines without CUDA."""

from functools import partial

import pytest
import torch

from helpers_banks import Sounds, Toy
from helpers_ports import ONE_OF_EACH_KIND, noise, small
from otoscope import bank as banks
from otoscope import datasets, encoders, probes
from otoscope.encoders.catalog import ported
from otoscope.finetuning import Recipe, finetune
from otoscope.ops import _triton_max, extremes
from otoscope.ops.logistic import Design, solve
from otoscope.probes import FrameProbe
from otoscope.train import TrainingConfig, fit, fit_many
from otoscope.types import AudioBatch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no card with CUDA")

FORMS = {
    "max_cosine": (extremes.max_cosine, False),
    "max_dot": (extremes.max_dot, True),
    "min_max_cosine": (extremes.min_max_cosine, False),
    "min_max_dot": (extremes.min_max_dot, True),
}


@pytest.fixture(autouse=True)
def _few_block_sizes(monkeypatch) -> None:
    """Block sizes are not tuned: each of them takes a second to compile."""
    if _triton_max.INSTALLED:
        monkeypatch.setattr(_triton_max._kernel, "configs", _triton_max._kernel.configs[:1])


NAMED = ported()


def draw(B=3, N=70, K=40, D=33, dtype=torch.float32):
    random = torch.Generator().manual_seed(0)
    tokens, prototypes = (torch.randn(s, generator=random, dtype=torch.float64) for s in ((B, N, D), (K, D)))
    mask = torch.rand(B, N, generator=random) < 0.6
    mask[:, N // 2] = True
    return tokens.to(dtype), prototypes.to(dtype), mask


def gradients(form, tokens, prototypes, mask, through_tokens, **options):
    tokens, prototypes = tokens.clone(), prototypes.clone().requires_grad_()
    tokens.requires_grad_(through_tokens)
    values = [t for t in form(tokens, prototypes, mask, **options) if t.is_floating_point()]
    weights = [torch.linspace(-1, 1, v.numel(), dtype=v.dtype, device=v.device).view_as(v) for v in values]
    sum((w * v).sum() for w, v in zip(weights, values, strict=True)).backward()
    return [v.detach() for v in values], [t.grad for t in (tokens, prototypes) if t.grad is not None]


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", FORMS)
def test_extremes_and_gradients_are_those_of_the_cpu(name, dtype, masked) -> None:
    form, through_tokens = FORMS[name]
    tokens, prototypes, mask = draw(dtype=dtype)
    mask = mask if masked else None
    here = gradients(form, tokens, prototypes, mask, through_tokens)
    on_card = None if mask is None else mask.cuda()
    there = gradients(form, tokens.cuda(), prototypes.cuda(), on_card, through_tokens)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-4}.get(dtype, 3e-2)
    for a, b in zip(here, there, strict=True):
        for x, y in zip(a, b, strict=True):
            torch.testing.assert_close(y.cpu(), x, rtol=tolerance, atol=tolerance)


def test_selection_by_int8_has_exact_values_of_selected_tokens_on_the_card() -> None:
    tokens, prototypes, mask = (t.cuda() for t in draw(K=130, N=300, D=96))
    values, argmax = extremes.max_cosine(tokens, prototypes, mask, selection="int8")
    best, _ = extremes.max_cosine(tokens, prototypes, mask)
    chosen = torch.nn.functional.normalize(tokens, dim=-1)[torch.arange(3, device="cuda")[:, None], argmax]
    torch.testing.assert_close(values, (chosen * prototypes).sum(-1), rtol=1e-4, atol=1e-4)
    assert bool((best - values >= -1e-4).all())
    assert float((best - values).max()) < 0.05 * float(best.abs().max())


@pytest.mark.parametrize("kind", ["multi-label", "multi-class"])
@pytest.mark.parametrize("width", [9, 150])
def test_exact_heads_reach_the_same_optimum(kind, width) -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(80, width, generator=random)
    y = torch.rand(80, 4, generator=random)
    targets = (y < 0.3).float() if kind == "multi-label" else torch.nn.functional.one_hot(y.argmax(1), 4).float()
    here, there = (solve(Design(x.to(d)), targets.to(d), 1e-2, kind=kind) for d in ("cpu", "cuda"))
    assert bool(there.converged.all())
    torch.testing.assert_close(there.objective.cpu(), here.objective, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return banks.extract(
        Toy(), Sounds((40, 16, 12)), tmp_path_factory.mktemp("bank"), layers="all", dtype="float32", progress=False
    )


@pytest.mark.parametrize("probe", [p for p in probes.names() if not issubclass(probes.registry.get(p), FrameProbe)])
def test_every_probe_learns_on_the_card_what_it_learns_on_the_cpu(bank, probe) -> None:
    fit_on = partial(fit, probe, bank)
    settings = {"epochs": 3, "batch_size": 8}
    here, there = (fit_on(TrainingConfig(device=d, **settings)) for d in ("cpu", "cuda"))
    logits = [fitted.predict_logits(bank.split("validation")) for fitted in (here, there)]
    random = {"mlp", "cgp", "lcgp", "conv", "coca", "vjepa"}  # dropout draws other numbers on a card
    if probe not in random:
        torch.testing.assert_close(logits[1], logits[0], rtol=2e-2, atol=2e-2)
    again = fit_on(TrainingConfig(device="cuda", **settings)).predict_logits(bank.split("validation"))
    torch.testing.assert_close(again, logits[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("probe", ["mean", "mhca", "protobin"])
def test_trials_together_equal_trials_alone(bank, probe) -> None:
    options = {"solver": "adamw"} if probe == "mean" else {}
    configs = [TrainingConfig(lr=lr, epochs=2, batch_size=8, device="cuda") for lr in (1e-3, 5e-3)]
    together = fit_many(probe, bank, configs, options=options)
    for config, fitted in zip(configs, together, strict=True):
        alone = fit(probe, bank, config, options=options)
        logits = [f.predict_logits(bank.split("validation")) for f in (fitted, alone)]
        torch.testing.assert_close(*logits, rtol=1e-3, atol=1e-3)


def test_tokens_of_tiny_are_those_of_the_cpu(tmp_path) -> None:
    data = datasets.create("scenes", train=6, validation=2, test=2)
    stored = [
        banks.extract(encoders.create("tiny").to(d), data, tmp_path / d, layers="all", dtype="float32", progress=False)
        for d in ("cpu", "cuda")
    ]
    here, there = (stored_bank.split("train").tokens(range(6)) for stored_bank in stored)
    torch.testing.assert_close(there.x, here.x, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(there.cls, here.cls, rtol=1e-3, atol=1e-3)


def of_depth_two(name):
    """A named encoder with two blocks (Perch 2: three stages) and random weights."""
    cls = NAMED[name]
    sizes = {"stages": cls.config.stages[:3]} if name == "perch2" else {"depth": 2}
    return small(cls, **sizes)(weights="random")


def largest_difference(tokens, expected):
    """The largest difference between token maps, relative to the largest value."""
    return float((tokens.x.cpu() - expected.x).abs().max() / expected.x.abs().max())


@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_tokens_of_named_encoders_are_those_of_the_cpu(name) -> None:
    encoder = of_depth_two(name)
    waves = [noise(round(seconds * encoder.sample_rate), seed) for seed, seconds in enumerate((3.0, 1.3))]
    batch = AudioBatch.of(waves, encoder.sample_rate)
    expected = encoder.encode(batch)
    encoder.cuda()
    there = AudioBatch(batch.waves.cuda(), batch.lengths.cuda(), batch.rate)
    tokens = encoder.encode(there)
    assert torch.equal(tokens.mask.cpu(), expected.mask)
    assert largest_difference(tokens, expected) < 1e-3
    encoder.autocast = "bfloat16"
    tokens = encoder.encode(there)
    assert tokens.x.dtype == torch.float32
    assert 1e-6 < largest_difference(tokens, expected) < 0.1


def noises(count, seconds=2):
    """Clips of noise at 16 kHz, of one length or of several."""
    return Sounds((count, 4, 4), lengths=tuple(round(16_000 * s) for s in (seconds, 0.6 * seconds)), rate=16_000)


@pytest.mark.parametrize("name", ["eat", "beats-iter3", "dasheng-base", "wavjepa"])
def test_banks_are_equal_with_workers_and_without_a_bank(name, tmp_path) -> None:
    encoder = of_depth_two(name).cuda()
    arguments = (encoder, noises(12))
    options = {"layers": "all", "progress": False, "batch_size": 4}
    stored = banks.extract(*arguments, tmp_path / "one", loader_workers=0, **options)
    others = [
        banks.extract(*arguments, tmp_path / "workers", loader_workers=2, **options),
        banks.encode_on_the_fly(*arguments, **options),
    ]
    expected = stored.split("train").tokens(range(12))
    for bank in others:
        tokens = bank.split("train").tokens(range(12))
        assert torch.equal(tokens.mask, expected.mask)
        assert largest_difference(tokens, expected) < 2e-3


@pytest.mark.filterwarnings("default::DeprecationWarning")  # of torch, when it compiles
def test_a_compiled_encoder_gives_the_same_tokens(tmp_path) -> None:
    extract = partial(banks.extract, of_depth_two("eat").cuda(), noises(12), progress=False)
    plain, compiled = (extract(tmp_path / str(c), compile=c).split("train").tokens(range(12)) for c in (False, True))
    assert largest_difference(compiled, plain) < 2e-3


def test_probes_learn_without_a_bank_on_the_card_what_they_learn_with_one(tmp_path) -> None:
    encoder, data = of_depth_two("dasheng-base").cuda(), noises(24, seconds=1)
    config = TrainingConfig(epochs=2, batch_size=8, device="cuda")
    kinds = (
        banks.extract(encoder, data, tmp_path / "bank", progress=False),
        banks.encode_on_the_fly(encoder, data, progress=False),
    )
    logits = [fit("protobin", bank, config).predict_logits(bank.split("validation")) for bank in kinds]
    torch.testing.assert_close(logits[1], logits[0], rtol=2e-2, atol=2e-2)


def test_fine_tuning_on_the_card_is_near_that_on_the_cpu_and_repeatable_from_a_checkpoint(tmp_path) -> None:
    data = datasets.create("scenes", train=12, validation=6, test=2)
    run = partial(finetune, encoders.create("tiny"), data, recipe=Recipe(epochs=2, batch_size=4, mixup=0.0, roll=False))
    here, there = run(device="cpu"), run(device="cuda", checkpoint=tmp_path / "checkpoint.pt")
    again = run(device="cuda", checkpoint=tmp_path / "checkpoint.pt")
    clips = data.clips("validation")
    logits = [fitted.predict_logits(clips) for fitted in (here, there, again)]
    torch.testing.assert_close(logits[1], logits[0], rtol=0.2, atol=0.2)  # steps on the card are in bfloat16
    torch.testing.assert_close(logits[2], logits[1], rtol=1e-3, atol=1e-3)
