"""Corrected labels: spellings of one label that are merged, texts that are no label, and classes that are selected."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from otoscope.datasets.sources.rows import Rows
from otoscope.datasets.sources.settings import Listing, Settings
from otoscope.datasets.sources.spellings import case_key, missing_texts, spelling_key
from otoscope.printable import name_some

_FEW = 0.05
"""Largest share of clips with several labels that is probably a mistake."""
_SHOWN = 5
"""Number of clips with several labels that are named."""


def corrected_labels(listing: Listing, settings: Settings) -> Rows:
    """Merge spellings of one label if the settings say so, remove texts that are no label, and select classes.

    Parameters
    ----------
    listing : what the path lists. A sentence is added to its notes for each kind of correction, and to its problems for
        each that is offered.
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
    new = _spellings(listing, settings, [label for label, _ in counts.most_common()])
    for label in _without_meaning(listing, settings, counts):
        del new[label]
    if settings.classes:
        unused = sorted(set(new) - set(settings.classes))
        if unused:
            listing.notes.append(
                f"{len(unused)} labels are not among the classes and were left out: {name_some(unused)}"
            )
        new = {label: target for label, target in new.items() if target in settings.classes}
    if all(label == target for label, target in new.items()) and len(new) == len(counts):
        return rows
    return _renamed(rows, new)


def _spellings(listing: Listing, settings: Settings, labels: Sequence[str]) -> dict[str, str]:
    """The label that replaces each label: the most frequent spelling where they are merged, else the label."""
    alike: dict[str, list[str]] = {}
    for label in labels:
        alike.setdefault(spelling_key(label), []).append(label)
    several = [same for same in alike.values() if len(same) > 1]
    by_case = [same for same in several if len(set(map(case_key, same))) == 1]
    others = [same for same in several if len(set(map(case_key, same))) > 1]
    advice = "they were merged" if settings.merge_labels else "--dataset-option merge_labels=true merges them"
    sentences = listing.notes if settings.merge_labels else listing.problems
    for groups, difference, shown in (
        (by_case, "in capital letters or spaces", repr),
        (others, "as numbers, in the form of their Unicode characters or in invisible spaces", ascii),
    ):
        if groups:
            examples = "; ".join(" = ".join(map(shown, same)) for same in groups[:3])
            sentences.append(f"labels that differ only {difference}: {examples}; {advice}")
    new = {label: label for label in labels}
    if settings.merge_labels:
        new |= {label: same[0] for same in several for label in same}
    return new


def _without_meaning(listing: Listing, settings: Settings, counts: Mapping[str, int]) -> list[str]:
    """The labels that the settings declare to be none. Others that look like none are reported."""
    given = [label for label in counts if label in settings.missing_labels]
    if given:
        total = sum(counts[label] for label in given)
        listing.notes.append(f"{total:,} labels mean that there is none: {name_some(sorted(given))}")
    declared = {*settings.missing_labels, *(settings.classes or ()), *(listing.classes or ())}
    if doubtful := [label for label in missing_texts(counts) if label not in declared]:
        named = ", ".join(f"{label!r} ({counts[label]:,})" for label in doubtful)
        option = json.dumps(doubtful, ensure_ascii=False)
        listing.problems.append(
            f"labels that probably stand for no label are classes: {named}; --dataset-option "
            f"'missing_labels={option}' treats them as missing"
        )
    return given


def few_with_several(rows: Rows) -> list[str]:
    """Describe the clips with several labels where nearly all others have exactly one.

    Parameters
    ----------
    rows : the rows.

    Returns
    -------
    One sentence, or none.

    Examples
    --------
    >>> from otoscope.datasets.sources import AudioFiles
    >>> names, labels = [f"{number}.wav" for number in range(20)], [("dog",)] * 19 + [("cat", "dog")]
    >>> print(*few_with_several(Rows(ids=names, audio=AudioFiles(".", names), labels=labels)))
    1 of 20 clips has several labels: '19.wav' (cat, dog); so the task is multi-label. Correct the labels, or confirm \
it with --dataset-option kind=multi-label
    """
    labels = rows.labels or ()
    sizes = Counter(map(len, labels))
    few = sum(times for size, times in sizes.items() if size > 1)
    if not few or few > _FEW * (few + sizes[1]) or sizes[0] > sizes[1]:
        return []
    numbers = [number for number, several in enumerate(labels) if len(several) > 1]
    named = "; ".join(f"{rows.ids[number]!r} ({', '.join(labels[number])})" for number in numbers[:_SHOWN])
    more = f"; and {few - _SHOWN:,} more" if few > _SHOWN else ""
    return [
        f"{few:,} of {len(labels):,} clips {'has' if few == 1 else 'have'} several labels: {named}{more}; so the task "
        "is multi-label. Correct the labels, or confirm it with --dataset-option kind=multi-label"
    ]


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
