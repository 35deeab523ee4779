"""The Python code of the documentation pages, for tests that run it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def python_block(page: str, containing: str) -> str:
    """The one Python code block of a page that contains a text.

    Parameters
    ----------
    page : str. The path of a Markdown file, relative to the repository.
    containing : str. A text that occurs in one block only.

    Returns
    -------
    str. The code.
    """
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    (block,) = [text for text in blocks if containing in text]
    return block


def shell_block(containing: str, page: str = "README.md") -> str:
    """The one block of shell commands of a page that contains a text.

    Parameters
    ----------
    containing : str. A text that occurs in one block only.
    page : str. The path of a Markdown file, relative to the repository.

    Returns
    -------
    str. The commands.
    """
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    (block,) = [text for text in blocks if containing in text]
    return block
