"""What an algorithm's name stands for: its family, the switches it sets, and the settings it reads.

A name sets defaults; a switch that the configuration names itself wins, unless it contradicts the name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from metadist.config.wording import did_you_mean

OWN = "own"  # the family of every algorithm of a user's own
COMMON = frozenset({"name", "inner_steps", "inner_lr", "normalisation"})
INNER = frozenset({"inner_optimizer", "inner_batch_size", "adapt"})
MODES = frozenset({"gradient", "hessian"})
SWITCHES = frozenset({"learned_rates", "first_order", "second_order_from", "multi_step"})

# Settings that a family reads; another one that is set is a mistake.
READS: dict[str, frozenset[str]] = {
    "maml": COMMON | INNER | MODES | SWITCHES,
    "reptile": COMMON | INNER,
    "imaml": COMMON | INNER | {"proximal", "cg_steps", "hessian"},
    "protonet": COMMON | {"distance", "temperature"},
    "protomaml": COMMON | INNER | MODES | SWITCHES,
    "r2d2": COMMON | {"ridge", "prior_head"},
}

# One of the user's own may read all of them.
READS[OWN] = frozenset({"options", "features"}).union(*READS.values())

# name -> (family, defaults)
PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "maml": ("maml", {}),
    "fomaml": ("maml", {"first_order": True}),
    "anil": ("maml", {"adapt": ("head.*",)}),
    "boil": ("maml", {"adapt": ("!head.*",)}),
    "meta-sgd": ("maml", {"learned_rates": "element"}),
    "maml++": (
        "maml",
        {"learned_rates": "leaf-step", "normalisation": "per-step", "multi_step": 0.1, "inner_steps": 5},
    ),
    "cavia": ("maml", {"adapt": ("context",)}),
    "reptile": ("reptile", {"inner_steps": 5}),
    "imaml": ("imaml", {"inner_steps": 10}),
    "protonet": ("protonet", {}),
    "protomaml": ("protomaml", {}),
    "r2d2": ("r2d2", {}),
}

# Switches without which a name would say what it is not.
ESSENTIAL: dict[str, tuple[str, ...]] = {"fomaml": ("first_order",), "meta-sgd": ("learned_rates",)}

CLASSIFIERS = frozenset({"protonet", "protomaml"})  # families whose heads are made of classes
EMBEDDING = frozenset({"protonet", "protomaml", "r2d2"})  # families that take the model's features
ONE_PASS = frozenset({"protonet", "r2d2"})  # families without inner steps


OBJECTIVES = ("classification", "regression")


def is_own(name: str | None) -> bool:
    """Whether a name is an import path, ``"package.module:function"``, instead of a shipped one."""
    return name is not None and ":" in name


def larger_is_better(metric: str) -> bool:
    """Where ``evaluation.maximise`` does not say it."""
    return metric == "accuracy"


def family_of(name: str) -> str:
    """The family of a shipped name; ``own`` for an import path."""
    return OWN if is_own(name) else PRESETS[name][0]


# What a name sets in other sections.
OUTER: dict[str, dict[str, Any]] = {"maml++": {"schedule": {"name": "cosine", "final": 0.01}}}


def check_algorithm(
    name: str, settings: Mapping[str, Any], named: Collection[str], defaults: Mapping[str, Any]
) -> None:
    """Refuse an unknown name, a setting that the algorithm does not read, and one that contradicts its name.

    Args:
        name: Of the algorithm.
        settings: Every setting of the section.
        named: Those that the configuration names itself.
        defaults: Of the section; a setting that has its default is never a mistake.

    Raises:
        ValueError: says which, and what to do.
    """
    if is_own(name):
        return
    if name not in PRESETS:
        raise ValueError(
            f"algorithm.name {name!r} is not known{did_you_mean(name, PRESETS)} "
            f"(known: {', '.join(PRESETS)}, or 'package.module:function')"
        )
    family, switches = PRESETS[name]
    for key in ESSENTIAL.get(name, ()):
        if key in named and settings[key] != switches[key]:
            raise ValueError(
                f"algorithm {name} has {key}: {switches[key]}, not {settings[key]}; use name: {family} for another"
            )
    for key in sorted(set(named) - READS[family]):
        unread_mode = key == "gradient" and settings[key] == "unroll"  # what `auto` becomes without a choice
        if settings[key] != defaults[key] and not unread_mode:
            readers = ", ".join(sorted(other for other, reads in READS.items() if key in reads and other != OWN))
            readers = readers or "an algorithm of your own only"
            raise ValueError(f"algorithm.{key} is not read by {name}; it is read by {readers}")


def resolved_switches(name: str, settings: Mapping[str, Any], named: Collection[str]) -> dict[str, Any]:
    """The defaults of ``name`` that the configuration does not name itself, and the gradient's mode."""
    if is_own(name):
        return {"gradient": "unroll"} if settings["gradient"] == "auto" else {}
    found = {key: value for key, value in PRESETS[name][1].items() if key not in named}
    if settings["gradient"] == "auto":
        steps = found.get("inner_steps", settings["inner_steps"])
        found["gradient"] = "adjoint" if "gradient" in READS[family_of(name)] and steps > 2 else "unroll"
    return found


def check_shipped(key: str, name: str, known: Collection[str], options: Mapping[str, Any]) -> None:
    """Refuse a name that is not shipped, and options for one that is.

    Raises:
        ValueError: says which names there are.
    """
    if name not in known:
        hint = did_you_mean(name, known)
        raise ValueError(f"{key} {name!r} is not known{hint} (known: {', '.join(known)}, or 'package.module:function')")
    if options:
        raise ValueError(f"{key.split('.')[0]}.options are read by a part of your own only, not by {name}")


def check_kind(objective: str, algorithm: str, kind: str) -> None:
    """Refuse a shipped objective or algorithm that does not fit tasks of this kind.

    Raises:
        ValueError: says which.
    """
    if objective == "regression" and kind == "classes":
        raise ValueError("objective regression does not fit tasks.kind classes; use kind groups or parameters")
    if objective == "classification" and kind != "classes":
        raise ValueError(f"objective classification does not fit tasks.kind {kind}")
    if kind != "classes" and family_of(algorithm) in CLASSIFIERS:
        fits = "objective regression" if objective == "regression" else f"tasks.kind {kind}"
        raise ValueError(f"algorithm {algorithm} classifies; it does not fit {fits}")
