"""Selectivity: how much more a probe reads from a trained encoder than from the same encoder with random weights.

A probe with many parameters can reach a high score on tokens that nobody trained. Its score alone is therefore no
statement about the encoder; its score beyond the control is. Hewitt and Liang (EMNLP 2019) call this difference
selectivity; their control is a random task, ours is a random encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from otoscope import encoders
from otoscope.report.variants import without_fold
from otoscope.results import Protocol, Record

if TYPE_CHECKING:
    from otoscope.report.rows import Row

Select = Callable[[str, str, str], bool]
"""Whether to read records with these labels of encoder, data set and probe."""
Measured = TypeVar("Measured", "Row", Record)


def find_control(row: Row, rows: Iterable[Row]) -> Row | None:
    """Find the row of the same probe, with the same settings, on the control of an encoder.

    Parameters
    ----------
    row : the row of an encoder.
    rows : the rows of a store.

    Returns
    -------
    Row or None. The row whose records name this encoder in `Record.control_of`. Records of single probes, and older
    ones, name none. There, it is the row of the only control on this data set, if there is also only one trained
    encoder, and both have the same registered name and shape of tokens. None in all other cases, and for a row that is
    measured on a control.
    """
    if row.control:
        return None
    same = [other for other in rows if _key(other) == _key(row)]
    controls = [other for other in same if other.control]
    linked = [other for other in controls if other.control_of == row.encoder]
    unnamed = [other for other in controls if other.control_of is None and _could_be_control(other, row)]
    trained = {other.pair for other in same if not other.control}
    if not linked and len(trained) == 1:
        linked = unnamed
    return linked[0] if len(linked) == 1 else None


def without_controls(measured: Sequence[Measured]) -> list[Measured]:
    """Leave out the controls of encoders that are measured on the same data set.

    A control does not compete with other encoders. It would also make the family of comparisons larger, which needs
    stricter corrections. A control alone, for example one that the user selected by its label, is not left out.

    Parameters
    ----------
    measured : rows, or records.

    Returns
    -------
    list of the others, in the same order.
    """
    pairs = {(one.dataset, one.encoder) for one in measured}
    return [one for one in measured if (one.dataset, one.control_of) not in pairs]


def _could_be_control(other: Row, row: Row) -> bool:
    """Whether a row on random weights may be that of the encoder of another row, by its name and size.

    Different models are measured under a name such as "hf", so that the label of the control must begin with theirs.
    """
    control, record = other.records[0], row.records[0]
    registered = encoders.registry.get(record.encoder_name) if record.encoder_name in encoders.names() else None
    if registered and registered.written and not control.encoder.startswith(record.encoder):
        return False
    return (control.encoder_name, control.parameters) == (record.encoder_name, record.parameters)


def _key(row: Row) -> tuple[object, ...]:
    return row.dataset, row.data, row.fold_names, row.probe, _settings(row)


def _settings(row: Row) -> Protocol:
    """The protocol without what differs between an encoder and its control."""
    return replace(without_fold(row.records[0].protocol), encoder_digest="", control=False)
