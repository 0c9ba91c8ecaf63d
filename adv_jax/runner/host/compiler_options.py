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
# Compiles random draws in half the time, and they take as long.
_ONCE_ON_CPUS = {"xla_backend_optimization_level": 1}


def compiler_options(platform: str, *, once: bool = False) -> dict[str, Any]:
    """Returns XLA's options for a platform: "cpu", "gpu", "cuda", ..., without the user's own.

    An option that XLA_FLAGS names keeps the user's value.

    once: for a program that runs once, such as `init`.
    """
    on_cpu = _ONCE_ON_CPUS if once and platform == "cpu" else {}
    options = _ON_GPUS if platform in ("gpu", "cuda") else on_cpu
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
