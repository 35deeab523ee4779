"""Checkpoints of transformers: settings, weights and feature extractors, from a folder or a pinned repository."""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from otoscope.encoders._hf_shards import part_of_repository

COMMIT = re.compile(r"[0-9a-f]{40}")
WITHOUT_EFFECT = {
    "_name_or_path",
    "architectures",
    "dtype",
    "finetuning_task",
    "gradient_checkpointing",
    "id2label",
    "label2id",
    "torch_dtype",
    "transformers_version",
}
"""Settings in config.json that change no token."""


@dataclass(frozen=True)
class Source:
    """A folder with a checkpoint, or a repository on the Hugging Face hub at one commit.

    Parameters
    ----------
    encoder : name of the encoder, for messages.
    path : a folder written by `save_pretrained`, or the name of a repository.
    revision : the 40 hexadecimal digits of a commit; None for a folder.
    remote_code : whether Python code that the checkpoint contains may be executed.

    Raises
    ------
    ImportError : when transformers is not installed.
    ValueError : when there is no such folder, or the repository is not pinned.
    """

    encoder: str
    path: str
    revision: str | None
    remote_code: bool = False

    def __post_init__(self) -> None:
        try:
            import transformers  # noqa: F401
        except ImportError as error:
            raise ImportError(f'encoder {self.encoder!r} needs transformers: pip install "otoscope[hf]"') from error
        folder = Path(self.path)
        if folder.is_dir():
            if self.revision is not None:
                raise self.refused(f"{self.path} is a folder and has no revision; omit the option revision")
            if not (folder / "config.json").is_file():
                raise self.refused(f"no config.json in {self.path}; write the folder with save_pretrained")
        elif self.revision is None:
            raise self.refused(_no_folder(self.path))
        elif not COMMIT.fullmatch(self.revision):
            raise self.refused(f"revision {self.revision!r} can change; give the 40 hex digits of a commit")

    def refused(self, reason: str) -> ValueError:
        """The error that says why this encoder cannot be built."""
        return ValueError(f"encoder {self.encoder!r}: {reason}")

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of every `from_pretrained`."""
        return {"revision": self.revision, "trust_remote_code": self.remote_code}

    def settings(self) -> dict[str, Any]:
        """The content of config.json."""
        from transformers import PretrainedConfig

        content, _ = PretrainedConfig.get_config_dict(self.path, revision=self.revision)
        return dict(content)

    def extractor(self) -> Any:
        """The feature extractor that preprocessor_config.json describes."""
        from transformers import AutoFeatureExtractor

        try:
            with warnings.catch_warnings():
                # the filter bank with which AST was trained has empty filters
                warnings.filterwarnings("ignore", "At least one mel filter", UserWarning)
                return AutoFeatureExtractor.from_pretrained(self.path, **self.arguments)
        except (OSError, ValueError) as error:
            if "trust_remote_code" in str(error):
                raise self.refused(needs_remote_code(self.path)) from error
            raise self.refused(
                f"{self.path} describes no feature extractor, which is the front end; add the preprocessor_config.json "
                f"of the model, for instance with save_pretrained of its feature extractor ({_first_line(error)})"
            ) from error

    def pretrained(self, model: Any, config: Any, prefix: str = "", *, part: str = "", pickles: bool = True) -> Any:
        """Load the weights of a model into the class `model`, in float32 and evaluation mode.

        Parameters
        ----------
        model : a class of transformers.
        config : its configuration.
        prefix : prefix of the names of its weights in a complete model, a regular expression.
        part : name of the module of `model` that is returned; "" for the model itself. Other weights may be missing.
        pickles : whether a pickle is read where there are no safetensors, with `weights_only=True`, which executes no
            code.

        Raises
        ------
        ValueError : when weights are missing.
        """
        mapping = {rf"^(?:.*\.)?{prefix}\.": ""} if prefix else None
        try:
            with quiet(), self._files_of(prefix) as folder:
                body, loading = model.from_pretrained(
                    self.path if folder is None else folder,
                    config=config,
                    key_mapping=mapping,
                    dtype=torch.float32,
                    weights_only=True,
                    use_safetensors=None if pickles else True,
                    output_loading_info=True,
                    **self.arguments,
                )
        except SafetensorError as error:
            raise self.refused(f"the weights in {self.path} are damaged; get them again ({error})") from error
        missing = sorted(name for name in loading["missing_keys"] if name.startswith(part))
        unexpected = sorted(loading["unexpected_keys"])
        if missing or loading["mismatched_keys"]:
            names = missing or sorted(str(entry[0]) for entry in loading["mismatched_keys"])
            raise self.refused(
                f"{len(names)} weights of {model.__name__} are missing in {self.path} or have another shape, such as "
                f"{names[0]}; the checkpoint has {len(unexpected)} others"
                + (f", such as {unexpected[0]}" if unexpected else "")
                + "; give the complete checkpoint of this model"
            )
        return body.get_submodule(part).eval()

    def _files_of(self, prefix: str) -> AbstractContextManager[Path | None]:
        """A context manager with a folder of the files that contain a part; None for the complete checkpoint."""
        if self.revision is None or not prefix:
            return nullcontext()
        return part_of_repository(self.path, self.revision, prefix)


def check_folder(encoder: str, options: Mapping[str, Any]) -> None:
    """Raise `FileNotFoundError` if the option `path` is no folder and no repository is pinned.

    Parameters
    ----------
    encoder : name of the encoder.
    options : its options.
    """
    path = options.get("path", "")
    if options.get("revision") is None and not Path(path).is_dir():
        raise FileNotFoundError(f"encoder {encoder!r}: {_no_folder(path)}")


def _no_folder(path: str) -> str:
    return (
        f"no folder at {path}; give a folder written by save_pretrained, or, if {path} is a repository on the Hugging "
        "Face hub, pin its weights with revision=<commit>"
    )


def model_class(name: str) -> Any:
    """Return a class of transformers, by its name or as "module:Class" for one that is not exported."""
    module, _, cls = name.rpartition(":")
    return getattr(importlib.import_module(f"transformers.{module}" if module else "transformers"), cls)


def relevant(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in config.json that can change tokens.

    Examples
    --------
    >>> relevant({"hidden_size": 8, "transformers_version": "5.0"})
    {'hidden_size': 8}
    """
    return {key: value for key, value in settings.items() if key not in WITHOUT_EFFECT}


def needs_remote_code(path: str) -> str:
    """Return the message for a checkpoint that contains its own code."""
    return (
        f"the model in {path} brings its own code, which otoscope does not execute by itself; if you trust it, add "
        "--trust-remote-code, or trust_remote_code=True in Python"
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Disable the progress bars and reports of transformers, which would break the progress of otoscope."""
    from transformers.utils import logging

    enabled, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if enabled:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
