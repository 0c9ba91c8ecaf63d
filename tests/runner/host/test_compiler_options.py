"""Options of XLA for GPUs: never over a user's flag, and without those that a version lacks."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from adv_jax.runner.host.compiler_options import compiled, compiler_options

TRITON, PASSES = "xla_gpu_enable_triton_gemm", "xla_disable_hlo_passes"


@pytest.mark.parametrize(
    ("platform", "flags", "expected"),
    [
        ("cpu", "", set()),
        ("tpu", "", set()),
        ("gpu", "", {TRITON, PASSES}),
        ("cuda", "--xla_gpu_autotune_level=0", {TRITON, PASSES}),
        ("gpu", f"--{TRITON}=true --xla_gpu_autotune_level=0", {PASSES}),
        ("gpu", f"--{PASSES}=fusion", {TRITON}),
    ],
)
def test_gpus_get_the_options_that_the_user_does_not_set(platform, flags, expected, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", flags)
    assert compiler_options(platform).keys() == expected


def test_a_program_that_runs_once_is_optimized_less_on_a_cpu_only(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    assert compiler_options("cpu", once=True) == {"xla_backend_optimization_level": 1}
    assert compiler_options("gpu", once=True) == compiler_options("gpu")


SAME_BITS = """
import flax.linen as nn, jax, numpy as np
from adv_jax.runner.host.compiler_options import compiled, compiler_options

made = (nn.initializers.lecun_normal(), nn.initializers.truncated_normal(), jax.random.uniform)
init = lambda key: [make(key, (5, 5, 33, 47)) for make in made]
lowered, key = jax.jit(init).lower(jax.random.key(3)), jax.random.key(3)
for least, whole in zip(*(
    compiled(lowered, compiler_options("cpu", once=once))(key) for once in (True, False)
)):
    np.testing.assert_array_equal(least, whole)
"""


@pytest.mark.slow
def test_initial_weights_have_the_same_bits_with_less_optimization():
    """In a process of its own, as this one has a level of optimization in XLA_FLAGS."""
    subprocess.run(
        [sys.executable, "-c", SAME_BITS], env=os.environ | {"XLA_FLAGS": ""}, check=True
    )


def test_an_option_that_xla_lacks_is_left_out():
    lowered = jax.jit(lambda x: 2 * x).lower(1.0)
    assert compiled(lowered, {"xla_of_another_time": True, TRITON: False})(3.0) == 6


def test_other_errors_of_compiling_are_raised():
    lowered = jax.jit(lambda x: jnp.sin(x)).lower(1.0)
    with pytest.raises(jax.errors.JaxRuntimeError, match=TRITON):
        compiled(lowered, {TRITON: "neither"})
