"""What the promise of equal bits rests on: pinned threads and kernels, aligned copies, one numerics record."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from collections.abc import Mapping, MutableMapping
from typing import Any

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
MALLOC_TRIM_THRESHOLD, MALLOC_MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt


def environment(threads: int = 1) -> dict[str, str]:
    """Environment variables that must be set *before* torch is imported in a computing process.

    ``MKL_CBWR`` asks MKL for one code path whatever the alignment of its inputs (measured free on AVX2).
    """
    return {
        **dict.fromkeys(THREAD_VARIABLES, str(threads)),
        "MKL_CBWR": "AVX2" if platform.machine() in ("x86_64", "AMD64") else "AUTO",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }


def prepare_environment(target: MutableMapping[str, str] | None = None, threads: int = 1) -> None:
    """Set `environment` where the user has not chosen a value. Has an effect only before torch is imported."""
    target = os.environ if target is None else target
    for name, value in environment(threads).items():
        target.setdefault(name, value)


def pin(threads: int = 1) -> None:
    """Pin the numerics of the calling thread. Call it in the thread that computes.

    ``set_num_threads`` is per thread (MKL keeps two threads in any thread that did not call it), so driver,
    actor, replay, evaluation and the served model each call this where they compute.
    """
    import torch

    torch.set_num_threads(threads)
    torch._C._set_deterministic_algorithms(True, warn_only=False)  # the public call imports the compiler, too
    torch._C._set_deterministic_fill_uninitialized_memory(False)  # nothing reads it; it costs 4 % of a shard
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_math_sdp(True)
    keep_freed_memory()


@functools.cache
def keep_freed_memory() -> None:
    """Let glibc keep freed blocks of up to 32 MiB for the next shard, instead of returning them to the kernel.

    Every intermediate result of a shard would otherwise be mapped and zeroed anew, page by page: a tenth of its
    time, more when several workers share a machine. Resident memory stays at its peak. Elsewhere nothing happens.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(MALLOC_MMAP_THRESHOLD, 1 << 25)  # the largest value that glibc takes
        libc.mallopt(MALLOC_TRIM_THRESHOLD, 1 << 30)


def pin_compiler() -> None:
    """Make the compiler fail rather than fall back: a silent fall-back to eager changes the bits."""
    import torch._dynamo.config as dynamo
    import torch._inductor.config as inductor

    dynamo.assume_static_by_default = True
    dynamo.automatic_dynamic_shapes = False
    dynamo.fail_on_recompile_limit_hit = True
    inductor.deterministic = True


def record(device: str = "cpu", threads: int = 1) -> dict[str, Any]:
    """The numerics record: everything outside the configuration that the bits depend on."""
    import torch

    return {
        "torch_version": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name() if device == "cuda" and torch.cuda.is_available() else device,
        "threads": threads,
        "mkl_cbwr": os.environ.get("MKL_CBWR", ""),
    }


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    """Where two flat mappings differ, by name; empty when they agree.

    >>> difference({"threads": 1, "device": "cpu"}, {"threads": 2, "device": "cpu"})
    {'threads': '1 -> 2'}
    """
    names = sorted(set(old) | set(new))
    return {name: f"{old.get(name)!r} -> {new.get(name)!r}" for name in names if old.get(name) != new.get(name)}
