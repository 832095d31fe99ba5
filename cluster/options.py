"""The settings of a ``RayGroup``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.errors import ContractViolation


@dataclass(frozen=True, slots=True, kw_only=True)
class RayOptions:
    """How a ``RayGroup`` places and guards its workers. None of it changes a result.

    Attributes:
        address: ``host:port`` of a Ray head, ``"auto"``, or ``"local"``. None: RAY_ADDRESS, else a Ray of
            its own on this machine. Not used when this process has joined a Ray already.
        num_workers: how many actors the group waits for at its start.
        max_workers: how many it takes on when the cluster has room for more, also later, as nodes join. None:
            ``num_workers``.
        cpus_per_worker, gpus_per_worker: what Ray reserves for each; fractions are allowed.
        max_attempts: place failures that one item may be charged with.
        capacity_timeout_s: how long to wait, later on, while fewer than ``min_workers`` are ready, seconds.
        allow_mixed_numerics: take on workers whose canary gives other bits.
        max_restarts: workers re-created within ``restart_window_s``. None: four for each worker, at least 8.
        restart_window_s: length of that window, seconds.
        warmup_timeout_s: time from a worker's creation to its being ready, seconds.
        deadline_factor: an item is late after this multiple of the median of its kind: another worker tries
            it, too; a worker that is late a second time without an answer between is replaced.
        deadline_min_s: no item is late sooner, seconds.
        min_workers: how many must be ready when the warm-up time is over, and be left when the restart
            budget is used up. None: all of them at first, one later.
        env_vars: environment of the worker processes, set before they import anything.
        object_store_memory: bytes, for a Ray of its own. None: Ray's own choice.
    """

    address: str | None = None
    num_workers: int = 2
    max_workers: int | None = None
    cpus_per_worker: float = 1
    gpus_per_worker: float = 0
    max_attempts: int = 3
    max_restarts: int | None = None
    restart_window_s: float = 600.0
    warmup_timeout_s: float = 300.0
    deadline_factor: float = 10.0
    deadline_min_s: float = 30.0
    min_workers: int | None = None
    capacity_timeout_s: float = 300.0
    allow_mixed_numerics: bool = False
    env_vars: Mapping[str, str] = field(default_factory=dict)
    object_store_memory: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("num_workers", 1), ("max_attempts", 1)):
            if getattr(self, name) < least:
                raise ContractViolation(f"{name} must be at least {least}; got {getattr(self, name)}")
        for name in ("cpus_per_worker", "gpus_per_worker"):
            if getattr(self, name) < 0:
                raise ContractViolation(f"{name} must not be negative; got {getattr(self, name)}")
        for name in ("restart_window_s", "warmup_timeout_s", "capacity_timeout_s", "deadline_factor", "deadline_min_s"):
            if getattr(self, name) <= 0:
                raise ContractViolation(f"{name} must be positive; got {getattr(self, name)}")
        if self.max_restarts is not None and self.max_restarts < 0:
            raise ContractViolation(f"max_restarts must not be negative; got {self.max_restarts}")
        if self.max_workers is not None and self.max_workers < self.num_workers:
            raise ContractViolation(
                f"max_workers must be at least num_workers ({self.num_workers}); got {self.max_workers}"
            )
        if self.min_workers is not None and not 1 <= self.min_workers <= self.num_workers:
            raise ContractViolation(
                f"min_workers must lie in 1..num_workers ({self.num_workers}); got {self.min_workers}"
            )

    @property
    def restart_budget(self) -> int:
        """``max_restarts``, resolved."""
        return max(8, 4 * self.slots) if self.max_restarts is None else self.max_restarts

    @property
    def slots(self) -> int:
        """``max_workers``, resolved."""
        return self.max_workers or self.num_workers

    def describe(self) -> str:
        """What is asked of Ray, for messages: ``4 workers x 1 CPU``."""
        gpus = f" + {self.gpus_per_worker:g} GPU" if self.gpus_per_worker else ""
        return f"{self.num_workers} workers x {self.cpus_per_worker:g} CPU{gpus}"
