"""The transforms of a configuration in a row, with what they learned from the training split.

Legend: T tasks, N examples of one half of a task, R rows of the training split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metadist.config.presets import is_own
from metadist.config.transforms import (
    AugmentOptions,
    Log1pOptions,
    OneHotOptions,
    StandardizeOptions,
    TokenizeOptions,
    Transform,
)
from metadist.errors import ConfigError, DataError
from metadist.own.code import built, guarded
from metadist.transforms.images import augment_step, pixels_step
from metadist.transforms.numbers import log1p_step, one_hot_step, standardize_step
from metadist.transforms.pretrained import pretrained_step
from metadist.transforms.step import Array, Draws, State, Step, Values, is_text
from metadist.transforms.text import tokenize_step

KEY, TARGET_KEY = "tasks.transform", "tasks.target_transform"


def build_steps(transforms: Sequence[Transform], key: str = KEY) -> tuple[Step, ...]:
    """The step of each transform; ``key`` is the configuration's, for messages.

    Raises:
        ConfigError: one of the user's own cannot be built, or is no `Step`.
    """
    return tuple(_own(transform, key) if is_own(transform.name) else _shipped(transform) for transform in transforms)


def _shipped(transform: Transform) -> Step:
    options = transform.checked()
    if isinstance(options, StandardizeOptions):
        return standardize_step(over=options.over)
    if isinstance(options, Log1pOptions):
        return log1p_step()
    if isinstance(options, OneHotOptions):
        return one_hot_step(limit=options.limit)
    if isinstance(options, TokenizeOptions) and options.path is not None:
        return pretrained_step(path=options.path, length=options.length)
    if isinstance(options, TokenizeOptions):
        unit, length = options.unit, options.length
        return tokenize_step(unit=unit, length=length, vocabulary=options.vocabulary, lower=options.lower)
    if isinstance(options, AugmentOptions):
        return augment_step(flip=options.flip, shift=options.shift)
    return pixels_step()


def _own(transform: Transform, key: str) -> Step:
    found = built(transform.name, key, **transform.options)
    # By its fields: in a served model our own classes have another home than those that a user's code imports.
    if getattr(found, "_fields", ()) != Step._fields or not all(part is None or callable(part) for part in found):
        raise ConfigError(
            f"{key} {transform.name!r} returned {type(found).__name__}; it must return "
            "metadist.transforms.Step(apply, fit), functions of (values, state) and of (values)"
        )
    return Step(*found)


@dataclass(frozen=True, slots=True)
class Chain:
    """Transforms in a row.

    Attributes:
        names: Of the transforms.
        steps, states: What each does, and what it learned; a state is empty where nothing is fitted.
        key: The configuration's, for messages.
    """

    names: tuple[str, ...]
    steps: tuple[Step, ...]
    states: tuple[State, ...]
    key: str = KEY

    def __call__(self, values: Array, draws: Draws | None = None) -> Values:
        """Stored values (T, N, *stored shape) to inputs (T, N, *input shape): float32, or a dict of float32 and int64.

        Args:
            values: As a store holds them, or as a caller of the served model sends them.
            draws: A generator a task; in training only, for steps that augment.

        Raises:
            DataError: what remains is not numeric.
            ConfigError: a step of the user's own fails, or gives something else.
        """
        found: Values = _as_given(values)
        for name, step, state in zip(self.names, self.steps, self.states, strict=True):
            found = _applied(self.key, name, step, state, found, draws)
        if isinstance(found, dict):
            return {leaf: self._numbers(array) for leaf, array in found.items()}
        return self._numbers(found).astype(np.float32, copy=False)

    def first_not_finite(self, values: Array) -> str | None:
        """The name of the first step that makes something not finite of finite stored values (T, N, *stored shape)."""
        found: Values = _as_given(values)
        for name, step, state in zip(self.names, self.steps, self.states, strict=True):
            found = _applied(self.key, name, step, state, found, None)
            leaves = found.values() if isinstance(found, dict) else (found,)
            if any(leaf.dtype.kind == "f" and not np.isfinite(leaf).all() for leaf in leaves):
                return name
        return None

    @property
    def augments(self) -> bool:
        """Whether a step of it changes training tasks at random."""
        return any(step.augment is not None for step in self.steps)

    @property
    def vocabulary(self) -> int | None:
        """Number of different token ids of its values; None where they are none."""
        sizes = [step.vocabulary(state) for step, state in zip(self.steps, self.states, strict=True) if step.vocabulary]
        return sizes[-1] if sizes else None

    def input_shape(self, dtype: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one example after the steps; of several inputs the first one's."""
        empty = np.full((1, 1, *shape), "", object) if dtype == "string" else np.zeros((1, 1, *shape), np.float32)
        found = self(empty)
        first = next(iter(found.values())) if isinstance(found, dict) else found
        return first.shape[2:]

    def arrays(self) -> dict[str, Array]:
        """The states as named arrays, for a file."""
        return {f"{place}/{name}": array for place, state in enumerate(self.states) for name, array in state.items()}

    def _numbers(self, values: Array) -> Array:
        if values.dtype.kind not in "fiub":
            what = "text is" if is_text(values) else f"values of type {values.dtype} are"
            cure = "; tokenize makes token ids of it, one_hot a column for each category" if is_text(values) else ""
            raise DataError(f"{what} not numbers after {self.key} {list(self.names)}{cure}")
        return np.ascontiguousarray(values, np.float32 if values.dtype.kind == "f" else np.int64)


def digest_of(arrays: Mapping[str, Array]) -> str:
    """SHA-256 over names, types, shapes and values."""
    found = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def fit_chain(transforms: Sequence[Transform], load: Callable[[], Array], key: str = KEY) -> Chain:
    """The chain, fitted step by step; ``load`` gives the training split's values (R, *stored shape) and is called only
    where a step is fitted. ``key`` is the configuration's, for messages.

    Raises:
        DataError, ConfigError: a step cannot be fitted.
    """
    names, steps = tuple(transform.name for transform in transforms), build_steps(transforms, key)
    last = max((place for place, step in enumerate(steps) if step.fit is not None), default=-1)
    states: list[State] = []
    values: Values = _as_given(load()) if last >= 0 else np.zeros(0)
    for place, (name, step) in enumerate(zip(names, steps, strict=True)):
        if step.fit is not None and isinstance(values, dict):
            raise ConfigError(f"{key} {name!r} cannot be fitted on several inputs; put it before {names[place - 1]}")
        states.append(_fitted(key, name, step, values))  # type: ignore[arg-type]
        if place < last:
            rows = {leaf: array[None] for leaf, array in values.items()} if isinstance(values, dict) else values[None]
            found = _applied(key, name, step, states[-1], rows, None)
            values = {leaf: array[0] for leaf, array in found.items()} if isinstance(found, dict) else found[0]
    return Chain(names, steps, tuple(states), key)


def read_chain(transforms: Sequence[Transform], arrays: Mapping[str, Array], key: str = KEY) -> Chain:
    """The chain with states that were fitted elsewhere (`Chain.arrays`)."""
    states: list[dict[str, Array]] = [{} for _ in transforms]
    for path, array in arrays.items():
        place, _, name = path.partition("/")
        states[int(place)][name] = array
    return Chain(tuple(transform.name for transform in transforms), build_steps(transforms, key), tuple(states), key)


def _as_given(values: Array) -> Array:
    """Numbers as float32, so that a served model, which is sent float32, sees the same."""
    return values if is_text(values) or values.dtype.kind not in "fiub" else values.astype(np.float32, copy=False)


def _fitted(key: str, name: str, step: Step, values: Array) -> State:
    if step.fit is None:
        return {}
    fit = step.fit
    state = _told(key, name, "fit", lambda: fit(values))
    if not isinstance(state, Mapping) or any(
        not isinstance(array, np.ndarray) or array.dtype.hasobject for array in state.values()
    ):
        raise ConfigError(
            f"{key} {name!r}: fit must return a dict of numpy arrays of numbers or text, never of objects"
        )
    return state


def _applied(key: str, name: str, step: Step, state: State, values: Values, draws: Draws | None) -> Values:
    if isinstance(values, dict) and not is_own(name):
        raise ConfigError(f"{key} {name!r} takes one input; it cannot stand after one that gives several")
    before: Any = values
    if step.augment is not None and draws is not None:
        augment = step.augment
        before = _told(key, name, "augment", lambda: augment(before, draws))
    after = _told(key, name, "apply", lambda: step.apply(before, state))
    leaves = after if isinstance(after, dict) else {"values": after}
    wanted = (next(iter(values.values())) if isinstance(values, dict) else values).shape[:2]
    for leaf in leaves.values():
        if not isinstance(leaf, np.ndarray) or leaf.shape[:2] != wanted:
            raise ConfigError(
                f"{key} {name!r}: apply gives {getattr(leaf, 'shape', type(leaf).__name__)} for values of tasks and "
                f"examples {wanted}; it must keep these two axes"
            )
    found: Values = after
    return found


def _told(key: str, name: str, what: str, call: Callable[[], Any]) -> Any:
    """What ``call`` returns; its errors say under which key of the configuration it stands."""
    if is_own(name):
        return guarded(f"{key} {name!r}: {what} failed", call)
    try:
        return call()
    except DataError as error:
        raise DataError(f"{key}: {error}") from error
