"""SPASS: synthetic polyphonic urban scenes."""

from __future__ import annotations

from otoscope.datasets.base import register
from otoscope.datasets.catalog._declaration import Declaration
from otoscope.datasets.catalog._named import NamedDataset, read_events
from otoscope.datasets.sources import AudioFile, Row, Rows, list_audio


@register("spass")
class Spass(NamedDataset):
    """SPASS: 25,000 synthetic polyphonic scenes of 10 s in five urban places, with events (not verified)."""

    kind = "multi-label"
    declaration = Declaration(
        folders=("SPASS", "spass"),
        markers=("park", "square", "street", "market", "waterfront"),
        layout={
            "park/000001.wav": "the files, in any subfolders",
            "park/000001.txt": "events: onset, offset and label, divided by tabs, with the stem of the file",
        },
        homepage="https://doi.org/10.1016/j.dib.2023.109552",
        licence="not known",
        citation="R. Viveros-Munoz et al. Dataset for polyphonic sound event detection tasks in urban soundscapes: The "
        "synthetic polyphonic ambient sound source (SPASS) dataset. Data in Brief, 2023.",
        clips={"all": 25000},
        seconds=(10, 10),
        faults=("There is no known official split: train, validation and test are cut by iterative stratification.",),
        unverified=(
            "The layout, the classes, the counts, the licence, the home page and the citation: no copy and no reader "
            "of this data set was found.",
        ),
        instructions="Bring the labels into the layout below, one text file beside each audio file.",
    )

    def list_rows(self) -> Rows:
        """List the audio files with a text file beside them, as `NamedDataset.list_rows`."""
        rows = []
        for name in list_audio(self.folder):
            path = self.folder / name
            if path.with_suffix(".txt").is_file():
                events = read_events(path.with_suffix(".txt"))
                labels = tuple(sorted({event.label for event in events}))
                rows.append(Row(name.rpartition(".")[0], AudioFile(path), labels, events=events))
        return Rows.of(rows)
