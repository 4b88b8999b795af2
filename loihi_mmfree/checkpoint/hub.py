"""A model on the Hugging Face hub, by its id: weights, configuration and tokenizer are fetched, never code."""

from __future__ import annotations

import re
from pathlib import Path

from loihi_mmfree.errors import CheckpointError

PATTERNS = (
    "*.safetensors",
    "model.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
)
"""What is asked for; no pickles, and nothing that could be run."""
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_ID = re.compile(f"{_PART}/{_PART}")


def is_hub_id(text: str) -> bool:
    """Whether a text that is no path here could be a model on the hub: `owner/name`, and no folder `owner`."""
    return _ID.fullmatch(text) is not None and ".." not in text and not Path(text).parent.exists()


def fetch(model: str) -> Path:
    """Return the folder in the hub's cache that holds a model, after fetching what of it is not there yet.

    Parameters
    ----------
    model : str
        `owner/name`.

    Raises
    ------
    CheckpointError
        It could not be fetched; the message names the command that does it elsewhere.
    """
    wanted = " ".join(f'--include "{pattern}"' for pattern in PATTERNS)
    by_hand = f"`hf download {model} {wanted} --local-dir {model.split('/')[1]}`, then compile that folder"
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise CheckpointError(
            f"{model}: no such file or folder here; as a model on the Hugging Face hub it takes the package "
            f"huggingface_hub to fetch it (pip install 'loihi-mmfree[hf]'), or {by_hand}"
        ) from error
    try:
        return Path(snapshot_download(model, allow_patterns=list(PATTERNS)))
    except Exception as error:  # of the library, of what it fetches with, and of the network under that
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{model}: no such file or folder here, and not fetched from the Hugging Face hub ({first}). Where "
            f"there is a network: {by_hand}"
        ) from error
