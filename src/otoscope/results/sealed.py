"""JSON files with a digest of their content, so that damage is noticed."""

from __future__ import annotations

from typing import Any

from otoscope.files import json_text
from otoscope.identity import digest_of


def sealed_text(contents: dict[str, Any], *context: Any, indent: int | None = None) -> str:
    """Return the text of a JSON file with a digest.

    Parameters
    ----------
    contents : dict. JSON values, with null in place of NaN.
    context : plain values to which the file belongs, such as the identity of the bank. They are part of the digest.
    indent : int, or None. As for `json.dumps`.

    Returns
    -------
    str. JSON of the contents and of the field "digest".

    Examples
    --------
    >>> import json
    >>> check_seal(json.loads(sealed_text({"ids": ["a"]}, "train")), "train")
    """
    return json_text(contents | {"digest": digest_of(contents, *context)}, indent=indent) + "\n"


def check_seal(stored: Any, *context: Any) -> None:
    """Check the digest in the values of a file that was written with `sealed_text`.

    Parameters
    ----------
    stored : the JSON value of the file.
    context : the context that was given to `sealed_text`.

    Raises
    ------
    ValueError : when the value is no JSON object, or the digest is that of other contents or of another context.
    """
    if not isinstance(stored, dict):
        raise ValueError("it is not a JSON object")
    contents = {name: value for name, value in stored.items() if name != "digest"}
    if stored.get("digest") != digest_of(contents, *context):
        raise ValueError("its content has another digest than when it was written")
