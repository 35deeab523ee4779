"""One test clip with the activation map of one prototype."""

from __future__ import annotations

from otoscope.report.html import figures
from otoscope.report.html.sections.base import ReportData, Section, register
from otoscope.report.html.svg import escape
from otoscope.results import activation_map


@register("activation")
class Activation(Section):
    """A spectrogram, and below it the similarity of every token with one prototype."""

    title = "The activation map of one prototype on one clip"
    order = 70

    def body(self, data: ReportData) -> str | None:
        """Draw the activation map that is stored with the results; None if there is none."""
        path = activation_map.activation_path(data.path)
        if not path.exists():
            return None
        clip = activation_map.load(path)
        note = (
            f"Test clip {clip.clip_id}, labelled {', '.join(clip.true_labels) or 'nothing'}. Below its spectrogram: "
            f"the similarity of every token of {clip.encoder} with prototype {clip.prototype} of {clip.probe}, the "
            f"prototype that adds most to the score of “{clip.class_name}”. The most similar token is outlined."
        )
        return f'<p class="note">{escape(note)}</p>\n<figure>{figures.activation_chart(clip)}</figure>'
