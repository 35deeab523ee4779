"""The contract of probes: named checks that every probe must pass, including plug-ins.

Each check builds the probe with its default options and runs it on small random tokens of width 96. A probe that passes
can be trained, saved, exported and compared like the built-in probes. `otoscope check probe` runs the contract from the
command line; in the tests of a plug-in, pytest runs each check as a separate test:

    from otoscope.probes.contract import CONTRACT

    @CONTRACT.parametrize(["loudest"])
    def test_contract(check):
        check()
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable

import torch

from otoscope.contract import CheckResult, Contract, expect
from otoscope.probes._contract_tools import (
    FREQ,
    B,
    C,
    D,
    T,
    all_correct,
    build,
    close,
    loss,
    random_targets,
    random_tokens,
    state,
    train,
)
from otoscope.probes._create import cost, create, solver_of
from otoscope.probes.base import ClipProbe, FrameProbe, registry
from otoscope.types import Tokens

FORMS = ("scale", "centre", "none")
CONTRACT = Contract[str]("probe")


def check_probe(name: str, checks: Iterable[str] | None = None) -> list[CheckResult]:
    """Run the contract on a registered probe.

    Parameters
    ----------
    name : name of the probe.
    checks : names of the checks to run; None for all.

    Returns
    -------
    One result for each check.

    Examples
    --------
    >>> all(result.passed for result in check_probe("mean"))
    True
    """
    return CONTRACT.run(name, name, checks)


@CONTRACT.check("kind")
def _kind(name: str) -> None:
    cls = registry.get(name)
    kinds = [k.__name__ for k in (ClipProbe, FrameProbe) if issubclass(cls, k)]
    expect(len(kinds) == 1, f"a probe subclasses either ClipProbe or FrameProbe, {cls.__name__} subclasses {kinds}")


@CONTRACT.check("shape")
def _shape(name: str) -> None:
    probe = build(name)
    for steps in (T, 1):
        logits = probe(random_tokens(steps=steps))
        expected = [B, steps, C] if isinstance(probe, FrameProbe) else [B, C]
        expect(list(logits.shape) == expected, f"logits must be {expected}, found {list(logits.shape)}")
        expect(bool(logits.isfinite().all()), f"logits must be finite, found {logits.flatten()[:5].tolist()} ..")


@CONTRACT.check("sequence")
def _sequence(name: str) -> None:
    logits = build(name, freq=1, cls=False)(random_tokens(freq=1, cls=False))
    expect(bool(logits.isfinite().all()), "logits of an encoder with F = 1 and without cls must be finite")


@CONTRACT.check("padding")
def _padding(name: str) -> None:
    probe, plain = build(name), random_tokens()
    padding = 100 * torch.randn(B, 1, 3, FREQ, D, generator=torch.Generator().manual_seed(2))
    mask = torch.arange(T + 3).expand(B, -1) < T
    padded = Tokens(torch.cat([plain.x, padding], 2), mask, plain.cls)
    logits = probe(padded)
    logits = logits[:, :T] if isinstance(probe, FrameProbe) else logits
    close(logits, probe(plain), "padded time steps must change nothing")


@CONTRACT.check("rows")
def _rows(name: str) -> None:
    probe, tokens = build(name), random_tokens()
    alone = [probe(tokens.select_clips(torch.tensor([clip]))) for clip in range(B)]
    close(torch.cat(alone), probe(tokens), "a clip's logits must not depend on its batch")


@CONTRACT.check("evaluation")
def _evaluation(name: str) -> None:
    probe, tokens = build(name), random_tokens()
    close(probe(tokens), probe(tokens), "in eval mode the same tokens must give the same logits", 0.0)


@CONTRACT.check("inputs")
def _inputs(name: str) -> None:
    tokens, same = random_tokens(), random_tokens()
    build(name)(tokens)
    expect(torch.equal(tokens.x, same.x), "a probe must not write into tokens.x")
    expect(torch.equal(tokens.summary, same.summary), "a probe must not write into tokens.cls")


@CONTRACT.check("gradient")
def _gradient(name: str) -> None:
    if solver_of(name, {}) == "stored":
        return
    for layers in (2,) if registry.get(name).uses_all_layers else (1, 2):
        probe = build(name, layers=layers).train()
        loss(probe, random_tokens(layers=layers), random_targets()).backward()  # type: ignore[no-untyped-call]
        without = [
            key
            for key, p in probe.named_parameters()
            if key not in probe.no_gradient and (p.grad is None or not bool((p.grad != 0).any()))
        ]
        expect(not without, f"every parameter must get a gradient ({layers} layers), none reached {without}")


@CONTRACT.check("overfit")
def _overfit(name: str) -> None:
    probe, tokens, targets = build(name), random_tokens(8, seed=3), random_targets(8)
    if probe.solver != "stored":
        train(probe, tokens, targets, 300)
    else:
        probe.partial_fit(tokens, targets)
    expect(all_correct(probe, tokens, targets), "a probe must be able to memorise 8 clips in 300 steps")


@CONTRACT.check("seed")
def _seed(name: str) -> None:
    states = []
    for _ in range(2):
        probe = build(name, seed=5)
        if probe.solver != "stored":
            train(probe, random_tokens(), random_targets(), 2)
        states.append(state(probe))
    differing = [key for key in states[0] if not torch.equal(states[0][key], states[1][key])]
    expect(not differing, f"the same seed must give the same weights, {differing} differ")


@CONTRACT.check("save")
def _save(name: str) -> None:
    from safetensors.torch import load, save

    probe, tokens = build(name), random_tokens()
    if probe.solver != "stored":
        train(probe, tokens, random_targets(), 2)
    saved = load(save(state(probe)))
    torch.manual_seed(99)
    loaded = create(name, probe.shape, C).eval()
    loaded.load_state_dict(saved)
    close(loaded(tokens), probe.eval()(tokens), "a saved and loaded probe must give the same logits", 0.0)
    torch.manual_seed(98)
    shipped = create(name, probe.shape, C).eval()
    shipped.load_shipped(load(save({key: tensor.contiguous() for key, tensor in probe.shipped_state().items()})))
    close(shipped(tokens), probe(tokens), "load_shipped(shipped_state()) must give a probe with the same logits", 0.0)


@CONTRACT.check("eager")
def _eager(name: str) -> None:
    compiled = [
        key
        for key, module in build(name).named_modules()
        if isinstance(module, torch.jit.ScriptModule) or type(module).__name__ == "OptimizedModule"
    ]
    expect(not compiled, f"a probe has no scripted or compiled parts, so that it runs anywhere; found {compiled}")


@CONTRACT.check("pooled")
def _pooled(name: str) -> None:
    if registry.get(name).reads == "tokens":
        return
    probe, tokens = build(name), random_tokens()
    close(probe(tokens.pooled()), probe(tokens), f"reads = {probe.reads!r}: pooled tokens must give the same logits")


@CONTRACT.check("layers")
def _layers(name: str) -> None:
    probe, tokens = build(name, layers=3), random_tokens(layers=3)
    before = probe(tokens)
    expect(before.shape[0] == B and bool(before.isfinite().all()), "a probe must take several layers")
    tokens.x[:, 0].neg_()
    tokens.summary[:, 0].neg_()
    expect(not torch.equal(before, probe(tokens)), "the logits must depend on every layer, also on the first")


@CONTRACT.check("cost")
def _cost(name: str) -> None:
    for layers in (1, 3):
        probe = build(name, layers=layers)
        before = torch.get_rng_state()
        computed = cost(name, probe.shape, C, T * FREQ)
        expect(torch.equal(before, torch.get_rng_state()), "cost() must not draw random numbers")
        count = sum(p.numel() for p in probe.parameters())
        expect(computed.parameters == count, f"cost() counts {computed.parameters} parameters, the module has {count}")
        expect(
            computed.macs > 0 and computed.bytes > 0, f"macs() and shipped_bytes must be above zero, found {computed}"
        )


@CONTRACT.check("options")
def _options(name: str) -> None:
    constructor = registry.get(name).__init__
    parameters = inspect.signature(constructor).parameters.values()
    expect(
        not any(p.kind is p.VAR_KEYWORD for p in parameters),
        f"{constructor.__qualname__} must name its options, not take **options",
    )
    missing = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    expect(not missing, f"every option needs a default, {missing} have none")


@CONTRACT.check("no decay")
def _no_decay(name: str) -> None:
    probe = build(name)
    names = [key for key, _ in probe.named_parameters()]
    unmatched = [n for n in (*probe.no_decay, *probe.no_gradient) if not any(key.startswith(n) for key in names)]
    expect(not unmatched, f"no_decay and no_gradient must name parameters, {unmatched} match none of {names}")


@CONTRACT.check("penalty")
def _penalty(name: str) -> None:
    penalty = build(name).penalty()
    valid = penalty is None or (penalty.ndim == 0 and bool(penalty.isfinite()))
    expect(valid, f"penalty() gives None or a finite scalar, found {penalty}")


@CONTRACT.check("standardised")
def _standardised(name: str) -> None:
    form = registry.get(name).standardises
    expect(form in FORMS, f"standardises must be one of {', '.join(map(repr, FORMS))}, found {form!r}")


@CONTRACT.check("fold")
def _fold(name: str) -> None:
    for layers in (1, 2):
        probe, tokens = build(name, layers=layers), random_tokens(layers=layers)
        mean, scale = (random_tokens(1, layers, 1, 1, seed=seed) for seed in (4, 5))
        scale = Tokens(scale.x.exp(), None, None if scale.cls is None else scale.cls.exp())
        assert tokens.cls is not None
        assert mean.cls is not None
        assert scale.cls is not None
        standardised = Tokens((tokens.x - mean.x) / scale.x, None, (tokens.cls - mean.cls) / scale.cls)
        before, unchanged = probe(standardised), probe(tokens)
        folded = probe.fold(mean, scale)
        message = "fold() must give the logits of standardised tokens and return True, or change nothing"
        close(probe(tokens), before if folded else unchanged, message)


@CONTRACT.check("stacked")
def _stacked(name: str) -> None:
    if not registry.get(name).stackable:
        return
    probes, tokens = [build(name, seed=seed).train() for seed in range(3)], random_tokens(3 * B)
    parameters = {key: torch.stack([p.state_dict()[key] for p in probes]) for key in probes[0].state_dict()}
    batches = [tokens.select_clips(torch.arange(B) + start) for start in (0, B, 2 * B)]
    for batch, sets, each in ((batches[0], 1, batches[:1] * 3), (tokens, 3, batches)):
        expected = torch.stack([probe(clips) for probe, clips in zip(probes, each, strict=True)])
        message = f"stacked_forward, {sets} batches of clips: each probe must give the logits that it gives alone"
        close(probes[0].stacked_forward(parameters, batch, sets), expected, message)
