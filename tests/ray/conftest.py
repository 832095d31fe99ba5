"""One Ray for all tests of this folder. Four logical CPUs, two of them with a pretended GPU."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator

import pytest

# Explicit, and before Ray is imported: unset, it writes a token file into the home folder.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.pop("RAY_ADDRESS", None)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A running Ray; a ``RayGroup`` finds it and leaves it running."""
    import ray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own: sockets and processes that it leaves to the collector
        ray.init(
            address="local",
            num_cpus=4,
            num_gpus=2,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            object_store_memory=150 * 2**20,
            namespace="test",
        )
    yield
    ray.shutdown()
