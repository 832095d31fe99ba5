"""What travels to a worker once: the configuration and where things are. The worker builds the rest itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save

from metadist import numerics
from metadist.algorithms import MetaAlgorithm, adapted_leaves
from metadist.config import RunConfig, import_paths
from metadist.config.fingerprint import CODE, code_of
from metadist.config.presets import OWN
from metadist.durable import write_atomically
from metadist.errors import ConfigError, DataError
from metadist.models import Model
from metadist.models.probe import probe
from metadist.objectives import Objective
from metadist.own.code import search_in
from metadist.own.parcel import packed, unpacked
from metadist.parameters import Layout, layout_of, tree_digest
from metadist.parts import algorithm_for, build_parts, takes_features, widest
from metadist.returned import check_initial
from metadist.shard import make_engine, make_shard_function
from metadist.sources import build_shapes, build_source, fitted_of, targets_of
from metadist.tasks import TaskSource
from metadist.transforms.step import Array


@dataclass(frozen=True, slots=True)
class Assembly:
    """The parts of a run in one process, all built from the configuration.

    Attributes:
        training: Source and algorithm of each shape of training tasks; those above where there is one shape only.
    """

    config: RunConfig
    source: TaskSource
    model: Model
    objective: Objective
    algorithm: MetaAlgorithm
    layout: Layout
    training: tuple[tuple[TaskSource, MetaAlgorithm], ...]


def assemble(config: RunConfig, source: TaskSource, training: Sequence[TaskSource] = ()) -> Assembly:
    """Build model, objective and algorithm for the tasks of ``source``, and algorithms for the shapes of training.

    Raises:
        ModelError, ConfigError: the parts do not fit together.
    """
    model, objective, algorithm = build_parts(config, source.spec, targets_of(source))
    initial = algorithm.init(config.seed)
    if config.algorithm.family == OWN:
        check_initial(initial, config.algorithm.name)
    shapes = tuple(
        (part, algorithm if part.spec == source.spec else algorithm_for(config, model, objective, part.spec))
        for part in training or (source,)
    )
    layout = layout_of(initial)
    for part, own in shapes:
        if own is not algorithm:
            _check_shape(part, own, layout, config.seed)
    return Assembly(config, source, model, objective, algorithm, layout, shapes)


def _check_shape(part: TaskSource, algorithm: MetaAlgorithm, layout: Layout, seed: int) -> None:
    """All shapes of training tasks learn the same leaves."""
    other = layout_of(algorithm.init(seed)).difference(layout)
    if other:
        raise ConfigError(
            f"tasks.shapes: tasks of {part.spec.outputs} ways learn other leaves than those that are judged: "
            f"{'; '.join(other)}; use algorithm.learned_rates: leaf or leaf-step, or the same ways everywhere"
        )


def assemble_at(config: RunConfig, location: str | None, fitted: Mapping[str, Array] | None = None) -> Assembly:
    """`assemble` for the configured tasks, which lie at ``location``; ``fitted``: what their transforms learned."""
    source = build_source(config, location, fitted)
    return assemble(config, source, build_shapes(config, source, location))


def check_model(parts: Assembly) -> None:
    """Run the start-up probe where the algorithm differentiates twice through the model."""
    config = parts.config
    width = None if takes_features(config.algorithm) else widest(config, parts.source.spec).outputs
    settings = config.algorithm
    twice = settings.family == "imaml" or (settings.family in ("maml", "protomaml") and not settings.first_order)
    probe(
        parts.model,
        parts.model.initial(config.seed),
        parts.source.spec,
        outputs=width,
        second_order=twice and settings.inner_steps > 0,
        vmapped=config.engine.tasks_axis == "vmap",
    )


def leaf_lists(parts: Assembly) -> dict[str, list[str]]:
    """The three kinds of weights: frozen, meta-learned, and those of the latter that the inner loop moves (which an
    algorithm of one's own does not tell)."""
    settings = parts.config.algorithm
    lists = {"frozen": sorted(parts.model.frozen), "meta_learned": list(parts.layout.names)}
    if settings.family != OWN:
        lists["adapted"] = [f"model.{name}" for name in adapted_leaves(settings, parts.model)]
    return lists


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFactory:
    """Builds the work function in a worker; picklable.

    Attributes:
        config: The resolved configuration.
        location: The store's folder or URI, already looked up; None where tasks are generated.
        device: ``"cpu"`` or ``"cuda"``.
        frozen_file: File of the frozen leaves, or None where there are none.
        frozen_sha256: Digest that these leaves must have.
        code: The driver's source files of the user's own parts, with their SHA-256.
        fitted: What the driver's transforms learned from the training split.
        parcel: These source files themselves, and what else travels with them, by name; see `metadist.own.parcel`.
    """

    config: RunConfig
    location: str | None
    device: str = "cpu"
    frozen_file: str | None = None
    frozen_sha256: str = ""
    code: Mapping[str, str] = field(default_factory=dict)
    fitted: Mapping[str, Array] | None = None
    parcel: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def __call__(self) -> Callable[..., Any]:
        numerics.pin(self.config.engine.threads)
        if self.parcel:  # before the driver's own folders, in which somebody may have gone on working
            search_in([str(unpacked(self.parcel))], before=self.config.code_path)
        other = numerics.difference(self.code, code_of(self.config))
        if other:
            files = ", ".join(name.removeprefix(CODE) for name in other)
            raise ConfigError(
                f"source files of your own are not the driver's here: {files}; every worker must see the same source "
                "(what is installed on a node is found before what the driver sends: install the same version)"
            )
        # Meta-learned values come with every step; only the frozen ones are read from disk.
        settings = self.config.model.model_copy(update={"weights": self.frozen_file})
        config = self.config.model_copy(update={"model": settings})
        parts = assemble_at(config, self.location, self.fitted)
        found = tree_digest(parts.model.frozen)
        if found != self.frozen_sha256:
            raise DataError(
                f"frozen leaves of {self.frozen_file or config.model.factory} have digest {found[:12]}, the driver's "
                f"are {self.frozen_sha256[:12]}; every worker must see the driver's file"
            )
        judge = (parts.source, make_engine(parts.algorithm, parts.objective, config))
        training = [(source, make_engine(algorithm, parts.objective, config)) for source, algorithm in parts.training]
        return make_shard_function(judge, training, parts.layout, config, self.device)


def publish_frozen(parts: Assembly, run_dir: Path) -> str | None:
    """Write the frozen leaves where workers find them; None where there are none."""
    if not parts.model.frozen:
        return None
    path = run_dir / "frozen.safetensors"
    data = save({name: leaf.contiguous() for name, leaf in parts.model.frozen.items()})
    if not path.exists() or path.read_bytes() != data:
        write_atomically(path, data)
    return str(path.absolute())


def factory_of(parts: Assembly, location: str | None, device: str, run_dir: Path) -> ShardFactory:
    """The factory that gives workers the same parts as ``parts``."""
    return ShardFactory(
        config=parts.config,
        location=location,
        device=device,
        frozen_file=publish_frozen(parts, run_dir),
        frozen_sha256=tree_digest(parts.model.frozen),
        code=code_of(parts.config),
        fitted=fitted_of(parts.source),
        parcel=parcel_of(parts.config),
    )


def parcel_of(config: RunConfig) -> dict[str, bytes]:
    """The user's own code for workers in other processes; nothing where the driver itself computes.

    Raises:
        ConfigError: it is too large.
    """
    return {} if config.cluster.backend == "local" else packed(import_paths(config), config.working_dir)
