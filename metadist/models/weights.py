"""Initial weights from a file."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from metadist.errors import ModelError


def load_weights(path: str) -> dict[str, Tensor]:
    """Leaves by the model's own names from a safetensors file, or from the newest checkpoint of a run folder.

    Raises:
        ModelError: there is no such file, or it is not whole.
    """
    file = Path(path)
    if file.is_dir():
        found = sorted((file / "checkpoints").glob("*/params.safetensors"))
        if not found:
            raise ModelError(f"model.weights {path}: the folder holds no checkpoint")
        file = found[-1]
    if not file.is_file():
        raise ModelError(f"model.weights {path}: there is no such file or run folder")
    try:
        leaves = load_file(file)
    except Exception as error:  # safetensors raises its own untyped error
        raise ModelError(f"model.weights {file}: not a whole safetensors file ({error})") from error
    return {name.removeprefix("model."): leaf for name, leaf in leaves.items()}
