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

from metadist.bundle import Bundle
from metadist.registry.code import served_code

REQUIREMENTS = ("mlflow", "numpy", "pydantic", "safetensors", "torch")

_MODEL = '''"""A metadist model: adapts when it is asked."""

import warnings

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", ".*Add type hints")  # the signature says more than type hints can

    class AdaptingModel(PythonModel):
        """predict({{"support_x", "support_y", "query_x"}}, params={{"inner_steps": K}}): one task a call."""

        def load_context(self, context):
            # Imported here: the package lies beside this file only once the model is whole.
            from {package}.adapter import load_adapter
            from {package}.errors import MetadistError
            from {package}.serving.answer import answer

            self._adapter = load_adapter(context.artifacts["bundle"])
            self._answer, self._refusal = answer, MetadistError

        def predict(self, context, model_input, params=None):
            try:
                return self._answer(self._adapter, model_input, params)
            except self._refusal as error:
                raise MlflowException.invalid_parameter_value(str(error)) from None


mlflow.models.set_model(AdaptingModel())
'''


def save_model(bundle: Bundle, folder: Path) -> Path:
    """Write the model below ``folder`` as MLflow stores it, and return its folder. Needs no server."""
    from mlflow import pyfunc

    code = served_code()
    entry = folder / "model.py"
    entry.write_text(_MODEL.format(package=code.package))
    out = folder / "model"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*input example")  # `metadist describe` prints a request
        pyfunc.save_model(
            path=str(out),
            python_model=str(entry),
            artifacts={"bundle": str(bundle.folder)},
            code_paths=[str(code.write(folder))],
            signature=_signature(bundle),
            pip_requirements=requirements(),
            metadata={"metadist.bundle": bundle.id},
        )
    return out


def requirements() -> list[str]:
    """What serving installs: the versions here, without local build tags such as ``+cpu``."""
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in REQUIREMENTS]


def _signature(bundle: Bundle) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

    number, target = np.dtype(np.float32), bundle.target
    inputs = TensorSpec(number, (-1, *bundle.input.shape), "support_x")
    queries = TensorSpec(number, (-1, *bundle.input.shape), "query_x")
    labels = (
        TensorSpec(np.dtype("O"), (-1,), "support_y")
        if target is None
        else TensorSpec(number, (-1, *target.shape), "support_y")
    )
    steps = ParamSpec("inner_steps", "long", bundle.facts["inner_steps"])
    return ModelSignature(inputs=Schema([inputs, labels, queries]), params=ParamSchema([steps]))
