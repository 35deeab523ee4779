"""SVG elements for the figures of the report. Colours are CSS classes, which `style.css` defines.

Positions and lengths are in pixels of the drawing; y grows downwards.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


def escape(text: object) -> str:
    """Escape text so that it cannot become markup.

    Examples
    --------
    >>> escape("<dog> & co")
    '&lt;dog&gt; &amp; co'
    """
    return html.escape(str(text), quote=True)


def rect(
    x: float, y: float, width: float, height: float, style: str, hint: str = "", radius: float = 2, opacity: float = 1
) -> str:
    """Draw a rectangle.

    Parameters
    ----------
    x, y, width, height : position of the upper left corner, and size.
    style : CSS class.
    hint : tooltip of the rectangle.
    radius : radius of the corners.
    opacity : opacity of the filling, 0 to 1.
    """
    attributes = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" rx="{radius:g}"'
    alpha = f' fill-opacity="{opacity:.2f}"' if opacity < 1 else ""
    return f'<rect class="{style}" {attributes}{alpha}>{_hint(hint)}</rect>'


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    """Draw a straight line from (x1, y1) to (x2, y2) with the CSS class `style`."""
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def polyline(points: Iterable[tuple[float, float]], style: str) -> str:
    """Draw straight lines from each point to the next, with the CSS class `style`."""
    return f'<polyline class="{style}" points="{_points(points)}"/>'


def polygon(points: Iterable[tuple[float, float]], style: str) -> str:
    """Draw the area inside these corners, with the CSS class `style`."""
    return f'<polygon class="{style}" points="{_points(points)}"/>'


def dot(x: float, y: float, radius: float, style: str, hint: str = "") -> str:
    """Draw a filled circle around (x, y) with the tooltip `hint`."""
    return f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}">{_hint(hint)}</circle>'


def text(x: float, y: float, content: object, style: str = "", anchor: str = "start", space: float = 0) -> str:
    """Write one line of text.

    Parameters
    ----------
    x, y : position of the anchor, on the baseline.
    content : the text.
    style : CSS class.
    anchor : which part of the text lies at x: "start", "middle" or "end".
    space : maximum width of the text; 0 for no limit. A longer text is cut, and its tooltip shows the full text.
    """
    full, length = str(content), max(int(space / 7.2), 3)
    shown, hint = (f"{full[: length - 1]}…", _hint(full)) if space and len(full) > length else (full, "")
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(shown)}{hint}</text>'


def whisker(low: float, high: float, y: float, style: str = "whisker") -> str:
    """Draw a horizontal interval with caps from `low` to `high`."""
    caps = "".join(line(x, y - 3.5, x, y + 3.5, style) for x in (low, high))
    return line(low, y, high, y, style) + caps


def image(
    pixels: npt.NDArray[np.floating], colours: str, box: tuple[float, float, float, float], style: str = ""
) -> str:
    """Draw an array as an image.

    Parameters
    ----------
    pixels : [rows, columns] in 0..1, row 0 at the top.
    colours : name of a matplotlib colour map.
    box : x, y, width and height into which the image is stretched.
    style : CSS class.
    """
    from matplotlib import colormaps
    from matplotlib.image import imsave

    file = io.BytesIO()
    imsave(file, colormaps[colours](np.clip(pixels, 0, 1), bytes=True), format="png")
    x, y, width, height = box
    attributes = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" preserveAspectRatio="none"'
    data = base64.b64encode(file.getvalue()).decode()
    return f'<image class="{style}" {attributes} href="data:image/png;base64,{data}"/>'


def drawing(width: float, height: float, parts: Iterable[str], label: str) -> str:
    """Join elements into a figure.

    Parameters
    ----------
    width, height : size of the drawing.
    parts : the elements, in the order in which they are drawn.
    label : a description of the figure for screen readers.
    """
    head = f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(label)}">'
    return "\n".join([head, *parts, "</svg>"])


def _points(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _hint(content: str) -> str:
    return f"<title>{escape(content)}</title>" if content else ""
