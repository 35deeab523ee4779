"""Write the table of all named encoders, which is made from their cards, into docs/encoders.md.

python tools/encoder_table.py
"""

from __future__ import annotations

import re
from pathlib import Path

from otoscope.encoders.catalog import COLUMNS, overview, ported
from otoscope.report.text.table import TextTable

PAGE = Path(__file__).parents[1] / "docs" / "encoders.md"
SECTION = re.compile(r"(?<=<!-- encoder-table -->\n).*(?=<!-- /encoder-table -->)", re.DOTALL)


def table() -> str:
    """Make the table in Markdown."""
    rows = [[*overview(name, cls), ", ".join(cls.card.pretrained_on)] for name, cls in ported().items()]
    return TextTable([*COLUMNS, "trained on"], rows, left_columns=2).markdown() + "\n"


if __name__ == "__main__":
    PAGE.write_text(SECTION.sub(lambda _: table(), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{PAGE}: {len(ported())} encoders")
