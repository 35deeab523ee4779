"""Every probe keeps every promise of the contract, and every check has a culprit that it catches."""

import pytest
import torch
from torch import nn

from otoscope import probes
from otoscope.probes import Range, registry
from otoscope.probes.base import ClipProbe, Cost, FrameProbe, Probe
from otoscope.probes.contract import CHECKS, check_probe


@pytest.mark.parametrize("name", probes.names())
def test_every_probe_keeps_the_contract(name):
    failed = [f"{result.check}: {result.message}" for result in check_probe(name) if not result.passed]
    assert not failed


class Sound(ClipProbe):
    """A sound probe for culprits to spoil: linear on the masked mean."""

    reads = "mean"
    lr = Range(1e-3, 5e-2)

    def __init__(self, shape, n_classes):
        super().__init__(shape, n_classes)
        self.linear = nn.Linear(shape.dim, n_classes)

    def forward(self, tokens):
        return self.linear(tokens.mean[:, 0])

    @classmethod
    def cost(cls, shape, n_classes, n_tokens):  # noqa: ARG003
        size = shape.dim * n_classes + n_classes
        return Cost(size, size, 4 * size)


class NeitherKind(Probe):
    __init__, forward, cost = Sound.__init__, Sound.forward, Sound.__dict__["cost"]


class WrongShape(Sound):
    def forward(self, tokens):
        return super().forward(tokens)[:, :-1]


class NeedsCls(Sound):
    def forward(self, tokens):
        return self.linear(tokens.cls[:, 0])


class AveragesPadding(Sound):
    reads = "tokens"

    def forward(self, tokens):
        return self.linear(tokens.flat[:, 0].mean(1))


class LooksAtItsNeighbours(Sound):
    def forward(self, tokens):
        mean = tokens.mean[:, 0]
        return self.linear(mean - mean.mean(0))


class DropsInEvaluation(Sound):
    def forward(self, tokens):
        return self.linear(nn.functional.dropout(tokens.mean[:, 0], 0.5, training=True))


class WritesIntoTokens(Sound):
    def forward(self, tokens):
        tokens.x.mul_(0.5)
        return super().forward(tokens)


class DeadParameter(Sound):
    def __init__(self, shape, n_classes):
        super().__init__(shape, n_classes)
        self.unused = nn.Parameter(torch.zeros(3))


class CannotLearn(Sound):
    def forward(self, tokens):
        return self.linear(tokens.mean[:, 0] * 1e-6)


class UnseededStart(Sound):
    def __init__(self, shape, n_classes):
        super().__init__(shape, n_classes)
        with torch.no_grad():
            self.linear.bias.uniform_(generator=torch.Generator().manual_seed(torch.Generator().seed()))


class ForgetsWhatItLearned(Sound):
    def __init__(self, shape, n_classes):
        super().__init__(shape, n_classes)
        self.offset = torch.randn(n_classes)

    def forward(self, tokens):
        return super().forward(tokens) + self.offset


class Scripted(Sound):
    def __init__(self, shape, n_classes):
        super().__init__(shape, n_classes)

        class OptimizedModule(nn.Identity):
            pass

        self.fast = OptimizedModule()


class ClaimsToReadMeans(AveragesPadding):
    reads = "mean"

    def forward(self, tokens):
        return self.linear(tokens.flat[:, 0].amax(1))


class OnlyLastLayer(Sound):
    uses_all_layers = True

    def forward(self, tokens):
        return self.linear(tokens.mean[:, -1])


class WrongCost(Sound):
    @classmethod
    def cost(cls, shape, n_classes, n_tokens):  # noqa: ARG003
        return Cost(shape.dim * n_classes, 1, 1)


class HiddenOption(Sound):
    def __init__(self, shape, n_classes, *, width=3):  # noqa: ARG002
        super().__init__(shape, n_classes)


class MisspeltDecay(Sound):
    no_decay = ("prototype",)


class VectorPenalty(Sound):
    def penalty(self):
        return self.linear.bias.abs()


class StacksWithDropout(Sound):
    stackable = True

    def forward(self, tokens):
        return self.linear(nn.functional.dropout(tokens.mean[:, 0], 0.5, self.training))


CULPRITS = {
    "kind": (NeitherKind, "either ClipProbe or FrameProbe"),
    "shape": (WrongShape, "must be [4, 5], found [4, 4]"),
    "sequence": (NeedsCls, "NoneType"),
    "padding": (AveragesPadding, "padded time steps must change nothing: largest difference"),
    "rows": (LooksAtItsNeighbours, "must not depend on its batch"),
    "evaluation": (DropsInEvaluation, "in eval mode"),
    "inputs": (WritesIntoTokens, "must not write into tokens.x"),
    "gradient": (DeadParameter, "none reached ['unused']"),
    "overfit": (CannotLearn, "learn 8 clips by heart"),
    "seed": (UnseededStart, "the same seed must give the same weights"),
    "save": (ForgetsWhatItLearned, "saved and loaded"),
    "eager": (Scripted, "found ['fast']"),
    "pooled": (ClaimsToReadMeans, "pooled tokens must give the same logits"),
    "layers": (OnlyLastLayer, "every layer"),
    "cost": (WrongCost, "cost() says 480 parameters, the module holds 485"),
    "options": (HiddenOption, "the same options"),
    "no decay": (MisspeltDecay, "['prototype'] match none"),
    "penalty": (VectorPenalty, "finite scalar"),
    "stacked": (StacksWithDropout, "randomness"),
}


@pytest.fixture
def known(isolated_registries):  # noqa: ARG001
    """Registers a class for one test only."""

    def add(cls, name="culprit"):
        registry.register(name)(cls)
        return name

    return add


def test_the_culprits_are_spoiled_from_something_sound(known):
    assert [result for result in check_probe(known(Sound)) if not result.passed] == []


def test_every_check_has_a_culprit():
    assert set(CULPRITS) == set(CHECKS)


@pytest.mark.parametrize("check", CULPRITS)
def test_culprit_is_caught(check, known):
    culprit, reason = CULPRITS[check]
    [result] = check_probe(known(culprit), (check,))
    assert not result.passed
    assert reason in result.message


def test_a_stack_that_mixes_up_its_rows_is_caught(known):
    class FirstForAll(Sound):
        stackable = True

        def stacked_forward(self, parameters, tokens, sets):
            return super().stacked_forward({name: p[:1].expand_as(p) for name, p in parameters.items()}, tokens, sets)

    [result] = check_probe(known(FirstForAll), ("stacked",))
    assert "stacked, 1 sets of clips: as each by itself: largest difference" in result.message


def test_frame_probe_that_answers_for_clips_is_caught(known):
    class ClipAnswer(FrameProbe):
        cost = Sound.__dict__["cost"]

        def forward(self, tokens):
            return tokens.mean[:, 0, :5]

    [result] = check_probe(known(ClipAnswer), ("shape",))
    assert "logits must be [4, 4, 5], found [4, 5]" in result.message
