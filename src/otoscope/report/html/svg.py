"""A few lines of SVG: what the report's figures are drawn with. Colours are classes, the style sheet decides."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


def escape(text: object) -> str:
    """Text that cannot become markup.

    >>> escape("<dog> & co")
    '&lt;dog&gt; &amp; co'
    """
    return html.escape(str(text), quote=True)


def rect(
    x: float, y: float, width: float, height: float, style: str, hint: str = "", round_: float = 2, opacity: float = 1
) -> str:
    """A rectangle of CSS class `style`; `hint` shows on hover."""
    where = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" rx="{round_:g}"'
    veil = f' fill-opacity="{opacity:.2f}"' if opacity < 1 else ""
    return f'<rect class="{style}" {where}{veil}>{_hint(hint)}</rect>'


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    """A straight line."""
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def dot(x: float, y: float, radius: float, style: str, hint: str = "") -> str:
    """A filled circle."""
    return f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}">{_hint(hint)}</circle>'


def text(x: float, y: float, words: object, style: str = "", anchor: str = "start", room: float = 0) -> str:
    """Words with their baseline at y; anchor "start", "middle" or "end". What does not fit into `room`, if that is
    given, is cut and shows whole on hover."""
    whole, fits = str(words), max(int(room / 7.2), 3)
    shown, hint = (f"{whole[: fits - 1]}…", _hint(whole)) if room and len(whole) > fits else (whole, "")
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(shown)}{hint}</text>'


def whisker(low: float, high: float, y: float, style: str = "whisker") -> str:
    """A horizontal interval with caps."""
    caps = "".join(line(x, y - 3.5, x, y + 3.5, style) for x in (low, high))
    return line(low, y, high, y, style) + caps


def image(
    pixels: npt.NDArray[np.floating], colours: str, box: tuple[float, float, float, float], style: str = ""
) -> str:
    """A picture of values in 0..1, [rows, columns] with row 0 on top, stretched into box (x, y, width, height)."""
    from matplotlib import colormaps
    from matplotlib.image import imsave

    held = io.BytesIO()
    imsave(held, colormaps[colours](np.clip(pixels, 0, 1), bytes=True), format="png")
    x, y, width, height = box
    where = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" preserveAspectRatio="none"'
    return f'<image class="{style}" {where} href="data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"/>'


def drawing(width: float, height: float, parts: Iterable[str], label: str) -> str:
    """The whole figure; `label` says in words what it shows, for those who do not see it."""
    head = f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(label)}">'
    return "\n".join([head, *parts, "</svg>"])


def _hint(words: str) -> str:
    return f"<title>{escape(words)}</title>" if words else ""
