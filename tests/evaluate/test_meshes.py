"""evaluate, minimal_eps and transfer of rows that lie on a mesh of devices."""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from marks import exhaustive_after

from adv_jax import attacks, evaluate

P = PartitionSpec
KEY = jax.random.key(0)
ATTACKS = {
    "fgsm": attacks.fgsm,
    "pgd": partial(attacks.pgd, num_steps=3),
    "noise": attacks.gaussian_noise,
}
kinds = pytest.mark.parametrize("kind", exhaustive_after(1, [AxisType.Explicit, AxisType.Auto]))
specs = pytest.mark.parametrize("spec", exhaustive_after(1, [P(None, "model"), P()]), ids=str)


def mesh(kind):
    return jax.make_mesh((2, 2), ("data", "model"), axis_types=(kind, kind))


def numbers(problem, placement=None):
    """Returns what the three functions find for 10 rows, placed on a mesh if there is one."""
    w, b, x, y = problem(10)
    x, w = (
        (jnp.asarray(x), jnp.asarray(w)) if placement is None else jax.device_put((x, w), placement)
    )
    logits_fn = lambda x: jnp.tanh(x @ w) + b[None]
    options = {"batch_size": 3, "key": KEY}
    with warnings.catch_warnings(action="ignore", category=evaluate.AuditWarning):
        found = evaluate.evaluate(logits_fn, x, y, ATTACKS, eps=[0.0, 0.3], **options)
    models = {"net": logits_fn, "other": lambda x: x @ w}
    return (
        found._replace(audit=()),
        found.audit._replace(warnings=()),
        evaluate.minimal_eps(logits_fn, x, y, attacks.fgsm, high=2.0, num_steps=3, **options),
        evaluate.transfer(models, x, y, attacks.fgsm, eps=0.3, **options),
    )


def assert_equal(found, expected):
    """Compares numbers up to rounding, and settings and hashes, which are text, exactly."""
    if isinstance(expected, str):
        assert found == expected
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def on_all_devices(problem):
    return numbers(problem)


@pytest.mark.slow
@kinds
@specs
def test_an_evaluation_on_a_mesh_equals_one_on_all_devices(problem, on_all_devices, kind, spec):
    there = mesh(kind)
    with jax.set_mesh(there):
        placement = NamedSharding(there, P("data")), NamedSharding(there, spec)
        found = numbers(problem, placement=placement)
    jax.tree.map(assert_equal, found, on_all_devices)
