"""What every probe must do, as named checks: `otoscope check` runs them, also on a plug-in from outside the package.

Each check builds the probe with its default options on small random tokens (width 96) and raises `Broken` with what it
expected and what it found. A probe that passes trains, saves, ships and compares like those of the package.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from otoscope.probes.base import ClipProbe, FrameProbe, Probe, cost, create, registry
from otoscope.types import Tokens, TokenShape

B, T, FREQ, D, C = 4, 4, 3, 96, 5


class Broken(AssertionError):  # noqa: N818
    """A promise of the contract that a probe does not keep."""


@dataclass(frozen=True)
class CheckResult:
    """Outcome of one check on one probe; `message` says what was expected and found where it failed."""

    probe: str
    check: str
    passed: bool
    message: str = ""


Check = Callable[[str], None]
CHECKS: dict[str, Check] = {}


def check_probe(name: str, checks: tuple[str, ...] | None = None) -> list[CheckResult]:
    """Run the contract (or only the named `checks`) on the probe registered as `name`, defaults for every option.

    >>> all(result.passed for result in check_probe("mean"))
    True
    """
    results = []
    for check in checks or tuple(CHECKS):
        try:
            CHECKS[check](name)
        except Exception as error:
            reason = str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {error}"
            results.append(CheckResult(name, check, False, reason))
        else:
            results.append(CheckResult(name, check, True))
    return results


def _check(name: str) -> Callable[[Check], Check]:
    def add(function: Check) -> Check:
        CHECKS[name] = function
        return function

    return add


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise Broken(message)


def _close(found: Tensor, expected: Tensor, message: str, tolerance: float = 1e-4) -> None:
    _expect(found.shape == expected.shape, f"{message}: shapes {list(found.shape)} and {list(expected.shape)}")
    gap = float((found - expected).detach().abs().max())
    _expect(gap <= tolerance * (1 + float(expected.detach().abs().max())), f"{message}: largest difference {gap:.3g}")


def _tokens(
    clips: int = B, layers: int = 1, steps: int = T, freq: int = FREQ, cls: bool = True, seed: int = 0
) -> Tokens:
    """Random tokens without padding."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(clips, layers, steps, freq, D, generator=random)
    return Tokens(x, None, torch.randn(clips, layers, D, generator=random) if cls else None)


def _targets(clips: int = B) -> Tensor:
    return (torch.rand(clips, C, generator=torch.Generator().manual_seed(1)) < 0.5).float()


def _build(name: str, layers: int = 1, freq: int = FREQ, cls: bool = True, seed: int = 0) -> Probe:
    """The probe at its defaults; one that memorises has seen four clips."""
    torch.manual_seed(seed)
    probe = create(name, TokenShape(layers, freq, D, cls, 6.25), C)
    if not probe.trained:
        probe.partial_fit(_tokens(layers=layers, freq=freq, cls=cls, seed=7), _targets())
    return probe.eval()


def _loss(probe: Probe, tokens: Tokens, targets: Tensor) -> Tensor:
    logits = probe(tokens)
    wanted = targets[:, None].expand_as(logits) if logits.ndim == 3 else targets
    loss = F.binary_cross_entropy_with_logits(logits, wanted)
    penalty = probe.penalty()
    return loss if penalty is None else loss + penalty


def _descend(probe: Probe, tokens: Tokens, targets: Tensor, steps: int) -> None:
    """AdamW at the fast end of the probe's own range until every answer is right (looked at every fifth step)."""
    optimiser = torch.optim.AdamW(probe.parameters(), lr=probe.lr.high, weight_decay=0.0)
    for step in range(steps):
        probe.train()
        optimiser.zero_grad()
        _loss(probe, tokens, targets).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % 5 == 4 and _all_right(probe, tokens, targets):
            return


@torch.no_grad()
def _all_right(probe: Probe, tokens: Tokens, targets: Tensor) -> bool:
    logits = probe.eval()(tokens)
    wanted = targets[:, None].expand_as(logits) if logits.ndim == 3 else targets
    return bool(((logits > 0) == (wanted > 0.5)).all())


def _worth(probe: Probe) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in probe.state_dict().items()}


@_check("kind")
def _kind(name: str) -> None:
    cls = registry.get(name)
    kinds = [k.__name__ for k in (ClipProbe, FrameProbe) if issubclass(cls, k)]
    _expect(len(kinds) == 1, f"a probe subclasses either ClipProbe or FrameProbe, {cls.__name__} subclasses {kinds}")


@_check("shape")
def _shape(name: str) -> None:
    probe = _build(name)
    for steps in (T, 1):
        logits = probe(_tokens(steps=steps))
        wanted = [B, steps, C] if isinstance(probe, FrameProbe) else [B, C]
        _expect(list(logits.shape) == wanted, f"logits must be {wanted}, found {list(logits.shape)}")
        _expect(bool(logits.isfinite().all()), f"logits must be finite, found {logits.flatten()[:5].tolist()} ..")


@_check("sequence")
def _sequence(name: str) -> None:
    logits = _build(name, freq=1, cls=False)(_tokens(freq=1, cls=False))
    _expect(bool(logits.isfinite().all()), "logits of an encoder with F = 1 and without cls must be finite")


@_check("padding")
def _padding(name: str) -> None:
    probe, plain = _build(name), _tokens()
    junk = 100 * torch.randn(B, 1, 3, FREQ, D, generator=torch.Generator().manual_seed(2))
    mask = torch.arange(T + 3).expand(B, -1) < T
    padded = Tokens(torch.cat([plain.x, junk], 2), mask, plain.cls)
    logits = probe(padded)
    logits = logits[:, :T] if isinstance(probe, FrameProbe) else logits
    _close(logits, probe(plain), "padded time steps must change nothing")


@_check("rows")
def _rows(name: str) -> None:
    probe, tokens = _build(name), _tokens()
    assert tokens.cls is not None
    alone = [probe(Tokens(tokens.x[i : i + 1], tokens.mask[i : i + 1], tokens.cls[i : i + 1])) for i in range(B)]
    _close(torch.cat(alone), probe(tokens), "a clip's logits must not depend on its batch")


@_check("evaluation")
def _evaluation(name: str) -> None:
    probe, tokens = _build(name), _tokens()
    _close(probe(tokens), probe(tokens), "in eval mode the same tokens must give the same logits", 0.0)


@_check("inputs")
def _inputs(name: str) -> None:
    tokens, same = _tokens(), _tokens()
    _build(name)(tokens)
    _expect(torch.equal(tokens.x, same.x), "a probe must not write into tokens.x")
    _expect(torch.equal(tokens.summary, same.summary), "a probe must not write into tokens.cls")


@_check("gradient")
def _gradient(name: str) -> None:
    if not registry.get(name).trained:
        return
    depths = (2,) if registry.get(name).uses_all_layers else (1, 2)
    for layers in depths:
        probe = _build(name, layers=layers).train()
        _loss(probe, _tokens(layers=layers), _targets()).backward()  # type: ignore[no-untyped-call]
        without = [
            k
            for k, p in probe.named_parameters()
            if k not in probe.no_gradient and (p.grad is None or not bool((p.grad != 0).any()))
        ]
        _expect(not without, f"every parameter must get a gradient ({layers} layers), none reached {without}")


@_check("overfit")
def _overfit(name: str) -> None:
    probe, tokens, targets = _build(name), _tokens(8, seed=3), _targets(8)
    if probe.trained:
        _descend(probe, tokens, targets, 300)
    else:
        probe.partial_fit(tokens, targets)
    _expect(_all_right(probe, tokens, targets), "a probe must be able to learn 8 clips by heart in 300 steps")


@_check("seed")
def _seed(name: str) -> None:
    states = []
    for _ in range(2):
        probe = _build(name, seed=5)
        if probe.trained:
            _descend(probe, _tokens(), _targets(), 2)
        states.append(_worth(probe))
    differing = [k for k in states[0] if not torch.equal(states[0][k], states[1][k])]
    _expect(not differing, f"the same seed must give the same weights, {differing} differ")


@_check("save")
def _save(name: str) -> None:
    from safetensors.torch import load, save

    probe, tokens = _build(name), _tokens()
    if probe.trained:
        _descend(probe, tokens, _targets(), 2)
    state = load(save(_worth(probe)))
    torch.manual_seed(99)
    again = create(name, probe.shape, C).eval()
    again.load_state_dict(state)
    _close(again(tokens), probe.eval()(tokens), "a saved and loaded probe must give the same logits", 0.0)


@_check("eager")
def _eager(name: str) -> None:
    compiled = [
        k
        for k, module in _build(name).named_modules()
        if isinstance(module, torch.jit.ScriptModule) or type(module).__name__ == "OptimizedModule"
    ]
    _expect(not compiled, f"a probe holds no scripted or compiled parts, so that it runs anywhere; found {compiled}")


@_check("pooled")
def _pooled(name: str) -> None:
    if registry.get(name).reads == "tokens":
        return
    probe, tokens = _build(name), _tokens()
    _close(probe(tokens.pooled()), probe(tokens), f"reads = {probe.reads!r}: pooled tokens must give the same logits")


@_check("layers")
def _layers(name: str) -> None:
    probe, tokens = _build(name, layers=3), _tokens(layers=3)
    before = probe(tokens)
    _expect(before.shape[0] == B and bool(before.isfinite().all()), "a probe must take several layers")
    tokens.x[:, 0].neg_()
    tokens.summary[:, 0].neg_()
    _expect(not torch.equal(before, probe(tokens)), "the logits must depend on every layer, also on the first")


@_check("cost")
def _cost(name: str) -> None:
    for layers in (1, 3):
        probe = _build(name, layers=layers)
        price = cost(name, probe.shape, C, T * FREQ)
        held = sum(p.numel() for p in probe.parameters())
        _expect(price.parameters == held, f"cost() says {price.parameters} parameters, the module holds {held}")
        _expect(price.macs > 0 and price.bytes > 0, f"cost() must give MACs and bytes above zero, found {price}")


@_check("options")
def _options(name: str) -> None:
    def options(function: Any) -> dict[str, Any]:
        found = inspect.signature(function).parameters.values()
        _expect(
            not any(p.kind is p.VAR_KEYWORD for p in found), f"{function.__qualname__} must name its options, no **"
        )
        return {p.name: p.default for p in found if p.kind is p.KEYWORD_ONLY}

    cls = registry.get(name)
    built, priced = options(cls.__init__), options(cls.cost)
    _expect(built == priced, f"constructor and cost() must take the same options, found {built} and {priced}")
    missing = [k for k, default in built.items() if default is inspect.Parameter.empty]
    _expect(not missing, f"every option needs a default, {missing} have none")


@_check("no decay")
def _no_decay(name: str) -> None:
    probe = _build(name)
    held = [k for k, _ in probe.named_parameters()]
    lost = [n for n in (*probe.no_decay, *probe.no_gradient) if not any(k.startswith(n) for k in held)]
    _expect(not lost, f"no_decay and inert must name parameters, {lost} match none of {held}")


@_check("penalty")
def _penalty(name: str) -> None:
    penalty = _build(name).penalty()
    sound = penalty is None or (penalty.ndim == 0 and bool(penalty.isfinite()))
    _expect(sound, f"penalty() gives None or a finite scalar, found {penalty}")


@_check("stacked")
def _stacked(name: str) -> None:
    if not registry.get(name).stackable:
        return
    probes, tokens = [_build(name, seed=seed).train() for seed in range(3)], _tokens(3 * B)
    parameters = {key: torch.stack([p.state_dict()[key] for p in probes]) for key in probes[0].state_dict()}
    own = [tokens.select_clips(torch.arange(B) + start) for start in (0, B, 2 * B)]
    for batch, sets, each in ((own[0], 1, own[:1] * 3), (tokens, 3, own)):
        wanted = torch.stack([probe(clips) for probe, clips in zip(probes, each, strict=True)])
        _close(
            probes[0].stacked_forward(parameters, batch, sets),
            wanted,
            f"stacked, {sets} sets of clips: as each by itself",
        )
