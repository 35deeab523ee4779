"""Data sets that cannot be measured are refused when they are read, before anything is encoded."""

import itertools
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest

import otoscope as oto
from otoscope import bank, datasets
from otoscope.bench.runner import prepare
from otoscope.bench.suites import parse
from otoscope.datasets.checks import DataError, checked_clips
from otoscope.datasets.doubts import doubts
from otoscope.sampling import VALIDATION_CUT
from otoscope.types import Task
from otoscope.warning import OtoscopeWarning
from toys import Ear, Folded, Tones, run_toy


class Changed(Tones):
    """Tones in which the clips of a split are changed by a function of the clip and its number."""

    def __init__(self, split, change, **options):
        super().__init__(**options)
        self.changed, self.change = split, change

    def clips(self, split):
        clips = super().clips(split)
        if split != self.changed:
            return clips
        return [self.change(clip, number) for number, clip in enumerate(clips)]


def sixth(**values):
    """A function that changes the sixth clip only."""
    return lambda clip, number: replace(clip, **values) if number == 5 else clip


def each(**values):
    return lambda clip, _: replace(clip, **values)


ONE_LABEL = {"kind": "multi-class"}
CASES = {
    "no label": (
        Changed("test", sixth(labels=(), events=()), **ONE_LABEL),
        r"in split 'test', 0 labels were found for 1 clip \('test-5'\), but a clip of a multi-class task has",
    ),
    "two labels": (Changed("train", sixth(labels=("low", "high")), **ONE_LABEL), r"2 labels .* 1 clip \('train-5'\)"),
    "several clips": (
        Changed("train", each(labels=(), events=()), **ONE_LABEL),
        r"48 clips \('train-0', 'train-1', 'train-2' and 45 more\)",
    ),
    "no positive test label": (Changed("test", each(labels=(), events=())), "no clip of split 'test' has a label; 24"),
    "no positive validation label": (
        Changed("validation", each(labels=(), events=())),
        "split 'validation' has a label",
    ),
    "no positive train label": (Changed("train", each(labels=(), events=())), "no clip of split 'train' has a label"),
    "one train class": (
        Changed("train", each(labels=("low",), events=()), **ONE_LABEL),
        "all 48 clips of split 'train' have the label 'low', one of 3 classes",
    ),
    "other case": (
        Changed("train", sixth(labels=("High",))),
        r"in split 'train', label 'High' of 1 clip \('train-5'\) is not one of the 3 classes; did you mean 'high'\?",
    ),
    "space": (Changed("test", sixth(labels=("low ",))), r"label 'low ' .* did you mean 'low'\?"),
    "unknown label of an event": (
        Changed("test", lambda clip, _: replace(clip, events=(replace(clip.events[0], label="hihg"),))),
        r"label 'hihg' of 24 clips .* did you mean 'high'\?",
    ),
    "empty split": (Tones(sizes={"train": 48, "validation": 0, "test": 24}), "split 'validation' has no clips"),
    "same id twice": (Changed("train", each(id="a")), r"in split 'train', clip id 'a' occurs twice"),
    "same id in two splits": (
        Changed("test", lambda clip, number: replace(clip, id=f"train-{number}")),
        r"split 'test' shares 24 clips \('train-0', .* with split 'train'.*allow_shared",
    ),
}


@pytest.mark.parametrize(("dataset", "reason"), CASES.values(), ids=list(CASES))
def test_data_that_cannot_be_measured_is_refused_before_anything_is_encoded(dataset, reason, tmp_path):
    with pytest.raises(DataError, match=reason):
        bank.extract(Ear(), dataset, tmp_path / "bank", progress=False)
    assert not (tmp_path / "bank").exists()


@pytest.mark.parametrize(("kind", "metric"), [("multi-label", "accuracy"), ("multi-class", "acuracy")])
def test_a_metric_that_does_not_fit_the_task_is_refused(kind, metric, tmp_path):
    dataset = Tones()
    dataset.task = Task(dataset.task.classes, kind, metric)
    with pytest.raises((ValueError, LookupError), match=f"{metric}.*(does not apply|did you mean 'accuracy')"):
        bank.extract(Ear(), dataset, tmp_path / "bank", progress=False)


def test_an_undefined_metric_is_refused():
    dataset = Changed("test", each(labels=("low", "middle", "high")))
    dataset.task = Task(dataset.task.classes, "multi-label", "AUROC")
    with pytest.raises(DataError, match="AUROC is undefined on split 'test'"):
        checked_clips(dataset)


class Parted(Tones):
    """Tones whose clips have one of the given labels of their split."""

    def __init__(self, **labels):
        super().__init__(kind="multi-class")
        self.labels = {"train": ["low", "middle"], "validation": ["low"], "test": ["low"]} | labels

    def clips(self, split):
        clips = zip(super().clips(split), itertools.cycle(self.labels[split]), strict=False)
        return [replace(clip, labels=(label,), events=()) for clip, label in clips]


def test_a_test_split_without_any_class_of_the_train_split_is_refused():
    with pytest.raises(DataError, match="split 'test' has no class that split 'train' has: 'high' and 'low', "):
        checked_clips(Parted(test=["high"]))
    assert checked_clips(Parted(test=["high", "low"]))


@pytest.mark.parametrize("split", ["validation", "test"])
def test_classes_without_training_clips_are_reported_by_name(split, tmp_path):
    dataset = Parted(**{split: ["high", "low", "low"]})
    message = rf"data set 'tones': classes of split '{split}' have no clip in split 'train', .*: 'high' \(8 clips\); mo"
    with pytest.warns(OtoscopeWarning, match=message) as caught:
        bank.extract(Ear(), dataset, tmp_path / "bank", progress=False)
    assert len(caught) == 1
    assert doubts(dataset.task, {"train": dataset.clips(split), "test": dataset.clips(split)}) == []


def test_a_suite_reports_classes_without_training_clips_in_its_plan(tmp_path, isolated_registries):  # noqa: ARG001
    class Rare(Parted):
        name = "rare"

        def __init__(self):
            super().__init__(test=["high", "low"])

    datasets.register("rare")(Rare)
    oto.encoders.register("ear")(Ear)
    suite = parse("s", {"about": "", "encoders": ["ear"], "datasets": ["rare"], "probes": ["mean"], "control": False})
    with pytest.warns(OtoscopeWarning, match="data set 'rare': classes of split 'test' have no clip in split 'train'"):
        assert prepare(suite, tmp_path).runs


def test_all_problems_are_listed():
    dataset = Changed("test", lambda clip, number: replace(clip, labels=("High",), id="x" if number < 2 else clip.id))
    with pytest.raises(DataError) as caught:
        checked_clips(dataset)
    assert str(caught.value).count("\n") == 2


def test_an_extra_split_needs_no_labels():
    class WithSpare(Tones):
        splits = ("train", "validation", "test", "spare")

        def clips(self, split):
            clips = super().clips("test" if split == "spare" else split)
            return (
                [replace(clip, id=f"{split}-{clip.id}", labels=(), events=()) for clip in clips]
                if (split == "spare")
                else clips
            )

    assert len(checked_clips(WithSpare())["spare"]) == 24


def test_shared_ids_may_be_allowed():
    dataset = CASES["same id in two splits"][0]
    assert len(checked_clips(dataset, allow_shared=True)["test"]) == 24


def test_fine_tuning_checks_train_and_validation_and_opens_no_other_split():
    dataset = Changed("validation", each(labels=(), events=()))
    with pytest.raises(DataError, match="no clip of split 'validation' has a label"):
        oto.finetune(Ear(), dataset)
    assert set(dataset.opened) == {"train", "validation"}


def test_fine_tuning_cuts_a_validation_split_where_there_is_none():
    fitted = oto.finetune(Ear(), Folded(fold=1), recipe=oto.Recipe(epochs=1, batch_size=8))
    assert fitted.protocol.validation_cut == VALIDATION_CUT


@pytest.mark.usefixtures("isolated_registries")
def test_a_suite_lists_a_data_set_that_cannot_be_measured(tmp_path):
    oto.encoders.register("ear")(Ear)

    @datasets.register("unlabelled")
    class Unlabelled(Tones):
        def clips(self, split):
            return [replace(clip, labels=(), events=()) for clip in super().clips(split)]

    suite = parse("s", {"about": "", "encoders": ["ear"], "datasets": ["unlabelled"], "probes": ["linear"]})
    result = oto.run_suite(suite, tmp_path, progress=False)
    [item] = [item for item in result.plan.unavailable if item.kind != "control"]
    assert (item.kind, item.name) == ("dataset", "unlabelled")
    assert "no clip of split 'train' has a label" in item.reason
    assert not any((tmp_path / "banks").glob("*"))


def test_the_command_line_names_the_clips(plugin_folder: Path, capsys):
    plugin = """
        from dataclasses import replace
        from otoscope import datasets
        from toys import Tones

        @datasets.register("misspelt")
        class Misspelt(Tones):
            def clips(self, split):
                return [replace(clip, labels=("hgih",)) for clip in super().clips(split)]
    """
    (plugin_folder / "misspelt.py").write_text(dedent(plugin))
    assert run_toy("extract", "--plugin", "misspelt.py", "--dataset", "misspelt") == 2
    assert "label 'hgih' of 48 clips ('train-0'" in capsys.readouterr().err
