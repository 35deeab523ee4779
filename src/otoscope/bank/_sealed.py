"""JSON files with a digest of their content, so that damage is noticed."""

from __future__ import annotations

import json
from typing import Any

from otoscope.files import json_text
from otoscope.identity import digest_of


def sealed_text(contents: dict[str, Any], *context: Any, indent: int | None = None) -> str:
    """Return the text of a JSON file with a digest.

    Parameters
    ----------
    contents : dict. JSON values.
    context : plain values to which the file belongs, such as the identity of the bank. They are part of the digest.
    indent : int, or None. As for `json.dumps`.

    Returns
    -------
    str. JSON of the contents and of the field "digest".

    Examples
    --------
    >>> unsealed(sealed_text({"ids": ["a"]}, "train"), "train")
    {'ids': ['a']}
    """
    return json_text(contents | {"digest": digest_of(contents, *context)}, indent=indent) + "\n"


def unsealed(text: str, *context: Any) -> dict[str, Any]:
    """Read the text of `sealed_text`.

    Parameters
    ----------
    text : str. The text.
    context : the context that was given to `sealed_text`.

    Raises
    ------
    ValueError : when the text is no JSON object, or the digest is that of other contents or of another context.
    """
    contents = json.loads(text)
    if not isinstance(contents, dict) or contents.pop("digest", None) != digest_of(contents, *context):
        raise ValueError("its content has another digest than when it was written")
    return contents
