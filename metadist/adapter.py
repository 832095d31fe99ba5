"""A registered model, loaded: give it a support set, get a predictor. Serving needs no Ray.

Legend: N support examples, M query examples, K inner steps.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load
from torch import Tensor

from metadist import numerics
from metadist.algorithms import Adapted
from metadist.algorithms.interface import keeps_statistics
from metadist.config import import_paths
from metadist.errors import DataError, UsageError
from metadist.parameters import MetaParams, aligned, params_sha256
from metadist.parts import build_parts
from metadist.serving.bundle import ENCODER, FACTS, FROZEN, SELF_TEST, WEIGHTS, Bundle, bundle_in, read_bundle
from metadist.serving.columns import Columns
from metadist.serving.inputs import Label, class_labels, raw_inputs, targets
from metadist.serving.user_code import provide_code
from metadist.tasks import Batch, Context

MAX_INNER_STEPS = 1000
REGISTERED = ("models:/", "runs:/")


def load_adapter(uri: str | Path, *, tracking_uri: str | None = None) -> Adapter:
    """The model behind a bundle folder, a run's or registry's URI (``models:/NAME@candidate``, ``runs:/...``).

    Args:
        uri: A bundle folder, the folder of a logged model, or an MLflow URI; only the last imports MLflow.
        tracking_uri: Where to ask; MLFLOW_TRACKING_URI, then sqlite in the working directory.

    Raises:
        DataError: there is no bundle, or it is damaged.
        ServiceAway: the registry does not answer.
    """
    return Adapter(load_bundle(uri, tracking_uri=tracking_uri))


def load_bundle(uri: str | Path, *, tracking_uri: str | None = None) -> Bundle:
    """What `load_adapter` loads, read but not yet built."""
    if str(uri).startswith(REGISTERED):
        from metadist.serving.fetch import fetched

        return read_bundle(bundle_in(fetched(str(uri), tracking_uri)))
    return read_bundle(bundle_in(Path(uri)))


def is_model(uri: str | Path) -> bool:
    """Whether `load_bundle` would look for a model there: a registry's URI, or a folder that holds a bundle."""
    return str(uri).startswith(REGISTERED) or (bundle_in(Path(uri)) / FACTS).exists()


class Predictor:
    """A task's predictor.

    Attributes:
        classes: Labels in the order of the probabilities' columns; empty for a regression.
        inner_steps: How many it took.
        support_loss: Mean loss on the support set before and after adaptation.
    """

    def __init__(
        self,
        adapter: Adapter,
        adapted: Adapted,
        classes: tuple[Label, ...],
        inner_steps: int,
        support_loss: tuple[float, float],
    ) -> None:
        self._adapter, self._adapted = adapter, adapted
        self.classes, self.inner_steps, self.support_loss = classes, inner_steps, support_loss

    def outputs(self, query_x: Any) -> NDArray[np.float32]:
        """The model's raw outputs: logits (M, ways), or values (M, D) before `Columns.in_units`. All queries go through
        in one pass."""
        with self._adapter.computing():
            x = self._adapter.columns.tensor(raw_inputs(query_x, self._adapter.bundle.input, "query_x"))
            return np.asarray(self._adapter.algorithm.predict(self._adapted, x))

    def predict_proba(self, query_x: Any) -> NDArray[np.float32]:
        """Probabilities (M, ways), columns in the order of ``classes``."""
        if not self.classes:
            raise UsageError("this model is a regression: it has values (predict), not probabilities")
        return probabilities(self.outputs(query_x))

    def predict(self, query_x: Any) -> NDArray[Any]:
        """A label a query (M,); for a regression values (M, *target shape)."""
        target = self._adapter.bundle.target
        if target is not None:
            return self._adapter.columns.in_units(self.outputs(query_x))
        return np.asarray(np.array(self.classes)[self.predict_proba(query_x).argmax(-1)])


class Adapter:
    """A meta-learned model. One thread computes at a time, since modules are borrowed while they run.

    ``adapt`` is stateless; ``fit``, ``predict`` and ``predict_proba`` keep the last predictor, as scikit-learn does.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._lock = threading.RLock()
        self._fitted: Predictor | None = None
        config = bundle.config
        provide_code(import_paths(config, served=True), bundle.folder, bundle.facts.get("user_code", {}))
        frozen = bundle.folder / FROZEN
        shape = {"path": str(bundle.folder / ENCODER)} if (bundle.folder / ENCODER).exists() else {}
        settings = config.model.model_copy(
            update={
                "weights": str(frozen) if frozen.exists() else None,
                "options": {**config.model.options, **shape},
            }
        )
        self.columns = Columns(bundle)
        with self.computing():
            _, self.objective, self.algorithm = build_parts(
                config.model_copy(update={"model": settings}), bundle.spec, self.columns.targets
            )
        self.meta = _read_weights(bundle)
        self.context = Context(
            torch.tensor(bundle.facts["step"] / config.outer.num_steps), torch.tensor(0, dtype=torch.int64)
        )

    @property
    def inner_steps(self) -> int:
        """The number of inner steps where the caller names none."""
        return int(self.bundle.facts["inner_steps"])

    def adapt(self, support_x: Any, support_y: Any, inner_steps: int | None = None) -> Predictor:
        """Adapt to a task.

        Args:
            support_x: Raw inputs (N, *stored shape), for instance pixels 0..255.
            support_y: N labels, strings or integers, exactly as many distinct ones as the model has ways; for a
                regression N targets. N may be 0 where it was trained so (``tasks.support: [0, ...]``).
            inner_steps: K; by default as in its evaluation.

        Raises:
            DataError: the examples do not fit the model.
            UsageError: ``inner_steps`` is out of range.
        """
        return self._predictors(support_x, support_y, inner_steps, every=False)[-1]

    def path(self, support_x: Any, support_y: Any, inner_steps: int | None = None) -> list[Predictor]:
        """The predictors after 0..K inner steps, in one pass; each equals that of `adapt`, bit for bit."""
        return self._predictors(support_x, support_y, inner_steps, every=True)

    def fit(self, support_x: Any, support_y: Any, inner_steps: int | None = None) -> Adapter:
        """Adapt, and keep the predictor for `predict`."""
        self._fitted = self.adapt(support_x, support_y, inner_steps)
        return self

    def predict(self, query_x: Any) -> NDArray[Any]:
        """See `Predictor.predict`; after `fit`."""
        return self._kept().predict(query_x)

    def predict_proba(self, query_x: Any) -> NDArray[np.float32]:
        """See `Predictor.predict_proba`; after `fit`."""
        return self._kept().predict_proba(query_x)

    @property
    def classes_(self) -> NDArray[Any]:
        """The labels of the last `fit`, in the order of the probabilities."""
        return np.array(self._kept().classes)

    def self_test(self, num_tasks: int | None = None) -> float:
        """Largest difference between the answers of the bundle's self-test tasks and those given here; 0.0 means
        the same bits, anything else another machine, library or code."""
        worst = 0.0
        with np.load(self.bundle.folder / SELF_TEST, allow_pickle=False) as tasks:
            for index in range(len(tasks["support_x"]))[:num_tasks]:
                predictor = self.adapt(tasks["support_x"][index], tasks["support_y"][index])
                given = predictor.outputs(tasks["query_x"][index])
                worst = max(worst, float(np.abs(given - tasks["outputs"][index]).max()))
        return worst

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Numerics pinned in this thread, no gradient graph, one thread at a time."""
        with self._lock, torch.no_grad():
            numerics.pin(self.bundle.config.engine.threads)
            yield

    @property
    def takes_nothing(self) -> bool:
        """Whether it was trained to answer without a support set."""
        fewest = self.bundle.config.tasks.support
        return fewest is not None and fewest[0] == 0

    @property
    def independent_queries(self) -> bool:
        """Whether a query's answer does not depend on the other queries of the pass."""
        return keeps_statistics(self.bundle.config.algorithm.normalisation)

    def _predictors(self, x: Any, y: Any, inner_steps: int | None, *, every: bool) -> list[Predictor]:
        num_steps = checked_steps(self.inner_steps if inner_steps is None else inner_steps)
        raw = raw_inputs(x, self.bundle.input, "support_x", empty=self.takes_nothing)
        classes: tuple[Label, ...] = ()
        if self.bundle.target is None:
            classes, labels = class_labels(y, len(raw), self.bundle.spec.outputs)
            support_y = aligned(labels)
        else:
            support_y = aligned(self.columns.scaled(targets(y, len(raw), self.bundle.target)))
        with self.computing():
            support = Batch(self.columns.tensor(raw), support_y) if len(raw) else self.columns.nothing()
            steps = range(num_steps + 1) if every else (0, num_steps)
            if every:
                states = self.algorithm.path(self.meta, support, self.context, num_steps=num_steps)
            else:
                states = [self.algorithm.adapt(self.meta, support, self.context, num_steps=k) for k in (0, num_steps)]
            losses = [float(self.objective.loss(self.algorithm.predict(state, support.x), support)) for state in states]
        return [
            Predictor(self, state, classes, k, (losses[0], loss))
            for k, state, loss in zip(steps, states, losses, strict=True)
        ]

    def _kept(self) -> Predictor:
        if self._fitted is None:
            raise UsageError("the model has not been adapted yet: call fit(support_x, support_y) first")
        return self._fitted


def probabilities(outputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax of logits (M, ways)."""
    return torch.softmax(aligned(outputs), dim=-1).numpy()


def checked_steps(inner_steps: Any) -> int:
    whole = isinstance(inner_steps, int | np.integer) and not isinstance(inner_steps, bool)
    if not whole or not 0 <= inner_steps <= MAX_INNER_STEPS:
        raise UsageError(f"inner_steps is {inner_steps!r}; use a whole number from 0 to {MAX_INNER_STEPS}")
    return int(inner_steps)


def _read_weights(bundle: Bundle) -> MetaParams:
    loaded = load((bundle.folder / WEIGHTS).read_bytes())
    halves: dict[str, dict[str, Tensor]] = {"model": {}, "inner": {}}
    for name in bundle.facts["leaves"]:
        kind, _, short = name.partition(".")
        halves[kind][short] = aligned(loaded[name])  # safetensors' own memory is not aligned
    meta = MetaParams(halves["model"], halves["inner"])
    found, stated = params_sha256(meta), bundle.facts["params_sha256"]
    if found != stated:
        raise DataError(f"{bundle.folder / WEIGHTS} holds parameters {found[:12]}, its bundle names {stated[:12]}")
    return meta
