"""A module as pure functions of named leaves."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy

from metadist.errors import ModelError
from metadist.models.dropout import dropouts
from metadist.models.normalisation import keeps_running_statistics, norms
from metadist.models.replace import advice, use_ours
from metadist.noise import fold_in
from metadist.parameters import Params, aligned, matching
from metadist.seeding import torch_seed

Inputs = Tensor | dict[str, Tensor]


class Forward(Protocol):
    def __call__(
        self, params: Params, x: Inputs, statistics: Params | None = None, noise: Tensor | None = None
    ) -> tuple[Tensor, Params]: ...


class Model(NamedTuple):
    """A network without state.

    Attributes:
        initial: seed -> meta-learned leaves.
        forward: (params, x, statistics, noise) -> (outputs, statistics). With ``statistics`` None the layers
            normalise by the batch and return its statistics; else they use the given ones. Empty where nothing
            normalises. With a ``noise`` key the dropout layers drop, by that key; without one they do not.
        frozen: Leaves and buffers that are never learned; they do not travel.
        names: Names of the meta-learned leaves, in order.
        norm_leaves: Those of them that are scale and shift of a batch normalisation.
        drops: Whether it has dropout layers.
        vocabulary: Number of different token ids where its inputs are such, else None. A module says so by an
            attribute of that name.
        maskable: Whether an example without weight is no example to it: no output depends on another example of the
            pass. A module says so by an attribute of that name.
        advice: What to do about a layer that is known to fail, for the messages of the start-up probe.
    """

    initial: Callable[[int], Params]
    forward: Forward
    frozen: Params
    names: tuple[str, ...]
    norm_leaves: tuple[str, ...] = ()
    drops: bool = False
    vocabulary: int | None = None
    advice: str = ""
    maskable: bool = False


def functional_model(
    make: Callable[[], nn.Module],
    *,
    seed: int,
    freeze: tuple[str, ...] = (),
    weights: Mapping[str, Tensor] | None = None,
) -> Model:
    """Turn ``make`` (which builds a fresh ``nn.Module``) into a `Model`.

    Meta-learned are the parameters that require a gradient and match no pattern of ``freeze``; the rest and all
    buffers are frozen, drawn from ``seed``. ``weights`` replaces initial values by name.

    Raises:
        ModelError: the module keeps running statistics or has layers that draw from torch's global generator, nothing
            is left to learn, or weights do not fit.
    """

    def fresh(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):  # the only way to seed a module's own initialisation
            torch.manual_seed(torch_seed(seed, "initial weights"))
            module = make()
        if not isinstance(module, nn.Module):
            raise ModelError(f"the model factory returned {type(module).__name__}, not a torch.nn.Module")
        _refuse_lazy(module)
        running = keeps_running_statistics(module)
        if running:
            raise ModelError(
                f"layer {running[0]!r} keeps running batch statistics, which leak from task to task; "
                "build it with track_running_stats=False, or use group or layer norm"
            )
        module = use_ours(module)
        if weights is not None:
            _load(module, weights)
        return module

    recording = fresh(seed)
    applying = copy.deepcopy(recording)
    for layer in norms(applying).values():
        layer.given = True
    learnable = [name for name, leaf in recording.named_parameters() if leaf.requires_grad]
    kept_out = set(matching(freeze, learnable))
    unused = [pattern for pattern in freeze if not matching((pattern,), dict(recording.named_parameters()))]
    if unused:
        raise ModelError(f"model.freeze {unused[0]!r} matches no leaf; the leaves are {', '.join(learnable)}")
    names = tuple(name for name in learnable if name not in kept_out)
    if not names:
        raise ModelError("every leaf of the model is frozen, so there is nothing to learn; loosen model.freeze")
    statistic_names = tuple(f"{name}.{part}" for name in norms(recording) for part in ("mean", "var"))
    fed = {*statistic_names, *(f"{name}.key" for name in dropouts(recording))}  # given with each call
    state = {**dict(recording.named_parameters()), **dict(recording.named_buffers())}
    frozen = {name: aligned(leaf.detach()) for name, leaf in state.items() if name not in names and name not in fed}

    placeholders = _placeholders(recording)

    def initial(seed: int) -> Params:
        parameters = dict(fresh(seed).named_parameters())
        return {name: aligned(parameters[name].detach()) for name in names}

    noisy = tuple(dropouts(recording))
    affine = {f"{name}.{part}" for name in norms(recording) for part in ("weight", "bias")}

    def forward(
        params: Params, x: Inputs, statistics: Params | None = None, noise: Tensor | None = None
    ) -> tuple[Tensor, Params]:
        module = recording if statistics is None else applying
        # functional_call writes what the forward assigns back into this dict: the batch's statistics.
        leaves = {**frozen, **params, **(placeholders if statistics is None else statistics)}
        if noise is not None:
            leaves.update({f"{name}.key": fold_in(noise, index + 1) for index, name in enumerate(noisy)})
        inputs = {"args": (), "kwargs": x} if isinstance(x, dict) else {"args": (x,), "kwargs": {}}
        outputs = functional_call(module, leaves, **inputs)
        return outputs, {name: leaves[name] for name in statistic_names}

    vocabulary = getattr(recording, "vocabulary", None)
    return Model(
        initial,
        forward,
        frozen,
        names,
        norm_leaves=tuple(name for name in names if name in affine),
        drops=bool(noisy),
        vocabulary=vocabulary if isinstance(vocabulary, int) else None,
        advice=advice(recording),
        maskable=_maskable(recording),
    )


def narrowed(model: Model, outputs: int) -> Model:
    """The same leaves, the first ``outputs`` columns of the answer: tasks with fewer ways share the head."""

    def forward(
        params: Params, x: Inputs, statistics: Params | None = None, noise: Tensor | None = None
    ) -> tuple[Tensor, Params]:
        found, seen = model.forward(params, x, statistics, noise)
        return found[..., :outputs], seen

    return model._replace(forward=forward)


def _refuse_lazy(module: nn.Module) -> None:
    for name, leaf in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(leaf):
            layer = name.rpartition(".")[0]
            raise ModelError(
                f"leaf {name!r} of {type(module.get_submodule(layer)).__name__} has no size before the model sees its "
                "first input; every worker must begin with the same leaves: build the layer with its number of inputs "
                "(spec.input_shape tells it) instead of a lazy one"
            )


def _maskable(module: nn.Module) -> bool:
    declared = bool(getattr(module, "maskable", False))
    if declared and norms(module):
        raise ModelError(
            f"the model says maskable, and its layer {next(iter(norms(module)))!r} normalises by all examples of a "
            "pass, padding included; use group or layer norm, or take the attribute away"
        )
    return declared


def _placeholders(module: nn.Module) -> Params:
    return {f"{name}.{part}": getattr(layer, part) for name, layer in norms(module).items() for part in ("mean", "var")}


def _load(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for name, value in weights.items():
        if name not in own:
            raise ModelError(f"model.weights has a leaf {name!r} that the model has not; it has {', '.join(own)}")
        if own[name].shape != value.shape:
            raise ModelError(
                f"model.weights: {name} has shape {tuple(value.shape)}, the model's is {tuple(own[name].shape)}"
            )
        with torch.no_grad():
            own[name].copy_(value)
