"""The classifier in a published checkpoint, measured beside probes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from helpers_small_encoder import Small, published
from otoscope import datasets, encoders
from otoscope.cli import main
from otoscope.datasets.waveform import waveform
from otoscope.encoders.catalog import Classifier, Converted
from otoscope.metrics import evaluate
from otoscope.results import Store
from otoscope.types import AudioBatch
from toys import Tones

ORDER = ("high", "whistle", "low", "middle")
"""The classes of the checkpoint, in another order than those of the data set."""


class Tuned(Small):
    """A fine-tuned encoder."""

    classifier = Classifier(reads="cls", linear=("top.linear",), norm=("top.norm",), epsilon=0.1, labels="")

    @classmethod
    def convert(cls, tensors):
        converted = super().convert({name: value for name, value in tensors.items() if not name.startswith("top.")})
        return Converted(converted.body, {name: tensors[name] for name in tensors if name.startswith("top.")})


class Averaged(Tuned):
    """A fine-tuned encoder whose classifier reads the mean of all tokens."""

    classifier = Classifier(reads="mean", linear=("classifier", "top.linear"), labels="")


def _head() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    sizes = {"top.linear.weight": (4, 8), "top.linear.bias": (4,), "top.norm.weight": (8,), "top.norm.bias": (8,)}
    return {name: torch.randn(size, generator=generator) for name, size in sizes.items()}


@pytest.fixture
def checkpoint(toy_plugins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: ARG001
    """The checkpoint of the encoders `tuned` and `averaged`, which are registered."""
    monkeypatch.setenv("OTOSCOPE_MODELS", str(tmp_path / "models"))
    encoders.register("tuned")(Tuned)
    encoders.register("averaged")(Averaged)
    torch.save({"label_dict": dict(enumerate(ORDER)), "model": published() | _head()}, tmp_path / "tuned.pt")
    return tmp_path / "tuned.pt"


def _expected(name: str, checkpoint: Path) -> torch.Tensor:
    """The logits of the held-out clips for the classes of the data set, from the formula."""
    encoder, head = encoders.create(name, file=str(checkpoint)), _head()
    waves = [waveform(clip, encoder.sample_rate) for clip in Tones().clips("test")]
    tokens = encoder.encode(AudioBatch.of(waves, encoder.sample_rate))
    if name == "tuned":
        assert tokens.cls is not None
        h = tokens.cls[:, -1]
        h = (h - h.mean(1, keepdim=True)) / (h.var(1, unbiased=False, keepdim=True) + 0.1).sqrt()
        h = h * head["top.norm.weight"] + head["top.norm.bias"]
    else:
        h = tokens.x[:, -1].flatten(1, 2).mean(1)
    logits = h @ head["top.linear.weight"].T + head["top.linear.bias"]
    return logits[:, [ORDER.index(label) for label in ("low", "middle", "high")]]


@pytest.mark.parametrize("name", ["tuned", "averaged"])
@pytest.mark.parametrize("converted", [True, False])
def test_the_logits_are_those_of_the_formula_in_the_order_of_the_data_set(
    name: str, converted: bool, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["encoders", "evaluate", name, "--dataset", "tones", "--out", str(tmp_path / "runs"), "--quiet"]
    if converted:
        assert main(["encoders", "convert", str(checkpoint), "--encoder", name]) == 0
    else:
        command += ["--file", str(checkpoint)]
    assert main(command) == 0
    assert main(command) == 0
    store = Store(tmp_path / "runs" / "results")
    (record,) = store
    predictions = store.predictions(record)
    expected = _expected(name, checkpoint)
    torch.testing.assert_close(torch.from_numpy(predictions.scores), expected, rtol=1e-4, atol=1e-4)
    assert record.value == pytest.approx(evaluate(expected.numpy(), predictions.targets, "multi-label")["mAP"])
    assert (record.encoder, record.probe, record.protocol.probe) == (name, "classifier", "classifier")
    assert "classifier" in capsys.readouterr().out


def test_the_result_stands_beside_those_of_probes(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["encoders", "convert", str(checkpoint), "--encoder", "tuned"])
    common = ["--dataset", "tones", "--out", str(tmp_path / "runs"), "--quiet"]
    assert main(["encoders", "evaluate", "tuned", *common]) == 0
    assert main(["probe", "--encoder", "tuned", "--probe", "linear", *common]) == 0
    for command in (["results"], ["results", "--summary"], ["compare", "classifier", "linear"], ["report"]):
        assert main([*command, "--out", str(tmp_path / "runs")]) == 0
    assert "classifier" in (tmp_path / "runs" / "report.html").read_text()
    assert "tuned on tones" in capsys.readouterr().out


def test_what_cannot_be_measured_is_refused_before_anything_is_encoded(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Whistles(Tones):
        def __init__(self) -> None:
            super().__init__()
            self.task = type(self.task)(("low", "clap"), "multi-label", "mAP")

    datasets.register("whistles")(Whistles)
    save_file(published() | _head(), tmp_path / "unnamed.safetensors")
    save_file(published(), tmp_path / "headless.safetensors")
    monkeypatch.setattr(Tuned, "embed", lambda *_: pytest.fail("a clip was encoded"))
    for name, file, dataset, message in (
        ("tuned", checkpoint, "whistles", "does not know 1 of 2 classes of data set 'whistles', such as 'clap'"),
        ("tuned", tmp_path / "unnamed.safetensors", "tones", "has 4 classes, and no names are known"),
        ("tuned", tmp_path / "headless.safetensors", "tones", "has no classifier of encoder 'tuned'"),
        ("tiny", checkpoint, "tones", "encoder 'tiny' has no published weights"),
    ):
        command = ["encoders", "evaluate", name, "--dataset", dataset, "--file", str(file), "--out", str(tmp_path)]
        assert main(command) == 2
        assert message in capsys.readouterr().err
    assert main(["encoders", "evaluate", "tuned", "--dataset", "tones", "--out", str(tmp_path)]) == 2
    assert "`otoscope encoders get tuned`" in capsys.readouterr().err
