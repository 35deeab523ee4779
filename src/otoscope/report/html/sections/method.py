"""How the results were measured."""

from __future__ import annotations

from otoscope.report.html.sections.base import ReportData, Section, register
from otoscope.report.html.svg import escape
from otoscope.report.rows import Row
from otoscope.report.variants import used_settings

_FACTS = (
    "The encoder is frozen. Each probe is trained on the train split; the validation split selects its best epoch. "
    "The held-out test split is opened once, to measure the scores in these tables.",
    "mAP is the mean over classes of average precision (step-wise). Classes without positives are excluded.",
    "Intervals are 95 % intervals of a bootstrap over test clips (1,000 resamples) of the mean over seeds; those of "
    "accuracy, and those of scores on which all resamples agree, are exact. Where clips share groups, such as "
    "recordings or speakers, groups are resampled; with fewer than 10 groups, no difference is called significant. "
    "Gains and shares of the gap are paired: every probe is measured on the same resampled clips.",
    "Share of the gap closed: (probe − linear) / (fine-tuning − linear).",
    "Beyond random weights: the score minus that of the same probe, with its own search, on the same encoder with "
    "random weights.",
    "Where a search chose the learning rate and weight decay, each seed takes those of another trial whose validation "
    "score is close to the best, so that the spread over seeds includes the luck of the search.",
)


@register("method")
class Method(Section):
    """The protocol in words, dates, machines and versions, and the configuration of every row."""

    title = "How it was measured"
    order = 80

    def body(self, data: ReportData) -> str:
        """Write the facts and the table of configurations."""
        facts = "".join(f"<li>{escape(fact)}</li>" for fact in (*_FACTS, *_provenance(data)))
        rows = "".join(
            f"<tr><td>{escape(r.encoder)} · {escape(r.label)}</td><td>{_configuration(r)}</td></tr>" for r in data.rows
        )
        head = '<div class="scroll"><table class="words"><thead><tr><th>probe</th><th>configuration</th></tr></thead>'
        return (
            f"<ul class='note'>{facts}</ul>\n"
            f"<details><summary>Configurations</summary>{head}<tbody>{rows}</tbody></table></div></details>"
        )


def _provenance(data: ReportData) -> list[str]:
    """When, where and with which versions the records were made, if the records contain them."""
    records = [record for row in data.rows for record in row.records]
    machines = sorted({r.machine for r in records if r.machine})
    dates = sorted({r.date[:10] for r in records if r.date})
    versions = sorted({f"{name} {version}" for r in records for name, version in r.versions.items()})
    return [
        *([f"Measured {dates[0]}" + (f" to {dates[-1]}" if len(dates) > 1 else "") + "."] if dates else []),
        *([f"Machine: {'; '.join(machines)}."] if machines else []),
        *([f"Versions: {', '.join(versions)}."] if versions else []),
    ]


def _configuration(row: Row) -> str:
    """Write the training configuration of a row; a value that differs between seeds is listed for each of them."""
    seeds = [used_settings(record) for record in row.records]
    values = {name: list(dict.fromkeys(str(settings.get(name)) for settings in seeds)) for name in seeds[0]}
    text = ", ".join(f"{name} = {' / '.join(different)}" for name, different in values.items())
    return f"<code>{escape(text)}</code>"
