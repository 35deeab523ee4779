"""Corrected labels: spellings of one label that are merged, and classes that are selected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from otoscope.datasets.sources.remarks import name_some
from otoscope.datasets.sources.rows import Rows
from otoscope.datasets.sources.settings import Listing, Settings


def corrected_labels(listing: Listing, settings: Settings) -> Rows:
    """Merge labels that differ only in capital letters and spaces, if the settings say so, and select classes.

    Parameters
    ----------
    listing : what the path lists. A sentence is added to its notes for each kind of correction, made or offered.
    settings : the settings.

    Returns
    -------
    The rows with corrected labels.
    """
    rows = listing.rows
    if rows.labels is None:
        return rows
    counts: Counter[str] = Counter()
    for labels, times in Counter(rows.labels).items():
        counts.update(dict.fromkeys(labels, times))
    alike: dict[str, list[str]] = {}
    for label, _ in counts.most_common():
        alike.setdefault(" ".join(label.split()).casefold(), []).append(label)
    several = [same for same in alike.values() if len(same) > 1]
    new = {label: label for label in counts}
    if several:
        examples = "; ".join(" = ".join(repr(label) for label in same) for same in several[:3])
        if settings.merge_labels:
            new |= {label: same[0] for same in several for label in same}
        advice = "they were merged" if settings.merge_labels else "--dataset-option merge_labels=true merges them"
        sentences = listing.notes if settings.merge_labels else listing.problems
        sentences.append(f"labels that differ only in capital letters or spaces: {examples}; {advice}")
    if settings.classes:
        unused = sorted(set(counts) - set(settings.classes))
        if unused:
            listing.notes.append(
                f"{len(unused)} labels are not among the classes and were left out: {name_some(unused)}"
            )
        new = {label: target for label, target in new.items() if target in settings.classes}
    if all(label == target for label, target in new.items()) and len(new) == len(counts):
        return rows
    return _renamed(rows, new)


def _renamed(rows: Rows, new: Mapping[str, str]) -> Rows:
    """Rows with other labels; labels that are not in `new` are left out."""
    assert rows.labels is not None
    known = {
        labels: tuple(dict.fromkeys(new[label] for label in labels if label in new)) for labels in set(rows.labels)
    }
    labels = [known[several] for several in rows.labels]
    if rows.events is None:
        return replace(rows, labels=labels)
    events = [tuple(replace(e, label=new[e.label]) for e in several if e.label in new) for several in rows.events]
    return replace(rows, labels=labels, events=events)
