"""hop_skip_jump and boundary: closed forms, labels alone, and the number of queries."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax import attacks
from adv_jax.types import UserError

RNG = np.random.default_rng(0)
W = RNG.normal(size=(6, 2)).astype(np.float32)
X = jnp.float32(RNG.uniform(0.2, 0.8, (4, 6)))
Y = jnp.argmax(X @ W, axis=1)
KEY = jax.random.key(0)
SHORT = {"num_steps": 2, "initial_evals": 10}
ATTACKS = {
    "hop_skip_jump": partial(attacks.hop_skip_jump, **SHORT),
    "boundary": partial(attacks.boundary, num_steps=15),
}
every_attack = pytest.mark.parametrize("name", ATTACKS)


def linear(x):
    return x @ jnp.asarray(W)


def labels(x):
    """One-hot labels that JAX cannot differentiate."""
    like = jax.ShapeDtypeStruct((len(x), 2), jnp.float32)
    one_hot = lambda z: np.eye(2, dtype=np.float32)[np.argmax(z, axis=-1)]
    return jax.pure_callback(one_hot, like, linear(x), vmap_method="expand_dims")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "norm"),
    [
        (partial(attacks.hop_skip_jump, num_steps=20, initial_evals=60), "l2"),
        (partial(attacks.hop_skip_jump, norm="linf", num_steps=20, initial_evals=60), "linf"),
        (partial(attacks.boundary, num_steps=2500), "l2"),
    ],
)
def test_the_distance_to_a_plane_is_found(attack, norm):
    # |margin| / ||w||_*, with the dual norm of the difference of the weights.
    lead = np.abs(np.float64(X) @ (W[:, 0] - W[:, 1]))
    nearest = lead / np.linalg.norm(W[:, 0] - W[:, 1], {"l2": 2, "linf": 1}[norm])
    x_adv = attack(linear, X, Y, key=KEY)
    assert bool((jnp.argmax(linear(x_adv), axis=1) != Y).all())
    found = np.linalg.norm(np.float64(x_adv - X), {"l2": 2, "linf": np.inf}[norm], axis=1)
    assert np.all(found >= nearest * (1 - 1e-5)) and np.all(found <= nearest * 1.03)


@pytest.mark.slow
@every_attack
def test_nothing_but_the_predicted_class_is_used(name):
    run = partial(ATTACKS[name], x=X, y=Y, bounds=(0.0, 1.0), key=KEY)
    x_adv = run(linear)
    assert bool((x_adv != X).any(axis=1).all())
    np.testing.assert_array_equal(run(labels), x_adv)


def asked(name, bounds):
    """Returns the points that an attack of one program asks for, f32[N, 6], in any order."""
    seen = []

    def logged(x):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), x)
        return linear(x)

    run = jax.jit(lambda x: ATTACKS[name](logged, x, Y, bounds=bounds, key=KEY))
    jax.block_until_ready(run(X))
    jax.effects_barrier()
    return np.concatenate(seen)


@pytest.mark.slow
@every_attack
def test_queries_are_few_and_inside_the_bounds(name):
    points = asked(name, (0.0, 1.0))
    assert points.min() >= 0 and points.max() <= 1
    # Per row: the label, x, at most 200 to start, and 10 bisections of the start.
    most = {
        # 10 and 14 directions in blocks of 10; jumps and bisections.
        "hop_skip_jump": 10 + 20 + 2 * (20 + 10),
        "boundary": 15 + 2,
    }[name]
    assert len(points) <= 4 * (2 + 200 + 10 + most)


@pytest.mark.slow
@every_attack
def test_a_start_leads_to_a_target_and_a_useless_one_nowhere(name):
    target = 1 - Y
    # Far along the normal of the plane; the last row's start is its own point.
    side = jnp.where(target == 0, 1.0, -1.0)[:, None] * (W[:, 0] - W[:, 1])[None]
    start = (3 * side).at[-1].set(0)
    x_adv = ATTACKS[name](linear, X, target, targeted=True, start=start, key=KEY)
    reached = np.asarray(jnp.argmax(linear(x_adv), axis=1) == target)
    np.testing.assert_array_equal(reached, [True, True, True, False])
    np.testing.assert_array_equal(x_adv[-1], X[-1])
    length = jnp.linalg.norm(x_adv - X, axis=1)
    assert bool((length[:-1] < jnp.linalg.norm(start, axis=1)[:-1] / 2).all())


@pytest.mark.slow
@every_attack
def test_more_steps_find_shorter_perturbations(name):
    longer = {
        "hop_skip_jump": {"num_steps": 12, "initial_evals": 40},
        "boundary": {"num_steps": 400},
    }[name]
    few, many = (
        jnp.linalg.norm(ATTACKS[name](linear, X, Y, key=KEY, **given) - X, axis=1)
        for given in ({}, longer)
    )
    assert bool((many <= few * 1.001).all()) and float(many.mean()) < float(few.mean())


@every_attack
def test_infinite_bounds_are_refused(name):
    with pytest.raises(UserError, match=r"^bounds must be .*, got inf"):
        ATTACKS[name](linear, X, Y, bounds=(0.0, float("inf")), key=KEY)


def test_hop_skip_jump_refuses_other_norms_and_counts():
    for options, said in [
        ({"norm": "l1"}, r'norm must be "linf" .* or "l2" \(2\), got .l1'),
        ({"initial_evals": 0}, "initial_evals must be a whole number"),
        ({"max_evals": 0}, "max_evals must be a whole number"),
    ]:
        with pytest.raises(ValueError, match=said):
            attacks.hop_skip_jump(linear, X, Y, key=KEY, **options)
