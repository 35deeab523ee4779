"""NSynth (Engel et al., ICML 2017): families of instruments, or pitch."""

from __future__ import annotations

import json

from otoscope.datasets.base import register
from otoscope.datasets.catalog._declaration import Declaration, Download
from otoscope.datasets.catalog._named import NamedDataset, words
from otoscope.datasets.sources import AudioFile, Row, Rows
from otoscope.registry import unknown

FAMILIES = words("bass brass flute guitar keyboard mallet organ reed string synth_lead vocal")
PITCHES = tuple(map(str, range(128)))
_TARGETS = {"instrument": ("instrument_family_str", FAMILIES), "pitch": ("pitch", PITCHES)}


@register("nsynth")
class Nsynth(NamedDataset):
    """NSynth: 305,979 notes of 4 s; 11 families of instruments, or 128 pitches.

    Parameters
    ----------
    root, on_bad : as in `NamedDataset`.
    target : "instrument" for the family of the instrument, "pitch" for the MIDI number of the note.

    Raises
    ------
    ValueError : for another target.
    """

    kind = "multi-class"
    declaration = Declaration(
        folders=("nsynth", "NSynth"),
        markers=("nsynth-test/examples.json", "nsynth-train/examples.json"),
        layout={
            f"nsynth-{split}/{path}": about
            for split in ("train", "valid", "test")
            for path, about in (("examples.json", "the table"), ("audio/", "the files"))
        },
        homepage="https://magenta.tensorflow.org/datasets/nsynth",
        licence="CC-BY-4.0",
        citation="J. Engel et al. Neural Audio Synthesis of Musical Notes with WaveNet Autoencoders. ICML, 2017.",
        clips={"train": 289205, "validation": 12678, "test": 4096},
        size="23 GB",
        rates=(16000,),
        seconds=(4, 4),
        faults=(
            "synth_lead occurs in the train split only: the validation and test splits have 10 families.",
            "Instruments of the train split are in no other split; the validation and test splits share instruments.",
            "The pitch tasks of HEAR (5 h and 50 h) are other subsets with other splits.",
        ),
        unverified=(
            "That synth_lead is absent from the validation and test splits.",
            "The size of the download.",
            "No checksums are published.",
        ),
        downloads=tuple(
            Download(
                f"http://download.magenta.tensorflow.org/datasets/nsynth/nsynth-{split}.jsonwav.tar.gz", into="nsynth"
            )
            for split in ("train", "valid", "test")
        ),
    )

    def __init__(self, *, root: str | None = None, target: str = "instrument", on_bad: str = "fail") -> None:
        super().__init__(root=root, on_bad=on_bad)
        if target not in _TARGETS:
            raise ValueError(f"nsynth: {unknown('target', target, _TARGETS)}")
        self._field, self.classes = _TARGETS[target]

    def list_rows(self) -> Rows:
        """List the notes of the three tables, as `NamedDataset.list_rows`."""
        rows = []
        for split in ("train", "valid", "test"):
            folder = self.folder / f"nsynth-{split}"
            if not (folder / "examples.json").is_file():
                raise FileNotFoundError(f"nsynth: no table at {folder / 'examples.json'}; unpack nsynth-{split} there")
            table = json.loads((folder / "examples.json").read_text(encoding="utf-8"))
            for name, about in table.items():
                label, instrument = str(about[self._field]), str(about["instrument_str"])
                audio = AudioFile(folder / "audio" / f"{name}.wav")
                rows.append(Row(name, audio, (label,), split, "", (instrument,)))
        return Rows.of(rows)
