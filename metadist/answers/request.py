"""One request, one task: adapt, answer. What the registered model calls; it knows nothing of MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metadist.adapter import Adapter, probabilities
from metadist.errors import DataError

NEEDED = ("support_x", "support_y", "query_x")


def answer(adapter: Adapter, inputs: Mapping[str, Any], params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Adapt to ``support_x``, ``support_y`` and predict ``query_x``.

    Returns:
        ``labels`` (values for a regression), ``probabilities`` and ``classes`` (null for a regression),
        ``inner_steps`` as used, ``support_loss`` [before, after], and ``bundle``, the model's identity. Floats are
        float32 values, which JSON carries exactly.

    Raises:
        DataError: an input is missing or does not fit the model.
        UsageError: ``inner_steps`` is out of range.
    """
    missing = [name for name in NEEDED if inputs.get(name) is None]
    if missing:
        raise DataError(f"the request has no {' and no '.join(missing)}; it needs {', '.join(NEEDED)}")
    steps = (params or {}).get("inner_steps")
    predictor = adapter.adapt(inputs["support_x"], inputs["support_y"], steps)
    common = {
        "inner_steps": predictor.inner_steps,
        "support_loss": list(predictor.support_loss),
        "bundle": adapter.bundle.id,
    }
    if not predictor.classes:
        values = predictor.predict(inputs["query_x"]).tolist()
        return {"labels": values, "probabilities": None, "classes": None, **common}
    table = probabilities(predictor.outputs(inputs["query_x"]))
    labels = [predictor.classes[place] for place in table.argmax(-1)]
    return {
        "labels": labels,
        "probabilities": table.tolist(),
        "classes": list(predictor.classes),
        **common,
    }
