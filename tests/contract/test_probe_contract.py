"""Every probe passes the contract, and every check has a culprit: a probe that must fail it."""

import pytest
import torch
from torch import nn

from otoscope import probes
from otoscope.probes import ClipProbe, FrameProbe, Probe, Range, registry
from otoscope.probes.contract import CONTRACT, check_probe


@CONTRACT.parametrize(probes.names())
def test_every_probe_passes_the_contract(check):
    check()


class Correct(ClipProbe):
    """A correct probe, linear on the masked mean, that the culprits break in one way each."""

    reads = "mean"
    lr = Range(1e-3, 5e-2)

    def __init__(self, shape, n_classes):
        super().__init__(shape, n_classes)
        self.linear = nn.Linear(shape.dim, n_classes)

    def forward(self, tokens):
        return self.linear(tokens.mean[:, 0])


class NeitherKind(Probe):
    __init__, forward = Correct.__init__, Correct.forward


class WrongShape(Correct):
    def forward(self, tokens):
        return super().forward(tokens)[:, :-1]


class NeedsCls(Correct):
    def forward(self, tokens):
        return self.linear(tokens.cls[:, 0])


class AveragesPadding(Correct):
    reads = "tokens"

    def forward(self, tokens):
        return self.linear(tokens.flat[:, 0].mean(1))


class UsesOtherClips(Correct):
    def forward(self, tokens):
        mean = tokens.mean[:, 0]
        return self.linear(mean - mean.mean(0))


class DropsInEvaluation(Correct):
    def forward(self, tokens):
        return self.linear(nn.functional.dropout(tokens.mean[:, 0], 0.5, training=True))


class WritesIntoTokens(Correct):
    def forward(self, tokens):
        tokens.x.mul_(0.5)
        return super().forward(tokens)


class DeadParameter(Correct):
    def __init__(self, shape, n_classes):
        super().__init__(shape, n_classes)
        self.unused = nn.Parameter(torch.zeros(3))


class CannotLearn(Correct):
    def forward(self, tokens):
        return self.linear(tokens.mean[:, 0] * 1e-6)


class UnseededStart(Correct):
    def __init__(self, shape, n_classes):
        super().__init__(shape, n_classes)
        with torch.no_grad():
            self.linear.bias.uniform_(generator=torch.Generator().manual_seed(torch.Generator().seed()))


class ForgetsWhatItLearned(Correct):
    def __init__(self, shape, n_classes):
        super().__init__(shape, n_classes)
        self.offset = torch.randn(n_classes)

    def forward(self, tokens):
        return super().forward(tokens) + self.offset


class Scripted(Correct):
    def __init__(self, shape, n_classes):
        super().__init__(shape, n_classes)

        class OptimizedModule(nn.Identity):
            pass

        self.fast = OptimizedModule()


class ClaimsToReadMeans(AveragesPadding):
    reads = "mean"

    def forward(self, tokens):
        return self.linear(tokens.flat[:, 0].amax(1))


class OnlyLastLayer(Correct):
    uses_all_layers = True

    def forward(self, tokens):
        return self.linear(tokens.mean[:, -1])


class FreeOfCharge(Correct):
    def macs(self, n_tokens):  # noqa: ARG002
        return 0


class CannotBeCounted(Correct):
    def __init__(self, shape, n_classes):
        super().__init__(shape, n_classes)
        self.offset = torch.zeros(n_classes)

    def forward(self, tokens):
        return super().forward(tokens) + self.offset


class DrawsForItsCost(Correct):
    def macs(self, n_tokens):
        return int(n_tokens * torch.rand(1).item()) + 1


class OptionWithoutDefault(Correct):
    def __init__(self, shape, n_classes, *, width):  # noqa: ARG002
        super().__init__(shape, n_classes)


class TakesAnyOption(Correct):
    def __init__(self, shape, n_classes, **options):  # noqa: ARG002
        super().__init__(shape, n_classes)


class MisspeltDecay(Correct):
    no_decay = ("prototype",)


class VectorPenalty(Correct):
    def penalty(self):
        return self.linear.bias.abs()


class ShipsItsShape(Correct):
    def shipped_state(self):
        return {name: tensor.sign() for name, tensor in self.state_dict().items()}


class StacksWithDropout(Correct):
    stackable = True

    def forward(self, tokens):
        return self.linear(nn.functional.dropout(tokens.mean[:, 0], 0.5, self.training))


class StandardisesByAnUnknownRule(Correct):
    standardises = "norm"


class FoldsTheScaleAlone(Correct):
    def fold(self, mean, scale):  # noqa: ARG002
        self.linear.weight.data.div_(scale.x.flatten())
        return True


CULPRITS = {
    "kind": (NeitherKind, "either ClipProbe or FrameProbe"),
    "shape": (WrongShape, "must be [4, 5], found [4, 4]"),
    "sequence": (NeedsCls, "NoneType"),
    "padding": (AveragesPadding, "padded time steps must change nothing: largest difference"),
    "rows": (UsesOtherClips, "must not depend on its batch"),
    "evaluation": (DropsInEvaluation, "in eval mode"),
    "inputs": (WritesIntoTokens, "must not write into tokens.x"),
    "standardised": (StandardisesByAnUnknownRule, "must be one of 'scale', 'centre', 'none', found 'norm'"),
    "fold": (FoldsTheScaleAlone, "must give the logits of standardised tokens"),
    "gradient": (DeadParameter, "none reached ['unused']"),
    "overfit": (CannotLearn, "memorise 8 clips"),
    "seed": (UnseededStart, "the same seed must give the same weights"),
    "save": (ForgetsWhatItLearned, "saved and loaded"),
    "eager": (Scripted, "found ['fast']"),
    "pooled": (ClaimsToReadMeans, "pooled tokens must give the same logits"),
    "layers": (OnlyLastLayer, "every layer"),
    "cost": (FreeOfCharge, "must be above zero, found Cost(parameters=485, macs=0"),
    "options": (OptionWithoutDefault, "every option needs a default, ['width'] have none"),
    "no decay": (MisspeltDecay, "['prototype'] match none"),
    "penalty": (VectorPenalty, "finite scalar"),
    "stacked": (StacksWithDropout, "randomness"),
}

MORE = [
    ("save", ShipsItsShape, "load_shipped(shipped_state()) must give a probe with the same logits"),
    ("cost", CannotBeCounted, "define macs(self, n_tokens) on the class"),
    ("cost", DrawsForItsCost, "must not draw random numbers"),
    ("options", TakesAnyOption, "must name its options"),
]


@pytest.fixture
def known(isolated_registries):  # noqa: ARG001
    """Registers a class for one test only."""

    def add(cls, name="culprit"):
        registry.register(name)(cls)
        return name

    return add


def test_the_probe_that_the_culprits_break_is_correct(known):
    assert [result for result in check_probe(known(Correct)) if not result.passed] == []


def test_a_constructor_may_read_values_of_tensors(known):
    class Rescaled(Correct):
        def __init__(self, shape, n_classes):
            super().__init__(shape, n_classes)
            self.scale = float(self.linear.weight.detach().std())

    assert [result for result in check_probe(known(Rescaled)) if not result.passed] == []


def test_every_check_has_a_culprit():
    assert set(CULPRITS) == set(CONTRACT.checks)


@pytest.mark.parametrize(("check", "culprit", "reason"), [(check, *rest) for check, rest in CULPRITS.items()] + MORE)
def test_culprit_fails_its_check(check, culprit, reason, known):
    [result] = check_probe(known(culprit), (check,))
    assert not result.passed
    assert reason in result.message


def test_a_stack_that_mixes_up_its_probes_fails(known):
    class FirstForAll(Correct):
        stackable = True

        def stacked_forward(self, parameters, tokens, sets):
            return super().stacked_forward({name: p[:1].expand_as(p) for name, p in parameters.items()}, tokens, sets)

    [result] = check_probe(known(FirstForAll), ("stacked",))
    assert "1 batches of clips: each probe must give the logits that it gives alone: largest diff" in result.message


def test_a_frame_probe_with_one_prediction_for_each_clip_fails(known):
    class OnePrediction(FrameProbe):
        def forward(self, tokens):
            return tokens.mean[:, 0, :5]

    [result] = check_probe(known(OnePrediction), ("shape",))
    assert "logits must be [4, 4, 5], found [4, 5]" in result.message
