"""The bundle as an MLflow model: models-from-code, so that nothing is pickled.

What MLflow does behind a tensor signature: keys and params that it does not list are dropped before the model
sees them; numbers are cast to the declared type without a word, so images are declared float32 (a uint8 would
turn 0..1 into zeros) and checked inside; labels are declared as objects, since declared as text a null would
become the label "None".
"""

from __future__ import annotations

import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from metadist.config.transforms import is_pretrained
from metadist.registry.code import served_code
from metadist.serving.bundle import Bundle

REQUIREMENTS = ("mlflow", "numpy", "pydantic", "safetensors", "torch")


def save_model(bundle: Bundle, folder: Path) -> Path:
    """Write the model below ``folder`` as MLflow stores it, and return its folder. Needs no server."""
    pyfunc = _pyfunc()
    code = served_code()
    entry = folder / "model.py"
    entry.write_text(code.entry)
    out = folder / "model"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*(input example|type hint)")  # `metadist describe` prints a request
        pyfunc.save_model(
            path=str(out),
            python_model=str(entry),
            artifacts={"bundle": str(bundle.folder)},
            code_paths=[str(code.write(folder))],
            signature=_signature(bundle),
            pip_requirements=requirements(bundle),
            metadata={"metadist.bundle": bundle.id},
        )
    return out


def _pyfunc() -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*type hint")  # of MLflow's own classes
        from mlflow import pyfunc
    return pyfunc


def requirements(bundle: Bundle) -> list[str]:
    """What serving installs: the versions here, without local build tags such as ``+cpu``."""
    names = list(REQUIREMENTS)
    if bundle.config.model.name == "encoder":
        names.append("transformers")
    if any(map(is_pretrained, bundle.config.tasks.transform)):
        names.append("tokenizers")
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in names]


def _signature(bundle: Bundle) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

    number, target = np.dtype(np.float32), bundle.target
    kind = np.dtype("O") if bundle.input.dtype == "string" else number
    inputs = TensorSpec(kind, (-1, *bundle.input.shape), "support_x")
    queries = TensorSpec(kind, (-1, *bundle.input.shape), "query_x")
    labels = (
        TensorSpec(np.dtype("O"), (-1,), "support_y")
        if target is None
        else TensorSpec(number, (-1, *target.shape), "support_y")
    )
    steps = ParamSpec("inner_steps", "long", bundle.facts["inner_steps"])
    return ModelSignature(inputs=Schema([inputs, labels, queries]), params=ParamSchema([steps]))
