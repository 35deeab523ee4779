"""DESED, the recorded clips (Turpault et al., DCASE 2019)."""

from __future__ import annotations

from dataclasses import replace

from otoscope.datasets.base import register
from otoscope.datasets.catalog._declaration import Declaration
from otoscope.datasets.catalog._named import NamedDataset, words
from otoscope.datasets.sources import AudioFile, Row, Rows, read_table, several
from otoscope.registry import unknown
from otoscope.types import Event

CLASSES = words(
    "Alarm_bell_ringing Blender Cat Dishes Dog Electric_shaver_toothbrush Frying Running_water Speech Vacuum_cleaner"
)
_EVALUATIONS = {
    "validation": ("metadata/validation/validation.tsv", "audio/validation/validation", 1168, "98f1ec5d74d50053"),
    "public": ("metadata/eval/public.tsv", "audio/eval/public", 692, "9023f6df9c7e8dc6"),
}
"""The table, the folder of the audio, the published number of clips and the manifest of each evaluation split."""


@register("desed")
class Desed(NamedDataset):
    """DESED: recorded domestic clips of 10 s, 10 classes; trained on weak labels, evaluated with events.

    Parameters
    ----------
    root, on_bad : as in `NamedDataset`.
    evaluation : the held-out split: "validation" (1,168 clips, as in DCASE task 4) or "public" (692 clips).

    Raises
    ------
    ValueError : for another evaluation split.
    """

    kind = "multi-label"
    classes = CLASSES
    complete = False
    declaration = Declaration(
        folders=("DESED", "desed", "DESED/dataset", "desed/dataset"),
        markers=("metadata/train/weak.tsv",),
        layout={
            "metadata/train/weak.tsv": "weak labels: filename, event_labels",
            "metadata/validation/validation.tsv": "events: filename, onset, offset, event_label",
            "audio/train/weak/Y-6p32k2WUCs_0.000_10.000.wav": "1,578 files",
            "audio/validation/validation/Y00pbt6aJV8Y_350.000_360.000.wav": "1,168 files",
        },
        homepage="https://project.inria.fr/desed/",
        licence="MIT for the labels; the audio is from YouTube, Freesound and Vimeo",
        citation="N. Turpault, R. Serizel, A. Parag Shah and J. Salamon. Sound event detection in domestic "
        "environments with weakly labeled data and soundscape synthesis. DCASE Workshop, 2019.",
        clips={"train": 1578, "test": 1168},
        manifests={"train": "518f449c42591888", "test": "98f1ec5d74d50053"},  # turpaultn/dcase20_task4 at e2f61d7
        rates=(44100, 16000),
        origins=("AudioSet",),
        faults=(
            "Videos disappear: most copies lack clips, and each lacks others.",
            "The split validation is what most work reports, also for choosing hyperparameters; here it is held out "
            "and the validation split is cut from the train split.",
            "Some clips last less or more than 10 s.",
        ),
        unverified=(
            "Which parts of DESED the suite unmute trains on: here it is the recorded part with weak labels.",
            "The name of the folder of the public evaluation audio.",
        ),
        instructions="pip install desed, then python -c \"import desed; desed.download_real('DESED')\" downloads the "
        "tables and the videos that still exist. Public evaluation: Zenodo 4560759.",
    )

    def __init__(self, *, root: str | None = None, evaluation: str = "validation", on_bad: str = "fail") -> None:
        super().__init__(root=root, on_bad=on_bad)
        if evaluation not in _EVALUATIONS:
            raise ValueError(f"desed: {unknown('evaluation', evaluation, _EVALUATIONS)}")
        self._evaluation = evaluation
        *_, clips, manifest = _EVALUATIONS[evaluation]
        published = {"clips": clips, "manifests": manifest}
        about = {name: getattr(self.declaration, name) | {"test": value} for name, value in published.items()}
        vars(self)["declaration"] = replace(self.declaration, **about)

    def list_rows(self) -> Rows:
        """List the clips with weak labels and those of the evaluation split, as `NamedDataset.list_rows`."""
        weak = read_table(self.folder / "metadata" / "train" / "weak.tsv")
        audio = self.folder / "audio" / "train" / "weak"
        rows = [
            Row(f"train/{name}", AudioFile(audio / name), labels, "train")
            for name, labels in zip(weak["filename"], several(weak["event_labels"], ","), strict=True)
        ]
        table, folder, *_ = _EVALUATIONS[self._evaluation]
        for name, events in self._events(table).items():
            labels = tuple(sorted({event.label for event in events}))
            rows.append(
                Row(f"test/{name}", AudioFile(self.folder / folder / name), labels, "test", events=tuple(events))
            )
        return Rows.of(rows)

    def _events(self, table: str) -> dict[str, list[Event]]:
        """The events of each clip; a clip without events has one line without onset."""
        strong = read_table(self.folder / table)
        events: dict[str, list[Event]] = {name: [] for name in strong["filename"]}
        columns = (strong[name] for name in ("filename", "onset", "offset", "event_label"))
        for name, onset, offset, label in zip(*columns, strict=True):
            if label:
                events[name].append(Event(float(onset), float(offset), label))
        return events
