"""Probes against slow references in values and gradients, parameter counts, limiting cases, examples worked by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from probe_references import REFERENCES
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from otoscope import probes
from otoscope.probes import LayerGate
from otoscope.types import Tokens, TokenShape

D, C = 4, 3
EXACT, ADAMW = ("linear", "mean", "stats", "linearc", "linear-frame"), {"solver": "adamw"}
SMALL = {
    "coca": {"heads": 2},
    "cgp": {"prototypes": 5},
    "cgp-frame": {"prototypes": 5},
    "ep": {"queries": 2},
    "knn": {"k": 3},
    "map": {"heads": 2},
    "mhca": {"heads": 2},
    "mhca-frame": {"heads": 2},
    "proto": {"prototypes_per_class": 2},
    "protobin": {"prototypes_per_class": 2},
    "protobin-frame": {"prototypes_per_class": 2},
    "protofloat": {"prototypes_per_class": 2},
    "protofloat-frame": {"prototypes_per_class": 2},
    "selfattn": {"heads": 2},
    "vjepa": {"heads": 2},
}


def random_tokens(B, L, T, F, cls, seed):
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(B, L, T, F, D, generator=random, dtype=torch.float64)
    mask = torch.rand(B, T, generator=random) < 0.6
    mask[torch.arange(B), torch.randint(T, (B,), generator=random)] = True
    return Tokens(x, mask, torch.randn(B, L, D, generator=random, dtype=torch.float64) if cls else None)


def build(name, tokens, seed=0, **options):
    """The probe in float64 and eval mode, with noise on all parameters so that none is zero, one or tied."""
    torch.manual_seed(seed)
    _, L, _, F, _ = tokens.x.shape
    probe = probes.create(name, TokenShape(L, F, D, tokens.cls is not None, 6.25), C, **SMALL.get(name, {}), **options)
    probe = probe.double().eval()
    with torch.no_grad():
        for parameter in probe.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return probe


def mixed(tokens, gate):
    """The single-layer tokens that a probe behind a gate is given."""
    share = torch.exp(gate.weight) / torch.exp(gate.weight).sum()
    x = sum(a * tokens.x[:, layer] for layer, a in enumerate(share))[:, None]
    cls = None if tokens.cls is None else sum(a * tokens.cls[:, layer] for layer, a in enumerate(share))[:, None]
    return Tokens(x, tokens.mask, cls)


def gradients(logits, parameters):
    g = torch.randn(logits.shape, dtype=logits.dtype, generator=torch.Generator().manual_seed(3))
    return torch.autograd.grad((logits * g).sum(), parameters, allow_unused=True, materialize_grads=True)


def test_every_probe_has_a_reference():
    assert set(probes.names()) == set(REFERENCES)


@pytest.mark.parametrize(
    ("name", "options"), [*((name, {}) for name in REFERENCES), *((name, ADAMW) for name in EXACT)]
)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    B=st.integers(1, 2),
    L=st.integers(1, 3),
    T=st.integers(1, 3),
    F=st.integers(1, 2),
    cls=st.booleans(),
    seed=st.integers(0, 99),
)
def test_values_and_gradients_equal_the_reference(name, options, B, L, T, F, cls, seed):
    tokens = random_tokens(B, L, T, F, cls, seed)
    probe = build(name, tokens, seed, **options)
    if probe.solver == "stored":
        probe.training_clips = random_tokens(5, L, T, F, cls, seed + 1), (torch.rand(5, C) < 0.5).double()
        probe.partial_fit(*probe.training_clips)
    behind_gate = L > 1 and not probe.uses_all_layers and probe.solver == "adamw"
    actual = probe(tokens)
    expected = REFERENCES[name](probe, mixed(tokens, probe.layer_gate) if behind_gate else tokens)
    if actual.ndim == 3:
        actual, expected = actual[tokens.mask], expected[tokens.mask]
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)
    if probe.solver != "stored":
        parameters = list(probe.parameters())
        for one, other in zip(gradients(actual, parameters), gradients(expected, parameters), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


BASE = TokenShape(12, 8, 768, True, 6.25)
LAST = TokenShape(1, 8, 768, True, 6.25)
W, N_C = 768, 527
LINEAR = W * N_C + N_C


@pytest.mark.parametrize(
    ("name", "shape", "n_classes", "options", "count"),
    [
        ("linear", LAST, 527, {}, 405_263),
        ("linear", LAST, 527, {"norm": "layer"}, 405_263 + 2 * W),
        ("linear", LAST, 527, {"norm": "batch", "solver": "adamw"}, 405_263),
        ("mean", LAST, 527, {}, 405_263),
        ("mlp", LAST, 527, {}, W * W + W + LINEAR),
        ("linearc", LAST, 527, {}, 9 * W * N_C + N_C),
        ("conv", LAST, 527, {}, 9 * W + W + W * W + W + LINEAR),
        ("linpre", LAST, 527, {}, 405_263),
        ("mhca", LAST, 527, {}, 1_585_679),
        ("ep", LAST, 527, {}, W * W + 32 * W + LINEAR),
        ("simpool", LAST, 527, {}, 2 * W * W + 2 * W + LINEAR),
        ("abmilp", LAST, 527, {}, W * W + 2 * W + 1 + LINEAR),
        ("proto", LAST, 527, {"prototypes_per_class": 10}, 5270 * W + 5270 + N_C),
        ("protofloat", LAST, 527, {"prototypes_per_class": 10}, 5270 * W + 5270 * N_C + N_C),
        ("protobin", LAST, 10, {}, 155_610),
        ("protobin-frame", LAST, 10, {}, 155_610),
        ("lcgp", BASE, 527, {}, 12 + 2 * W + LINEAR),
        ("cgp", BASE, 527, {}, 23_490_539),
        ("cgp-frame", BASE, 527, {}, 23_490_539),
        ("head2toe", BASE, 527, {}, 12 * W * N_C + 2 * 12 * W + N_C),
        ("knn", LAST, 527, {}, 0),
        ("wsum", BASE, 527, {}, 12 + LINEAR),
        ("stats", LAST, 527, {}, 3 * W * N_C + N_C),
        ("vjepa", LAST, 527, {}, 12 * W * W + 13 * W + LINEAR),
        ("map", LAST, 527, {}, 12 * W * W + 11 * W + LINEAR),
        ("coca", LAST, 527, {}, 4 * W * W + 8 * W + LINEAR),
        ("selfattn", BASE, 527, {}, 12 + 2 * (4 * W * W + 5 * W) + LINEAR),
        ("mhca", BASE, 527, {}, 1_585_679 + 12),
    ],
)
def test_parameter_counts_are_exact(name, shape, n_classes, options, count):
    assert probes.parameter_count(name, shape, n_classes, **options) == count
    if count < 3_000_000:
        probe = probes.create(name, shape, n_classes, **options)
        assert sum(p.numel() for p in probe.parameters()) == count


def test_binary_prototypes_are_shipped_as_bits():
    price = probes.cost("protobin", LAST, 10, 512)
    assert price.bytes == 200 * 768 // 8 + 4 * (200 * 10 + 10)
    assert probes.cost("protofloat", LAST, 10, 512).bytes == 4 * 155_610


def test_unknown_options_and_indivisible_widths_raise():
    with pytest.raises(TypeError, match="did you mean 'heads'"):
        probes.parameter_count("mhca", LAST, 10, head=3)
    with pytest.raises(ValueError, match="queries=32 must divide the token width 100"):
        probes.create("ep", TokenShape(1, 1, 100, True, 6.25), 3, queries=32)
    with pytest.raises(ValueError, match="norm 'bach'; allowed: 'none', 'layer', 'batch'"):
        probes.create("mean", LAST, 3, norm="bach")
    with pytest.raises(ValueError, match="built for one layer, the tokens have 2"):
        probes.create("mean", TokenShape(1, 1, 4, False, 6.25), 3)(Tokens(torch.zeros(1, 2, 1, 1, 4)))


@pytest.mark.parametrize("width", [7, 64, 192, 384, 512, 768, 1000])
@pytest.mark.parametrize("name", probes.names())
def test_the_default_options_of_every_probe_suit_any_token_width(name, width):
    layers = 2 if probes.registry.get(name).uses_all_layers else 1
    assert probes.cost(name, TokenShape(layers, 2, width, True, 6.25), 3, 8).macs > 0


def test_default_heads_and_queries_are_those_of_the_papers_where_these_divide_the_width():
    for name, option, usual in (
        ("mhca", "heads", 12),
        ("ep", "queries", 32),
        ("coca", "heads", 8),
        ("vjepa", "heads", 12),
    ):
        assert probes.cost(name, LAST, 3, 8) == probes.cost(name, LAST, 3, 8, **{option: usual})
    assert probes.create("mhca", TokenShape(1, 2, 512, True, 6.25), 3).attention.heads == 8
    assert len(probes.create("ep", TokenShape(1, 2, 1000, True, 6.25), 3).queries) == 25


@pytest.mark.parametrize("name", [n for n in probes.names() if n != "knn"])
def test_macs_agree_with_counted_operations(name):
    shape = TokenShape(3 if probes.registry.get(name).uses_all_layers else 1, 4, 96, True, 6.25)
    probe = probes.create(name, shape, 7, **({"prototypes": 64} if name.startswith("cgp") else {})).eval()
    tokens = Tokens(torch.randn(1, shape.layers, 16, 4, 96), None, torch.randn(1, shape.layers, 96))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        probe(tokens)
    stated = probes.cost(name, shape, 7, 64, **({"prototypes": 64} if name.startswith("cgp") else {})).macs
    small = shape.layers * 96 * (1 if probe.reads != "tokens" else 2 * 64 + 2 * 16)
    assert abs(stated - counter.get_total_flops() / 2) <= small


def test_cost_draws_no_random_number_and_allocates_no_parameters():
    state = torch.get_rng_state()
    assert probes.cost("cgp", TokenShape(12, 8, 4096, True, 6.25), 5000, 512, prototypes=10**9).parameters > 10**13
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.usefixtures("isolated_registries")
def test_cost_of_a_plugin_is_counted_in_a_forward_pass():
    @probes.register("plain")
    class Plain(probes.ClipProbe):
        def __init__(self, shape, n_classes):
            super().__init__(shape, n_classes)
            self.linear = torch.nn.Linear(shape.dim, n_classes)

        def forward(self, tokens):
            return self.linear(probes.only_layer(tokens.flat)).mean(1)

    assert probes.cost("plain", TokenShape(1, 2, 8, False, 6.25), 3, 10) == probes.Cost(27, 10 * 8 * 3, 4 * 27)
    gated = probes.cost("plain", TokenShape(4, 2, 8, True, 6.25), 3, 10)
    assert gated == probes.Cost(31, 10 * 8 * 3 + 4 * 8 * 11, 4 * 31)


Z = torch.randn(6, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
ONE = Tokens(Z[:, None, None, None])


def test_with_one_token_many_probes_are_linear():
    z = Z / Z.norm(dim=1, keepdim=True)
    for name in ("mean", "linpre", "abmilp", "linear"):
        probe = build(name, ONE)
        last = probe.linear if name == "linpre" else probe.head.linear
        torch.testing.assert_close(probe(ONE), last(Z))
    mhca = build("mhca", ONE)
    torch.testing.assert_close(mhca(ONE), mhca.head.linear(mhca.attention.value(Z)))
    ep = build("ep", ONE)
    torch.testing.assert_close(ep(ONE), ep.head.linear(ep.value(Z)))
    simpool = build("simpool", ONE)
    torch.testing.assert_close(simpool(ONE), simpool.head.linear(simpool.token_norm(Z)))
    for name in ("protobin", "protofloat"):
        probe = build(name, ONE)
        torch.testing.assert_close(probe(ONE), probe.head(z @ probe.prototypes.normalised().T))
    coca = build("coca", ONE)
    a = coca.attention
    torch.testing.assert_close(coca(ONE), coca.head.linear(a.out(a.value(coca.token_norm(Z)))))


def test_with_one_token_the_three_features_of_cgp_are_equal():
    cgp = build("cgp", ONE)
    s = Z / Z.norm(dim=1, keepdim=True) @ cgp.prototypes.normalised().T
    torch.testing.assert_close(cgp(ONE), cgp.head(torch.cat([s, s, s], 1)))


def test_with_one_frequency_frame_probes_equal_clip_probes_on_each_step():
    tokens = random_tokens(2, 1, 3, 1, False, 5)
    steps = Tokens(tokens.x.reshape(6, 1, 1, 1, D))
    for name in ("mhca", "protobin", "protofloat", "cgp"):
        clip, frame = build(name, steps), build(f"{name}-frame", tokens)
        frame.load_state_dict(clip.state_dict())
        torch.testing.assert_close(frame(tokens).reshape(6, C), clip(steps))


def test_wsum_equals_mean_behind_the_gate():
    tokens = random_tokens(3, 3, 4, 2, True, 6)
    wsum, mean = build("wsum", tokens), build("mean", tokens, **ADAMW)
    mean.load_state_dict(wsum.state_dict())
    torch.testing.assert_close(mean(tokens), wsum(tokens))


def test_protobin_worked_by_hand():
    """Two tokens (3, 4) and (0, -2), two prototypes: signs (+, -) of (0.1, -0.3) and (+, +) of (0, 5)."""
    probe = probes.create("protobin", TokenShape(1, 2, 2, False, 6.25), 2, prototypes_per_class=1)
    with torch.no_grad():
        probe.prototypes.weight.copy_(torch.tensor([[0.1, -0.3], [0.0, 5.0]]))
        probe.head.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, -1.0]]))
        probe.head.bias.copy_(torch.tensor([0.5, 0.0]))
    logits = probe(Tokens(torch.tensor([[3.0, 4.0], [0.0, -2.0]]).view(1, 1, 1, 2, 2)))
    r = math.sqrt(2)
    # cosines: (0.6 - 0.8)/r and (0 + 1)/r for the first, (0.6 + 0.8)/r and (0 - 1)/r for the second
    s1, s2 = 1 / r, 1.4 / r
    torch.testing.assert_close(logits, torch.tensor([[s1 + 2 * s2 + 0.5, 3 * s1 - s2]]))
    logits.sum().backward()
    # d logits.sum() / d s = (4, 1); the first prototype is nearest to token (0, -1), the second to (0.6, 0.8)
    expected = torch.tensor([[4 * 0.0, 4 * -1.0], [0.6, 0.8]]) / r
    torch.testing.assert_close(probe.prototypes.weight.grad, expected)


def test_cgp_worked_by_hand():
    """Two layers mixed half and half; tokens (.3, .9) and (.5, -.5), cls (.5, .5), prototypes e1 and e2."""
    probe = probes.create("cgp", TokenShape(2, 2, 2, True, 6.25), 2, prototypes=2).eval()
    with torch.no_grad():
        probe.prototypes.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        probe.head.weight.copy_(torch.tensor([[1.0, 2, 3, 4, 5, 6], [1.0, 0, 0, 0, 0, -1]]))
        probe.head.bias.copy_(torch.tensor([0.0, 1.0]))
    x = torch.tensor([[[3.0, 4.0], [2.0, 0.0]], [[0.0, 5.0], [0.0, -7.0]]]).view(1, 2, 1, 2, 2)
    cls = torch.tensor([[[2.0, 0.0], [0.0, 3.0]]])
    low, middle, high = (0.3, -0.5), (0.5, 0.5), (0.5, 0.9)
    features = torch.tensor([*low, *middle, *high])
    expected = torch.stack([(features * torch.arange(1.0, 7.0)).sum(), features[0] - features[5] + 1])
    torch.testing.assert_close(probe(Tokens(x, None, cls))[0], expected)


def test_straight_through_gradient_is_the_closed_form():
    tokens = random_tokens(3, 1, 4, 2, False, 8)
    probe = build("protobin", tokens)
    logits = probe(tokens)
    g = torch.randn_like(logits)
    (actual,) = torch.autograd.grad((logits * g).sum(), probe.prototypes.weight)
    to_s = g @ probe.head.weight
    z = tokens.flat[:, 0] / tokens.flat[:, 0].norm(dim=2, keepdim=True)
    similarity = (z @ probe.prototypes.normalised().T).masked_fill(~tokens.token_mask[:, :, None], -torch.inf)
    nearest = similarity.argmax(1)
    for k in range(len(actual)):
        expected = sum(to_s[b, k] * z[b, nearest[b, k]] for b in range(3)) / math.sqrt(D)
        torch.testing.assert_close(actual[k], expected, rtol=1e-9, atol=1e-9)


def test_penalties_equal_their_formulas():
    proto = build("proto", ONE)
    p = torch.nn.functional.normalize(proto.prototypes.weight, dim=1).view(C, 2, D)
    total = sum(((p[c] @ p[c].T - torch.eye(2)) ** 2).sum() for c in range(C))
    torch.testing.assert_close(proto.penalty(), torch.sqrt(total) / (C * 2 * 2))
    head2toe = build("head2toe", ONE)
    columns = sum(torch.sqrt((column**2).sum()) for column in head2toe.head.linear.weight.T)
    torch.testing.assert_close(head2toe.penalty(), 1e-4 * math.sqrt(C) * columns)


def test_orthogonal_prototypes_have_no_penalty_and_a_finite_gradient():
    proto = build("proto", ONE)
    with torch.no_grad():
        proto.prototypes.weight.copy_(torch.eye(D, dtype=torch.float64)[:2].repeat(C, 1))
    proto.penalty().backward()
    assert proto.penalty() == 0
    assert proto.prototypes.weight.grad.isfinite().all()


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("name", ["linear", "mean", "mlp", "mhca", "ep", "mhca-frame"])
def test_norms_act_on_the_input_of_the_first_linear_layer(name, norm):
    tokens = random_tokens(5, 1, 3, 2, False, 9)
    shape = TokenShape(1, 2, D, False, 6.25)
    plain = build(name, tokens)
    options = SMALL.get(name, {}) | (ADAMW if name in EXACT else {})
    normed = probes.create(name, shape, C, norm=norm, **options).double().train()
    normed.load_state_dict(plain.state_dict(), strict=False)
    inputs = {}
    first = (lambda p: p.hidden) if name == "mlp" else (lambda p: p.head.linear)
    for probe in (plain, normed):
        first(probe).register_forward_pre_hook(lambda _, args, p=probe: inputs.__setitem__(p, args[0]))
        probe(tokens)
    h = inputs[plain].reshape(-1, D)
    expected = {
        "layer": (h - h.mean(1, keepdim=True)) / torch.sqrt(h.var(1, correction=0, keepdim=True) + 1e-5),
        "batch": (h - h.mean(0)) / torch.sqrt(h.var(0, correction=0) + 1e-6),
    }[norm]
    torch.testing.assert_close(inputs[normed].reshape(-1, D), expected)


def test_batch_norm_accepts_a_training_batch_of_one():
    probe = probes.create("mean", TokenShape(1, 1, D, False, 6.25), C, norm="batch", solver="adamw").train()
    probe(Tokens(torch.randn(8, 1, 2, 1, D)))
    single = Tokens(torch.randn(1, 1, 2, 1, D))
    torch.testing.assert_close(probe(single), probe.eval()(single))


def test_knn_in_small_blocks_and_batches_equals_knn_at_once(monkeypatch):
    train, query = random_tokens(40, 1, 2, 1, True, 10), random_tokens(7, 1, 2, 1, True, 11)
    targets = (torch.rand(40, C) < 0.5).double()
    whole = probes.create("knn", TokenShape(1, 1, D, True, 6.25), C, k=6).double()
    whole.partial_fit(train, targets)
    expected = whole(query)
    monkeypatch.setattr("otoscope.probes.knn.BLOCK", 21)
    pieces = probes.create("knn", TokenShape(1, 1, D, True, 6.25), C, k=6).double()
    for start in range(0, 40, 7):
        part = slice(start, start + 7)
        pieces.partial_fit(Tokens(train.x[part], train.mask[part], train.cls[part]), targets[part])
    torch.testing.assert_close(pieces(query), expected)
    again = probes.create("knn", TokenShape(1, 1, D, True, 6.25), C, k=6).double()
    again.load_state_dict(pieces.state_dict())
    torch.testing.assert_close(again(query), expected)


def test_knn_with_fewer_clips_than_k_and_with_none():
    knn = probes.create("knn", TokenShape(1, 1, D, False, 6.25), 2)
    single = Tokens(torch.randn(1, 1, 1, 1, D))
    with pytest.raises(RuntimeError, match="has stored no training clips"):
        knn(single)
    knn.partial_fit(single, torch.tensor([[0.0, 1.0]]))
    assert knn(Tokens(torch.randn(3, 1, 1, 1, D))).argmax(1).tolist() == [1, 1, 1]


def test_only_knn_stores_clips():
    with pytest.raises(NotImplementedError, match="has solver 'exact'; only a probe with solver 'stored'"):
        probes.create("mean", LAST, 3).partial_fit(ONE, torch.zeros(6, 3))


def test_gate_starts_as_the_mean_and_learns_the_informative_layer():
    torch.manual_seed(0)
    targets = (torch.rand(64, C) < 0.5).float()
    x = torch.randn(64, 3, 2, 1, 8)
    x[:, 1, :, 0, :C] += 3 * (2 * targets[:, None] - 1)
    probe = probes.create("mean", TokenShape(3, 1, 8, False, 6.25), C, solver="adamw")
    assert isinstance(probe.layer_gate, LayerGate)
    assert "layer_gate" in probe.no_decay
    torch.testing.assert_close(probe.layer_gate.shares, torch.full((3,), 1 / 3))
    optimiser = torch.optim.AdamW(probe.parameters(), lr=0.05)
    for _ in range(40):
        optimiser.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(probe(Tokens(x)), targets).backward()
        optimiser.step()
    assert probe.layer_gate.shares.argmax() == 1
    assert probe.layer_gate.shares[1] > 0.6
