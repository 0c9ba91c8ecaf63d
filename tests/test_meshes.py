"""on_mesh: the types of arrays in its bodies and models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from adv_jax.meshes import on_mesh, vary_alike

P = PartitionSpec
X = jnp.arange(16.0).reshape(8, 2)


def four(kind):
    return jax.make_mesh((4,), ("data",), axis_types=(kind,))


def test_axes_are_automatic_in_the_body_and_explicit_in_the_model():
    seen = []

    def noted(where, x):
        seen.append((where, jax.typeof(x).sharding.spec))
        return x

    def body(fn, x):
        return fn(noted("body", x)) + fn(x[:3])[jnp.arange(8) % 3]

    explicit = four(AxisType.Explicit)
    x = jax.device_put(X, NamedSharding(explicit, P("data")))
    with jax.set_mesh(explicit):
        found = jax.jit(lambda x: on_mesh(body, lambda x: noted("model", 2 * x), x))(x)
    # 3 rows cannot be divided among 4 devices: they are replicated.
    assert seen == [
        ("body", P(None, None)),
        ("model", P("data", None)),
        ("model", P(None, None)),
    ]
    np.testing.assert_array_equal(found, 2 * X + 2 * X[np.arange(8) % 3])


@pytest.mark.slow
def test_the_gradient_passes_from_the_model_to_the_weights_that_it_closes_over():
    explicit = four(AxisType.Explicit)
    x = jax.device_put(X, NamedSharding(explicit, P("data")))
    w = jax.device_put(jnp.array([2.0, 3.0]), NamedSharding(explicit, P()))

    def loss(w):
        body = lambda fn, x: jax.grad(lambda x: (fn(x) ** 3).sum())(x)
        return on_mesh(body, lambda x: x @ w, x).sum()

    with jax.set_mesh(explicit):
        found = jax.jit(jax.grad(loss))(w)
    # The sum of d/dx (x @ w)^3 = 3 (x @ w)^2 w over rows and entries.
    expected = jax.grad(lambda w: (3 * ((X @ w) ** 2)[:, None] * w[None]).sum())(
        jnp.array([2.0, 3.0])
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("varies", ["x", "y", "model"])
def test_x_and_the_arrays_vary_over_every_axis_of_one_of_them_or_of_the_model(varies):
    def run(x, y, w):
        def body(fn, x, y):
            assert {a.manual_axis_type.varying for a in map(jax.typeof, (x, y))} == {
                frozenset({"data"})
            }
            return fn(x) + y.ravel()[0]

        return on_mesh(body, lambda x: x * w.ravel()[0], x, y)[None]

    specs = [P("data") if name == varies else P() for name in ("x", "y", "model")]
    mapped = jax.shard_map(
        run, mesh=four(AxisType.Auto), in_specs=tuple(specs), out_specs=P("data")
    )
    found = jax.jit(mapped)(X, X, X)
    assert found.shape[0] == 4


def test_arrays_outside_shard_map_stay_as_they_are():
    x = jnp.ones(3)
    tree = {"x": x, "number": 0.5}
    assert vary_alike(tree)["x"] is x and vary_alike(tree)["number"] == 0.5
