"""XLA's options for the programs of the commands, and their compiling.

Only programs of a run are compiled with them; those of a user's own `jit` are left alone.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import jax

# A small step is many small kernels. Triton's products and normalizations double the time of
# compiling, and launch more kernels than cuBLAS and plain reductions.
_ON_GPUS = {
    "xla_gpu_enable_triton_gemm": False,
    "xla_disable_hlo_passes": "triton-softmax-rewriter",
}
# Halves the time to compile random draws; they run as fast.
_ONCE_ON_CPUS = {"xla_backend_optimization_level": 1}


def compiler_options(platform: str, *, once: bool = False) -> dict[str, Any]:
    """Returns XLA's options for a platform: "cpu", "gpu", "cuda", ..., without the user's own.

    An option that XLA_FLAGS names keeps the user's value.

    once: for a program that runs once, such as `init`.
    """
    options: dict[str, Any] = {}
    if platform in ("gpu", "cuda"):
        options = _ON_GPUS
    elif platform == "cpu" and once:
        options = _ONCE_ON_CPUS
    own = re.findall(r"--(\w+)", os.environ.get("XLA_FLAGS", ""))
    return {name: value for name, value in options.items() if name not in own}


def compiled(lowered: jax.stages.Lowered, options: Mapping[str, Any]) -> jax.stages.Compiled:
    """Compiles a program with those of the options that this version of XLA has."""
    try:
        return lowered.compile(compiler_options=dict(options))
    except jax.errors.JaxRuntimeError as error:
        unknown = re.search(r"No such compile option: '(\w+)'", str(error))
        if unknown is None or unknown[1] not in options:
            raise
    known = {name: value for name, value in options.items() if name != unknown[1]}
    return compiled(lowered, known)
