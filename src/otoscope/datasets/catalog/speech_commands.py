"""Speech Commands v2 (Warden, 2018), with 35 words, and as the task of 12 classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from otoscope.datasets.base import register
from otoscope.datasets.catalog._declaration import Declaration, Download
from otoscope.datasets.catalog._named import NamedDataset, sorted_audio, words
from otoscope.datasets.sources import AudioFile, Length, Row, Rows
from otoscope.datasets.sources.length import audio_seconds

WORDS = words(
    "backward bed bird cat dog down eight five follow forward four go happy house learn left marvin nine no off on one "
    "right seven sheila six stop three tree two up visual wow yes zero"
)
COMMANDS = words("yes no up down left right on off stop go")
SILENCE, UNKNOWN = "_silence_", "_unknown_"

_ARCHIVE = Download(
    "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
    "6b74f3901214cb2c2934e98196829835",
    "speech_commands_v0.02",
)
_TEST_ARCHIVE = Download(
    "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_test_set_v0.02.tar.gz",
    "",
    "speech_commands_test_set_v0.02",
)
_LAYOUT = {
    "validation_list.txt": "clips of the validation split",
    "testing_list.txt": "clips of the test split",
    "backward/0165e0e8_nohash_0.wav": "35 folders, one for each word",
}
_TWO_TASKS = "Two tasks have this name, 35 words and 12 classes with silence and unknown words; do not compare them."


class _SpeechCommands(NamedDataset):
    """The clips of the archive with their official splits."""

    kind = "multi-class"

    def _words(self) -> Iterator[Row]:
        """All clips of the 35 words. The group of a clip is its speaker."""
        folder = self.folder
        split_of: dict[str, str] = {}
        for split, table in (("validation", "validation_list.txt"), ("test", "testing_list.txt")):
            split_of |= dict.fromkeys((folder / table).read_text(encoding="utf-8").split(), split)
        for word in WORDS:
            for audio in sorted_audio(folder / word):
                name = f"{word}/{audio.path.name}"
                yield Row(name, audio, (word,), split_of.get(name, "train"), "", _speaker(audio))


@register("speech-commands-v2")
class SpeechCommands(_SpeechCommands):
    """Speech Commands v2, 35 words: 105,829 utterances of at most 1 s, official splits."""

    classes = WORDS
    declaration = Declaration(
        folders=("speech_commands_v0.02", "SpeechCommands/speech_commands_v0.02", "speech_commands"),
        markers=("testing_list.txt",),
        layout=_LAYOUT,
        homepage="https://arxiv.org/abs/1804.03209",
        licence="CC-BY-4.0",
        citation="P. Warden. Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition. arXiv 1804.03209.",
        clips={"train": 84843, "validation": 9981, "test": 11005},
        manifests={"validation": "90171528fab2d61c", "test": "0b26dca986e6d47d"},  # of the two official lists
        size="2.4 GB",
        rates=(16000,),
        faults=(_TWO_TASKS, "About a tenth of the clips is shorter than 1 s."),
        unverified=("The share of clips shorter than 1 s.",),
        downloads=(_ARCHIVE,),
    )

    def list_rows(self) -> Rows:
        """List the clips of the 35 words, as `NamedDataset.list_rows`."""
        return Rows.of(self._words())


@register("sc2")
class Sc2(SpeechCommands):
    """Another name of `speech-commands-v2`, as in the suite `unmute`."""


@register("speech-commands-v2-12")
class SpeechCommands12(_SpeechCommands):
    """Speech Commands v2, 12 classes: 10 commands, silence and unknown words, with the separate test archive."""

    classes = (*COMMANDS, SILENCE, UNKNOWN)
    declaration = replace(
        SpeechCommands.declaration,
        layout={**_LAYOUT, "../speech_commands_test_set_v0.02/yes/": "12 folders, the test split of this task"},
        clips={"train": 85511, "validation": 10102, "test": 4890},
        manifests={},
        size="2.4 GB and 0.1 GB",
        faults=(
            _TWO_TASKS,
            "The counts are those of TensorFlow Datasets: all other words are unknown, and silence is cut from the "
            "background noise every 0.5 s. Other work draws fewer clips of unknown words (36,923 / 4,445).",
            "Some files of the test archive end in .wav.wav.",
        ),
        unverified=("No checksum of the test archive is published.",),
        downloads=(_ARCHIVE, _TEST_ARCHIVE),
    )

    def list_rows(self) -> Rows:
        """List commands, unknown words and silence of the archive, and the test archive."""
        words = [row for row in self._words() if row.split != "test"]
        return Rows.of([*map(_command, words), *self._silence(), *self._test()])

    def _silence(self) -> Iterator[Row]:
        """Cuts of 1 s of the background noise every 0.5 s; `running_tap` is the validation split."""
        rows = [
            Row(f"{SILENCE}/{audio.path.name}", audio, (SILENCE,), _noise_split(audio), "", (audio.path.stem,))
            for audio in sorted_audio(self.folder / "_background_noise_")
        ]
        for row in rows:
            for start, end in Length(window=1, hop=0.5, short="drop").spans(audio_seconds(row.audio)):
                yield Row(f"{row.id}@{start:g}", row.audio, row.labels, row.split, "", row.groups, start, end)

    def _test(self) -> Iterator[Row]:
        folder = self.folder.parent / "speech_commands_test_set_v0.02"
        for label in self.classes:
            for audio in sorted_audio(folder / label):
                yield Row(f"test/{label}/{audio.path.name}", audio, (label,), "test", "", _speaker(audio))


def _speaker(audio: AudioFile) -> tuple[str]:
    """The group of a clip: its speaker, whose digest begins the name of the file."""
    return (audio.path.name.partition("_nohash_")[0],)


def _command(row: Row) -> Row:
    """The row with the label of the task of 12 classes."""
    label = row.labels[0] if row.labels[0] in COMMANDS else UNKNOWN
    return Row(row.id, row.audio, (label,), row.split, "", row.groups)


def _noise_split(audio: AudioFile) -> str:
    return "validation" if audio.path.stem == "running_tap" else "train"
