"""The independent algorithms: plain autograd loops over the nets of `tests.support.oracle`.

They follow the papers' formulas, not our code: nothing here uses ``torch.func`` or anything of metadist. A rule says
where a direction is known from:

- ``through the loop``: d(query loss after the last step)/d(phi) by autograd through every inner step;
- ``taps``: the same for the weighted sum of the query losses after each step;
- ``path``: (start - adapted) / inner rate;
- ``implicit``: conjugate gradients on the Hessian of the proximal inner loss;
- ``prototypes``, ``ridge``: a closed form of the support features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import grad

from tests.support.oracle import Net, Weights, loss

Half = tuple[Tensor, Tensor]
MASK = 2**64 - 1
HEAD = ("prototypes.weight", "prototypes.bias")


@dataclass(frozen=True)
class Problem:
    """One task and how it is solved.

    Attributes:
        rule: See above.
        settings: The resolved ``algorithm`` section as plain values.
        net: Its formula.
        ways: Number of classes, or width of the targets.
        key: The task's noise key.
        progress: Share of the run.
    """

    rule: str
    settings: Mapping[str, Any]
    net: Net
    ways: int
    key: int
    progress: float

    @property
    def inductive(self) -> bool:
        return str(self.settings["normalisation"]).endswith("inductive")

    @property
    def steps(self) -> int:
        return int(self.settings["inner_steps"])


def direction(problem: Problem, leaves: Weights, support: Half, query: Half) -> Weights:
    """The direction of one task by full leaf name, for parameters ``leaves`` named ``model.*`` and ``inner.*``."""
    phi = {name: leaf.clone().requires_grad_() for name, leaf in leaves.items()}
    if problem.rule in ("prototypes", "ridge"):
        return _slopes(_closed_form(problem, phi, support, query), phi)
    states = _inner_loop(problem, phi, support)
    if problem.rule == "path":
        lr = problem.settings["inner_lr"]
        gone = {f"model.{name}": (phi[f"model.{name}"] - leaf) / lr for name, leaf in states[-1].items()}
        return {name: gone.get(name, torch.zeros_like(leaf)).detach() for name, leaf in phi.items()}
    if problem.rule == "implicit":
        return _implicit(problem, phi, states[-1], support, query)
    if problem.rule == "taps":
        share = max(0.0, 1 - problem.progress / problem.settings["multi_step"]) / problem.steps
        value = (1 - (problem.steps - 1) * share) * _query_loss(problem, phi, states[-1], support, query, problem.steps)
        for k in range(1, problem.steps):
            value = value + share * _query_loss(problem, phi, states[k], support, query, k)
        return _slopes(value, phi)
    return _slopes(_query_loss(problem, phi, states[-1], support, query, problem.steps), phi)


def _slopes(value: Tensor, phi: Weights) -> Weights:
    found = grad(value, list(phi.values()), allow_unused=True)
    return {
        name: torch.zeros_like(leaf) if slope is None else slope
        for (name, leaf), slope in zip(phi.items(), found, strict=True)
    }


def _weights(phi: Weights, moved: Weights, k: int) -> Weights:
    """The net's leaves in inner step k."""
    weights = {name.removeprefix("model."): leaf for name, leaf in phi.items() if name.startswith("model.")}
    for name, table in phi.items():
        if name.startswith("inner.affine."):
            weights[name.removeprefix("inner.affine.")] = table[min(k, len(table) - 1)]
    return {**weights, **moved}


def _outputs(problem: Problem, weights: Weights, x: Tensor, statistics: Any) -> tuple[Tensor, Any]:
    body = {name: leaf for name, leaf in weights.items() if name not in HEAD}
    features, found = problem.net(body, x, statistics)
    return (F.linear(features, weights[HEAD[0]], weights[HEAD[1]]) if HEAD[0] in weights else features), found


def _query_loss(problem: Problem, phi: Weights, moved: Weights, support: Half, query: Half, k: int) -> Tensor:
    weights = _weights(phi, moved, k)
    statistics = _outputs(problem, weights, support[0], None)[1] if problem.inductive else None
    return loss(_outputs(problem, weights, query[0], statistics or None)[0], query[1])


def _start(problem: Problem, phi: Weights, support: Half) -> Weights:
    def moves(name: str) -> bool:
        patterns = problem.settings["adapt"]
        into = [pattern for pattern in patterns if pattern[0] != "!"] or ["*"]
        out = [pattern[1:] for pattern in patterns if pattern[0] == "!"]
        return any(fnmatchcase(name, p) for p in into) and not any(fnmatchcase(name, p) for p in out)

    names = [name.removeprefix("model.") for name in phi if name.startswith("model.")]
    moved = {name: phi[f"model.{name}"] for name in names if moves(name)}
    if problem.settings["name"] == "protomaml":
        features = problem.net(_weights(phi, {}, 0), support[0], None)[0]
        centres = torch.stack([features[support[1] == way].mean(0) for way in range(problem.ways)])
        moved.update({HEAD[0]: 2 * centres, HEAD[1]: -(centres**2).sum(1)})
    return moved


def _inner_loop(problem: Problem, phi: Weights, support: Half) -> list[Weights]:
    """Adapted leaves after 0..K steps."""
    settings = problem.settings
    curved = not settings["first_order"] and problem.rule in ("through the loop", "taps")
    states, memory = [_start(problem, phi, support)], {}
    for k in range(problem.steps):
        x, y = _examples(problem, support, k)
        # Copies: the slope is partial, with respect to the state alone, though a start may depend on other leaves.
        moved = {name: leaf.clone() if curved else leaf.detach().requires_grad_() for name, leaf in states[-1].items()}
        value = loss(_outputs(problem, _weights(phi, moved, k), x, None)[0], y)
        if problem.rule == "implicit":
            start = _start(problem, phi, support)
            value = value + settings["proximal"] / 2 * sum(((moved[n] - start[n]) ** 2).sum() for n in moved)
        found = grad(value, list(moved.values()), create_graph=curved)
        slope = dict(zip(moved, found, strict=True))
        states.append(_updated(settings, phi, states[-1], slope, memory, k))
    return states


def _updated(
    settings: Mapping[str, Any], phi: Weights, moved: Weights, slope: Weights, memory: dict[str, Any], k: int
) -> Weights:
    how = settings["inner_optimizer"]
    if how["clip_norm"] is not None:
        length = torch.cat([leaf.reshape(-1) for leaf in slope.values()]).norm()
        if length > how["clip_norm"]:
            slope = {name: leaf * (how["clip_norm"] / length) for name, leaf in slope.items()}
    new = {}
    for name, leaf in moved.items():
        g = slope[name] + how["weight_decay"] * leaf
        if how["name"] == "adam":
            b, c = how["betas"]
            m, v = memory.get(name, (0.0, 0.0))
            m, v = b * m + (1 - b) * g, c * v + (1 - c) * g**2
            memory[name] = (m, v)
            g = (m / (1 - b ** (k + 1))) / ((v / (1 - c ** (k + 1)) + 1e-16) ** 0.5 + how["eps"])
        elif how["momentum"]:
            memory[name] = how["momentum"] * memory.get(name, 0.0) + g
            g = g + how["momentum"] * memory[name] if how["nesterov"] else memory[name]
        new[name] = leaf - _rate(settings, phi, name, k) * g
    return new


def _rate(settings: Mapping[str, Any], phi: Weights, name: str, k: int) -> Any:
    kind = settings["learned_rates"]
    if kind == "none":
        return settings["inner_lr"]
    rate = phi[f"inner.rate.{name}"]
    return rate[min(k, len(rate) - 1)] if kind == "leaf-step" else rate


def _implicit(problem: Problem, phi: Weights, moved: Weights, support: Half, query: Half) -> Weights:
    names, at = list(moved), {name: leaf.detach().requires_grad_() for name, leaf in moved.items()}
    value = _query_loss(problem, phi, at, support, query, problem.steps)
    everything = {**phi, **at}
    direct = grad(value, list(everything.values()), allow_unused=True, retain_graph=True)
    slopes = {n: torch.zeros_like(everything[n]) if g is None else g for n, g in zip(everything, direct, strict=True)}
    wish = torch.cat([slopes[name].reshape(-1) for name in names])

    inner = loss(_outputs(problem, _weights(phi, at, problem.steps), support[0], None)[0], support[1])
    flat = torch.cat([g.reshape(-1) for g in grad(inner, [at[name] for name in names], create_graph=True)])
    strength, decay = problem.settings["proximal"], problem.settings["inner_optimizer"]["weight_decay"]

    def curvature(v: Tensor) -> Tensor:
        image = grad(flat @ v, [at[name] for name in names], retain_graph=True, allow_unused=True)
        parts = [torch.zeros_like(at[n]) if g is None else g for n, g in zip(names, image, strict=True)]
        return torch.cat([part.reshape(-1) for part in parts]) + (strength + decay) * v

    x, r = torch.zeros_like(wish), wish
    p = r
    for _ in range(problem.settings["cg_steps"]):
        image = curvature(p)
        step = (r @ r) / (p @ image)
        x, new = x + step * p, r - step * image
        p, r = new + (new @ new) / (r @ r) * p, new
    cross = grad(flat @ x, list(phi.values()), allow_unused=True)
    result = {}
    for (name, leaf), mixed in zip(phi.items(), cross, strict=True):
        result[name] = slopes[name] - (torch.zeros_like(leaf) if mixed is None else mixed)
    start = 0
    for name in names:
        stop = start + moved[name].numel()
        result[f"model.{name}"] = result[f"model.{name}"] + strength * x[start:stop].reshape(moved[name].shape)
        start = stop
    return result


def _closed_form(problem: Problem, phi: Weights, support: Half, query: Half) -> Tensor:
    weights = _weights(phi, {}, 0)
    features, statistics = problem.net(weights, support[0], None)
    queries = problem.net(weights, query[0], (statistics or None) if problem.inductive else None)[0]
    if problem.rule == "ridge":
        labels = support[1].dtype == torch.int64
        wanted = torch.eye(problem.ways, dtype=features.dtype)[support[1]] if labels else support[1]
        gram = features.T @ features + phi["inner.log_ridge"].exp() * torch.eye(features.shape[1], dtype=features.dtype)
        prior = phi.get("inner.prior", torch.zeros(features.shape[1], wanted.shape[1], dtype=features.dtype))
        ridge = gram - features.T @ features
        found = phi["inner.scale"] * queries @ torch.linalg.inv(gram) @ (features.T @ wanted + ridge @ prior)
        return loss(found if labels else found + phi["inner.shift"], query[1])
    centres = [features[support[1] == way].mean(0) for way in range(problem.ways)]
    if problem.settings["distance"] == "cosine":
        near = [
            problem.settings["temperature"] * F.cosine_similarity(queries, centre[None], dim=1) for centre in centres
        ]
    else:
        near = [-((queries - centre) ** 2).sum(1) for centre in centres]
    return loss(torch.stack(near, dim=1), query[1])


def _examples(problem: Problem, support: Half, k: int) -> Half:
    """The mini-batch of step k: a slice of the support set in an order that SplitMix64 makes of the task's key."""
    size, count = problem.settings["inner_batch_size"], len(support[1])
    if size is None or size >= count:
        return support
    turns = count // size
    word = _mix(_mix((problem.key + GOLDEN) & MASK) ^ _mix(((k // turns) * GOLDEN + 0xBF58476D1CE4E5B9) & MASK))
    base = _mix((word + GOLDEN) & MASK)
    draws = [_mix((base + place * GOLDEN) & MASK) >> 40 for place in range(count)]
    order = sorted(range(count), key=lambda place: draws[place])
    chosen = order[(k % turns) * size : (k % turns + 1) * size]
    return support[0][chosen], support[1][chosen]


GOLDEN = 0x9E3779B97F4A7C15


def _mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)
