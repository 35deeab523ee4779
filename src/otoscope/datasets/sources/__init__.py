"""Readers of labelled audio: files, tars and Parquet files, and the data sets that are made of them.

A source lists *rows*. A `Row` has an id, the place of its audio, labels, split, fold, groups, start, end and events.
`Rows` stores them by column, so that two million rows are listed in seconds and need little memory. The place of the
audio has one of three kinds, and each kind has a reader:

    kind                place          reader
    folder and table    AudioFile      list_audio, read_table, find_audio
    tar and table       TarMember      list_tar
    Parquet with bytes  ParquetCell    list_parquet

A `RowDataset` makes a data set of rows. It infers what is not declared: the kind of the task (multi-class if every row
has exactly one label), the classes (sorted) and the main metric. Its splits are those of the rows; with folds, one fold
is the held-out split and the others are the train split; without either, the rows are cut by iterative stratification
with groups kept together (`Cut`, with its seed). `Length` decides which part of a row becomes a clip: all of it, the
first seconds, or windows. Rows with a start and an end read only this part of their file.

A data set of a plug-in subclasses `RowDataset` and lists its rows:

    @register("garden")
    class Garden(RowDataset):
        \"\"\"Birds in a garden, with five folds.\"\"\"

        def __init__(self, *, root: str = "garden", fold: int = 1):
            super().__init__(fold=fold)
            self.root = Path(root)

        def read(self):
            table = read_table(self.root / "birds.csv")
            return Rows(
                ids=table["file"],
                audio=AudioFiles(self.root / "audio", table["file"]),
                labels=one_each(table["species"]),
                folds=table["fold"],
                groups=one_each(table["recording"]),
            )

Public data sets are in `otoscope.datasets.catalog`, with their official layout and what is published about them.
`FileDataset` does the same for the files of a user, whose layout it recognises (`otoscope.datasets.sources.layouts`).
"""

from otoscope.datasets.column import Column
from otoscope.datasets.sources.audio import Audio, AudioFile, AudioFiles, ParquetCell, TarMember
from otoscope.datasets.sources.cards import read_card
from otoscope.datasets.sources.dataset import RowDataset
from otoscope.datasets.sources.files import FileDataset
from otoscope.datasets.sources.folder import MatchedFiles, find_audio, list_audio
from otoscope.datasets.sources.labels import find_separator, one_each, several
from otoscope.datasets.sources.length import Length, apply_length, events_between
from otoscope.datasets.sources.parquet import AudioTable, list_parquet
from otoscope.datasets.sources.rows import Row, Rows
from otoscope.datasets.sources.splits import Cut, assign_splits, fold_names, split_names
from otoscope.datasets.sources.tables import Table, read_table
from otoscope.datasets.sources.tar import TarClip, list_tar, list_tars

__all__ = [
    "Audio",
    "AudioFile",
    "AudioFiles",
    "AudioTable",
    "Column",
    "Cut",
    "FileDataset",
    "Length",
    "MatchedFiles",
    "ParquetCell",
    "Row",
    "RowDataset",
    "Rows",
    "Table",
    "TarClip",
    "TarMember",
    "apply_length",
    "assign_splits",
    "events_between",
    "find_audio",
    "find_separator",
    "fold_names",
    "list_audio",
    "list_parquet",
    "list_tar",
    "list_tars",
    "one_each",
    "read_card",
    "read_table",
    "several",
    "split_names",
]
