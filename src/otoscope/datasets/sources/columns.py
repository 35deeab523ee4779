"""What the columns of a table mean."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from otoscope.datasets.sources.folder import is_audio
from otoscope.datasets.sources.multi_hot import class_columns
from otoscope.datasets.sources.settings import Settings
from otoscope.datasets.sources.tables import Table
from otoscope.datasets.sources.times import plain_name, refuse_samples, seconds_per_unit, time_names
from otoscope.registry import unknown

_TIMES = ("start", "end", "onset", "offset", "duration")
_NAMES = {
    "path": "path file filename file_name filepath file_path audio audio_path audio_file audio_filename wav wav_path "
    "wav_file fname slice_file_name begin_path begin_file recording_path clip_path sound_file in_file name clip "
    "recording id",
    "folder": "folder subfolder directory",
    "split": "split splits set subset partition",
    "fold": "fold folds cv_fold",
    "group": "group groups speaker speaker_id spk spk_id src_file site recording_id recordist subject subject_id "
    "session",
    **{role: " ".join(time_names(role)) for role in _TIMES},
}
_LABELS = (
    "label labels class classes category categories tag tags species event_label class_name class_label annotation"
)
_WEAK_LABELS = (
    "primary_label ebird_code genre instrument emotion word target targets class_id label_id classid event manual_id "
    "auto_id common_name scientific_name"
)
_SPECIES = {"primary_label", "ebird_code", "common_name", "scientific_name"}
_RAVEN = ("begin_time_s", "end_time_s")


@dataclass(frozen=True)
class Columns:
    """The columns of a table by their roles. None for a role that no column has.

    Parameters
    ----------
    label : the column of labels; None for a table that only lists files.
    path, folder, split, fold, group, start, end, onset, offset, duration : the other columns. Of the times, only those
        that are read: start, end or duration of clips, or onset and offset or duration of events.
    classes : without a column of labels, the columns that say of each class whether a clip has it, with 0 and 1.
    """

    label: str | None
    path: str | None = None
    folder: str | None = None
    split: str | None = None
    fold: str | None = None
    group: str | None = None
    start: str | None = None
    end: str | None = None
    onset: str | None = None
    offset: str | None = None
    duration: str | None = None
    classes: tuple[str, ...] = ()

    @property
    def events(self) -> bool:
        """Whether the table lists events."""
        return self.onset is not None

    @property
    def times_text(self) -> str:
        """A sentence about columns of times that are not a start and an end, or an onset and an offset; "" for others.

        Examples
        --------
        >>> Columns("species", start="begin").times_text
        "clips begin at column 'begin' and end with the file"
        """
        if self.duration:
            what, begin = ("events", self.onset) if self.events else ("clips", self.start)
            return f"{what} begin at column {begin!r} and last column {self.duration!r}"
        if self.start and not self.end:
            return f"clips begin at column {self.start!r} and end with the file"
        if self.end and not self.start:
            return f"clips begin with the file and end at column {self.end!r}"
        return ""


def find_columns(table: Table, settings: Settings, *, needs_path: bool = True) -> Columns:
    """Find the roles of the columns of a table.

    Parameters
    ----------
    table : the table.
    settings : settings that name columns.
    needs_path : whether the table must have a column with paths of audio files.

    Returns
    -------
    Columns.

    Raises
    ------
    ValueError : when a column that the settings name does not exist, or when there is no column for the labels or the
        paths, or when several columns may be the labels. The message lists the columns.
    """
    plain = {plain_name(name): name for name in reversed(list(table.columns))}
    roles: dict[str, str | None] = {}
    for role, known in _NAMES.items():
        given = settings.columns.get(role)
        roles[role] = given or None
        if given:
            _expect(table, given)
        elif given is None:
            roles[role] = next((plain[name] for name in known.split() if name in plain), None)
    if "path" not in settings.columns:
        roles["path"] = _path_column(table, roles["path"])
    if roles["onset"] is None and all(name in plain for name in _RAVEN) and "start" not in settings.columns:
        roles["onset"], roles["offset"] = (plain[name] for name in _RAVEN)
    _choose_times(table, roles, settings)
    times = {role: name for role in _TIMES if (name := roles[role])}
    refuse_samples(table, {role: name for role, name in times.items() if seconds_per_unit(name) is None})
    if needs_path and not roles["path"]:
        raise ValueError(
            f"{table.path}: no column names audio files; its columns: {table.names_text}. "
            'Say which one does: --dataset-option \'columns={"path": "NAME"}\''
        )
    others = {name for name in roles.values() if name}
    label = _label_column(table, settings, plain, others)
    return Columns(label, **roles, classes=() if label else class_columns(table, others))


def _choose_times(table: Table, roles: dict[str, str | None], settings: Settings) -> None:
    """Keep the columns of times that are read: those of events, or else those of clips.

    Raises
    ------
    ValueError : when an onset has neither an offset nor a duration, or an offset has neither an onset nor a duration.
    """
    if any(settings.columns.get(role) for role in ("start", "end")):  # the user says that lines are clips
        roles |= {role: settings.columns.get(role) or None for role in ("onset", "offset")}
    onset, offset, duration = roles["onset"], roles["offset"], roles["duration"]
    if onset is None and offset and duration and roles["start"] is None:  # as Kaleidoscope: OFFSET in the file
        onset, offset = offset, None
    if onset is None and offset is None:
        if roles["end"] or not roles["start"]:
            roles["duration"] = None  # that of the file
        return
    if onset is None or (offset is None and duration is None):
        name, missing = (onset, "an offset or a duration") if onset else (offset, "an onset")
        raise ValueError(
            f"{table.path}: column {name!r} is {'an onset' if onset else 'an offset'}, and {missing} is missing; its "
            f'columns: {", ".join(table.columns)}. Name it, such as --dataset-option \'columns={{"duration": '
            f'"NAME"}}\', or say that there is none: \'columns={{"{"onset" if onset else "offset"}": ""}}\''
        )
    roles |= {"onset": onset, "offset": offset, "duration": None if offset else duration, "start": None, "end": None}


def _label_column(table: Table, settings: Settings, plain: dict[str, str], others: set[str]) -> str | None:
    if settings.label:
        _expect(table, settings.label)
        return settings.label
    for names in (_LABELS, _WEAK_LABELS, "command"):
        candidates = [plain[name] for name in names.split() if name in plain and plain[name] not in others]
        if len(candidates) == 1:
            return candidates[0]
        if candidates and _are_names_of_one_species(table, candidates):
            return candidates[0]
        if candidates:
            raise ValueError(
                f"{table.path}: several columns may be the labels: {', '.join(candidates)}. "
                f"Choose one: --dataset-option {shlex.quote(f'label={candidates[0]}')}"
            )
    rest = [name for name in table.columns if name not in others]
    return rest[0] if len(rest) == 1 else None


def _are_names_of_one_species(table: Table, names: Sequence[str]) -> bool:
    """Whether columns are names of species, each of which belongs to one name in the other columns."""
    if not {plain_name(name) for name in names} <= _SPECIES:
        return False
    distinct = set(zip(*(table[name] for name in names), strict=True))
    return all(len(set(table[name])) == len(distinct) for name in names)


def _path_column(table: Table, named: str | None) -> str | None:
    """The column with names of audio files: of those, the one with a usual name, or the first one."""
    if named and any(is_audio(text) for text in table[named][:100]):
        return named
    candidates = [name for name, values in table.columns.items() if _mostly_audio(values[:100])]
    return candidates[0] if candidates else named


def _mostly_audio(texts: Sequence[str]) -> bool:
    return bool(texts) and sum(map(is_audio, texts)) > len(texts) / 2


def _expect(table: Table, name: str) -> None:
    if name not in table:
        raise ValueError(f"{table.path}: {unknown('column', name, table.columns)}")
