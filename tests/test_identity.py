"""The identity of encoders, data sets and probes: options, revision of the code, front end and content."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from otoscope import datasets, encoders, probes
from otoscope.audio.decode import decode
from otoscope.datasets import Dataset, _file_digests
from otoscope.encoders import Encoder
from otoscope.encoders.tiny import Tiny
from otoscope.identity import Identified, canonical
from otoscope.registry import load_plugin
from otoscope.sampling import TrainingSet
from otoscope.types import Clip, Event, Task
from toys import Ear, Tones

# Options


class Options(Identified):
    """Any options."""

    name, revision, provenance = "options", 1, ("folder",)

    def __init__(self, a: Any = 1, *, b: Any = (1, 2), folder: str = "") -> None:
        self.a, self.b, self.folder = a, b, folder


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Options(), Options(a=1, b=(1, 2))),
        (Options(a=2, b=3), Options(2, b=3)),
        (Options(b=[1, 2]), Options()),
        (Options(a=5), Options(a=5.0)),
        (Options(folder="x"), Options(folder="y")),
        (Options(a={"x": 1, "y": 2}), Options(a={"y": 2, "x": 1})),
        (Options(a=Path("x")), Options(a="x")),
        (Options(a={"x", "y"}), Options(a={"y", "x"})),
        (Options(a=torch.ones(3)), Options(a=torch.ones(3, requires_grad=True))),
        (Options(a=partial(decode, "x")), Options(a=partial(decode, "x"))),
    ],
)
def test_options_that_mean_the_same_are_equal(one: Options, other: Options) -> None:
    assert one.options_text == other.options_text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Options(a=2), Options(a=3)),
        (Options(a=2), Options(b=2)),
        (Options(a="1"), Options()),
        (Options(a=torch.ones(3)), Options(a=torch.zeros(3))),
        (Options(a=np.ones(3)), Options(a=np.ones((3, 1)))),
        (Options(a=partial(decode, "x")), Options(a=partial(decode, "y"))),
        (Options(a=Options(b=1)), Options(a=Options(b=2))),
        (Options(a=torch.nn.ReLU()), Options(a=torch.nn.Tanh())),
        (Options(a=Task(("x",), "multi-class", "accuracy")), Options(a=Task(("y",), "multi-class", "accuracy"))),
    ],
)
def test_options_that_differ_are_different(one: Options, other: Options) -> None:
    assert one.options_text != other.options_text


def test_an_object_that_contains_itself_has_a_canonical_form() -> None:
    value = Options()
    value.a = [value.b]
    thing: dict[str, Any] = {}
    thing["thing"] = thing
    assert canonical(thing) == {"thing": "recursive"}


def test_a_class_without_a_constructor_accepts_no_options() -> None:
    with pytest.raises(TypeError, match=r"Plain has no options, found \['x'\]"):
        type("Plain", (Identified,), {})("x")


# Encoders


def test_the_identity_of_an_encoder_covers_every_part() -> None:
    same = Ear()
    others = [Ear(seed=1), Ear(dropout=0.5), type("Ear", (Ear,), {"front_end_id": "x", "revision": 1})()]
    others += [type("Ear", (Ear,), {"name": "other"})(), type("Ear", (Ear,), {"revision": 2})()]
    digests = {encoder.identity_digest for encoder in [same, *others]}
    assert len(digests) == 6
    assert Ear(seed=0, dropout=0).identity_digest == same.identity_digest


def test_a_copy_and_a_fine_tuned_copy_keep_their_options() -> None:
    import copy

    encoder = copy.deepcopy(Ear(dropout=0.5))
    assert encoder.identity_digest == Ear(dropout=0.5).identity_digest


def test_the_path_of_a_checkpoint_is_no_part_of_its_identity(whisper_path: str, tmp_path: Path) -> None:
    shutil.copytree(whisper_path, tmp_path / "moved")
    one, moved = (encoders.create("whisper", path=str(path)) for path in (whisper_path, tmp_path / "moved"))
    assert one.identity_digest == moved.identity_digest
    assert encoders.create("whisper", path=whisper_path, pool=2).identity_digest != one.identity_digest


# Code

PLUGIN = """
from otoscope.encoders.tiny import Tiny
from otoscope.encoders import register
@register("louder")
class Louder(Tiny):
    {revision}
    def embed(self, features):
        tokens = super().embed(features)
        return type(tokens)({factor} * tokens.x, tokens.mask, tokens.cls)
"""


def _louder(file: Path, revision: str, factor: int) -> str:
    file.write_text(PLUGIN.format(revision=revision, factor=factor))
    with encoders.registry.isolated():
        load_plugin(file)
        return encoders.create("louder").identity_digest


def test_a_plugin_without_a_revision_is_identified_by_its_source_file(tmp_path: Path) -> None:
    file = tmp_path / "louder.py"
    first, changed = _louder(file, "", 2), _louder(file, "", 3)
    assert first != changed
    assert _louder(file, "", 2) == first


@pytest.mark.parametrize(("revision", "counts"), [("", True), ("revision = 1", False)])
def test_a_file_beside_a_plugin_that_it_imports_is_part_of_it(tmp_path: Path, revision: str, counts: bool) -> None:
    (tmp_path / "unused_beside_louder.py").write_text("")
    digests = []
    for factor in (2, 3, 2):
        (tmp_path / "gain_beside_louder.py").write_text(f"GAIN = {factor}\n")
        digests.append(_louder(tmp_path / "louder.py", f"from gain_beside_louder import GAIN; {revision}", 2))
        (tmp_path / "unused_beside_louder.py").write_text(f"FACTOR = {factor}\n")
    assert (digests[0] != digests[1]) == counts
    assert digests[2] == digests[0]


def test_a_plugin_with_a_revision_is_identified_by_it(tmp_path: Path) -> None:
    file = tmp_path / "louder.py"
    first = _louder(file, "revision = 1", 2)
    assert _louder(file, "revision = 1", 3) == first
    assert _louder(file, "revision = 2", 3) != first


def test_a_revision_is_not_inherited_by_a_plugin(tmp_path: Path) -> None:
    assert Tiny.revision == 1
    assert _louder(tmp_path / "louder.py", "", 2) != _louder(tmp_path / "louder.py", "", 3)


def test_a_file_that_changes_after_its_import_keeps_its_identity(tmp_path: Path) -> None:
    file = tmp_path / "louder.py"
    file.write_text(PLUGIN.format(revision="", factor=2))
    with encoders.registry.isolated():
        load_plugin(file)
        before = encoders.create("louder").identity_digest
        file.write_text(PLUGIN.format(revision="", factor=3))
        assert encoders.create("louder").identity_digest == before


@pytest.mark.parametrize("revision", ["two", True, 1.0])
def test_a_revision_that_is_no_whole_number_is_refused(revision: object) -> None:
    with pytest.raises(TypeError, match=r"class Ear: revision must be a whole number, found"):
        type("Ear", (Ear,), {"revision": revision})


def test_a_class_without_a_source_file_is_identified_by_its_functions() -> None:
    def defined(body: str) -> type[Encoder]:
        namespace: dict[str, Any] = {"Ear": Ear, "__name__": "__console__"}
        exec(f"class Mine(Ear):\n limit = 3\n def embed(self, f):\n  return {body}", namespace)
        found: type[Encoder] = namespace["Mine"]
        return found

    codes = [defined(body)().code_text for body in ("f.x", "f.x", "f.x.abs()", "f.x * 2", "f.x * 3")]
    assert codes[0] == codes[1]
    assert len(set(codes)) == 4


@pytest.mark.usefixtures("isolated_registries")
def test_a_changed_probe_of_a_plugin_has_another_code(tmp_path: Path) -> None:
    codes = []
    for factor in (1, 2):
        (tmp_path / "scaled.py").write_text(
            "from otoscope.probes import register\nfrom otoscope.probes.mean import Mean\n"
            f'@register("scaled")\nclass Scaled(Mean):\n    factor = {factor}\n'
        )
        with probes.registry.isolated():
            load_plugin(tmp_path / "scaled.py")
            codes.append(probes.registry.get("scaled").code())
    assert codes[0] != codes[1]
    assert probes.registry.get("mean").code() == ""


# Data sets


class Files(Dataset):
    """One clip of each class in each split, in files of a folder."""

    name, revision = "files", 1
    task = Task(("low", "high"), "multi-class", "accuracy")

    def __init__(self, *, folder: str, labels: str = "low,high", gain: float = 1.0) -> None:
        self.folder, self.labels, self.gain = Path(folder), labels.split(","), gain

    def clips(self, split: str) -> list[Clip]:
        rows = enumerate(self.labels)
        return [Clip(f"{split}-{i}", self.loader(self.folder / f"{split}-{i}.wav"), 800, (label,), (), split)
                for i, label in rows]  # fmt: skip

    def loader(self, path: Path) -> Callable[[], Any]:
        return partial(self.load, path)

    def load(self, path: Path) -> Any:
        return self.gain * decode(path)[0]


def _folder(path: Path) -> Path:
    path.mkdir()
    for i, split in enumerate(Files.splits):
        for clip in range(2):
            wave = 0.1 * np.random.default_rng([i, clip]).standard_normal(80)
            soundfile.write(path / f"{split}-{clip}.wav", wave, 800)
            os.utime(path / f"{split}-{clip}.wav", (1e9, 1e9))
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(_file_digests, "_SETTLED_NS", 0)
    return str(_folder(tmp_path / "audio"))


def test_a_data_set_is_identified_by_its_content_and_not_by_its_place(folder: str, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "moved")
    assert Files(folder=folder).identity_digest == Files(folder=str(tmp_path / "moved")).identity_digest


def test_changed_audio_is_another_data_set(folder: str) -> None:
    before, file = Files(folder=folder).identity_digest, Path(folder, "test-1.wav")
    wave, rate = soundfile.read(file)
    soundfile.write(file, wave[::-1], rate)
    os.utime(file, (1e9, 1e9))  # the same size and the same time of modification
    assert Files(folder=folder).identity_digest != before


def test_changed_labels_options_code_and_clips_are_other_data_sets(folder: str) -> None:
    others = [Files(folder=folder), Files(folder=folder, labels="high,low"), Files(folder=folder, gain=2)]
    others += [type("Files", (Files,), {"revision": 2})(folder=folder)]
    others += [
        type("Files", (Files,), {"revision": 1, "task": Task(("low", "high"), "multi-label", "mAP")})(folder=folder)
    ]
    others += [type("Files", (Files,), {"revision": 1, "splits": ("train", "test")})(folder=folder)]
    for field, value in (("events", (Event(0, 0.1, "low"),)), ("groups", ("site",)), ("rate", 801), ("id", "x")):
        others.append(_with_clips(folder, field, value))
    assert len({other.identity_digest for other in others}) == len(others)


def _with_clips(folder: str, field: str, value: object) -> Dataset:
    from dataclasses import replace

    def clips(self: Files, split: str) -> list[Clip]:
        return [replace(clip, **{field: value}) for clip in Files.clips(self, split)]

    return type("Files", (Files,), {"revision": 1, "clips": clips})(folder=folder)


def test_audio_files_are_hashed_once(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    read: list[str] = []

    def counted(file: Any, kind: str) -> Any:
        read.append(Path(file.name).name)
        return whole(file, kind)

    whole = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", counted)
    first = Files(folder=folder).identity_digest
    assert len(read) == 6
    assert Files(folder=folder).identity_digest == first
    assert len(read) == 6
    Path(folder, "train-0.wav").touch()
    assert Files(folder=folder).identity_digest == first
    assert read[6:] == ["train-0.wav"]


@pytest.mark.parametrize("damage", ["", "[]", '{"train-0.wav": 3}', '{"train-0.wav": [0, 0, 0, "x"]}'])
def test_a_damaged_or_old_cache_is_not_used(folder: str, tmp_path: Path, damage: str) -> None:
    first = Files(folder=folder).identity_digest
    (file,) = tmp_path.glob("cache/otoscope/files/*.json")
    file.write_text(damage)
    assert Files(folder=folder).identity_digest == first


def test_without_a_cache_folder_the_digest_is_the_same(folder: str, tmp_path: Path, monkeypatch: Any) -> None:
    first = Files(folder=folder).identity_digest
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert Files(folder=folder).identity_digest == first


def test_a_file_that_was_just_written_is_not_kept(folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_file_digests, "_SETTLED_NS", 10**18)
    before = Files(folder=folder).digest
    assert not list(tmp_path.glob("cache/otoscope/files/*"))
    assert Files(folder=folder).digest == before


LOADERS: dict[str, Callable[[Files, Path], Callable[[], Any]]] = {
    "default": lambda _, path: lambda path=path: decode(path)[0],
    "closure": lambda _, path: lambda: decode(path)[0],
    "keyword": lambda _, path: partial(decode, source=path),
    "object": lambda self, path: partial(lambda _, path: self.load(path), object(), path),
    "text": lambda _, path: lambda folder=path.parent, name=path.name: decode(f"{folder}/{name}")[0],
}


@pytest.mark.parametrize("kind", LOADERS)
def test_the_audio_counts_however_it_is_loaded(folder: str, kind: str) -> None:
    data = type("Files", (Files,), {"revision": 1, "loader": LOADERS[kind]})(folder=folder)
    first = data.digest
    assert data.digest == first
    soundfile.write(Path(folder, "validation-0.wav"), np.zeros(80), 800)
    assert data.digest != first


def test_clips_from_files_are_identified_without_opening_them_twice(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clips(self: Files, split: str) -> list[Clip]:
        return [Clip.from_file(self.folder / f"{split}-{i}.wav", [self.labels[i]], split) for i in range(2)]

    data = type("Files", (Files,), {"revision": 1, "clips": clips})(folder=folder)
    first = data.digest
    monkeypatch.setattr("otoscope.types.clips.file_rate", lambda _: pytest.fail("the rate was read"))
    monkeypatch.setattr("otoscope.types.clips.decode", lambda _: pytest.fail("the audio was read"))
    assert data.digest == first
    soundfile.write(Path(folder, "test-0.wav"), np.zeros(80), 1600)
    assert data.digest != first


def test_arguments_of_the_loader_count(folder: str) -> None:
    def starts_at(start: int) -> str:
        loader = lambda self, path: partial(lambda path, start: decode(path)[0][start:], path, start)  # noqa: E731, ARG005
        return type("Files", (Files,), {"revision": 1, "loader": loader})(folder=folder).digest

    assert starts_at(0) != starts_at(10)
    assert starts_at(0) == starts_at(0)


def test_a_training_set_has_the_identity_of_its_data_set() -> None:
    assert TrainingSet(Tones()).identity_digest == Tones().identity_digest


def test_the_identities_of_what_ships_do_not_depend_on_defaults() -> None:
    assert encoders.create("tiny", weights="pretrained", seed=0).identity_digest == Tiny().identity_digest
    scenes = datasets.create("scenes", seed=0).identity_digest
    assert scenes == datasets.create("scenes").identity_digest != datasets.create("scenes", train=10).identity_digest
