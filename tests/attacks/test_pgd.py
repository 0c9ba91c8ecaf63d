"""pgd on linear models, curved losses and an undefended net."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets import BOUNDS, accuracy, digits, trained

from adv_jax import attacks

W = np.array([[2.0, -1.0], [0.5, 1.0], [-3.0, 0.0]], np.float32)  # logits = x @ W
X = np.array([[0.9, 0.5, 0.05], [0.2, 0.3, 0.6]], np.float32)
Y = jnp.array([0, 1])


def linear(x):
    return x @ jnp.asarray(W)


@pytest.mark.slow
def test_pgd_reaches_the_corner_of_ball_and_box_on_a_linear_model():
    # Label 0: up along W[:, 1] - W[:, 0] = (-3, .5, 3); label 1: the opposite.
    direction = np.sign([[-3.0, 0.5, 3.0], [3.0, -0.5, -3.0]])
    expected = np.clip(X + 0.1 * direction, 0, 1)
    x_adv = attacks.pgd(linear, X, Y, eps=0.1, num_steps=5, bounds=(0, 1))
    np.testing.assert_allclose(x_adv, expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["l2", "rms", "l1"])
def test_pgd_reaches_the_best_point_of_the_ball_on_a_linear_model(norm):
    gradient = np.array([[-3.0, 0.5, 3.0], [3.0, -0.5, -3.0]]) / np.sqrt(18.25)
    radius = 0.1 * {"l2": 1, "rms": np.sqrt(3)}.get(norm, 0)
    # Under l1 both steepest entries are equally good, and their sum counts.
    gain = 0.3 if norm == "l1" else radius * np.sqrt(18.25)
    x_adv = attacks.pgd(linear, X, Y, eps=0.1, num_steps=20, norm=norm)
    margins = np.diff(np.asarray(linear(x_adv)) - np.asarray(linear(X)))[:, 0] * [1, -1]
    np.testing.assert_allclose(margins, gain, rtol=1e-4)
    if norm != "l1":
        np.testing.assert_allclose(x_adv, X + radius * gradient, atol=1e-5)


@pytest.mark.slow
def test_targeted_pgd_descends_the_loss_of_the_target():
    x_adv = attacks.pgd(linear, X, 1 - Y, eps=0.1, num_steps=5, targeted=True)
    np.testing.assert_allclose(x_adv, attacks.pgd(linear, X, Y, eps=0.1, num_steps=5), atol=1e-6)


def hill(x):
    """Two logits; the loss of label 0 has one stationary point nearby, the maximum at x = .3."""
    return jnp.stack([(x - 0.3) ** 2, 0.05 * jnp.ones_like(x)], axis=1)


@pytest.mark.slow
def test_pgd_returns_the_best_point_of_the_path_not_the_last():
    # Steps of .25 from 0: .25, then over the peak at .3 to .5, back to .25, over again, ...
    x = jnp.zeros(1)
    for num_steps in (1, 2, 3, 4):
        x_adv = attacks.pgd(hill, x, jnp.array([0]), eps=1.0, step_size=0.25, num_steps=num_steps)
        np.testing.assert_allclose(x_adv, 0.25, atol=1e-6)


def valley(x):
    """Label 0 loses to class 1 beyond x = .5, to the classes 2 and 3 beyond -.45."""
    left = -8 * (x + 0.45)
    return jnp.stack([x * 0, 4 * (x - 0.5), left, left], axis=1)


@pytest.mark.slow
def test_pgd_prefers_a_point_that_fools_to_one_of_higher_loss():
    # In [-.44, .51] only the right end fools, with a loss of log(1 + e^.04) = .71; at the left
    # end three classes are level, log(1 + 2 e^-.08 + e^-3.76) = 1.05.
    key, x = jax.random.key(0), jnp.full((1,), 0.035)
    x_adv = attacks.pgd(valley, x, jnp.array([0]), eps=0.475, num_steps=30, restarts=8, key=key)
    assert int(jnp.argmax(valley(x_adv), axis=1)[0]) == 1


@pytest.mark.slow
def test_restarts_of_pgd_are_never_worse_than_the_first_run():
    x, y = digits()
    x, y, net = x[:64], y[:64], trained("plain").logits_fn
    key = jax.random.key(5)
    one, many = (
        jax.jit(
            lambda restarts=restarts: attacks.pgd(
                net, x, y, eps=0.05, num_steps=3, restarts=restarts, bounds=BOUNDS, key=key
            )
        )()
        for restarts in (1, 6)
    )
    assert accuracy(net, many, y) <= accuracy(net, one, y)
    assert bool((many != one).any())


def test_pgd_without_a_random_start_ignores_the_key():
    key = jax.random.key(1)
    at_x = attacks.pgd(linear, X, Y, eps=0.1, num_steps=2, key=key, random_start=False)
    np.testing.assert_array_equal(at_x, attacks.pgd(linear, X, Y, eps=0.1, num_steps=2))


@pytest.mark.slow
def test_pgd_fools_a_plainly_trained_net_on_every_digit_at_eps_0_3():
    x, y = digits()
    net = trained("plain").logits_fn
    assert accuracy(net, x, y) > 0.9
    x_adv = jax.jit(lambda: attacks.pgd(net, x, y, eps=0.3, bounds=BOUNDS))()
    assert accuracy(net, x_adv, y) < 0.005


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 0}, "num_steps must be a whole number of at least 1, got 0"),
        ({"restarts": 0}, "restarts must be a whole number of at least 1, got 0"),
        ({"restarts": 2}, "restarts must be 1 without key and random start, got 2"),
        ({"random_start": True}, "key must be a key of jax.random for random_start=True, got None"),
        ({"step_size": -1.0}, "step_size must be a finite number of at least 0, got -1.0"),
    ],
)
def test_pgd_refuses_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        attacks.pgd(linear, X, Y, eps=0.1, **options)


def one_step(x, gradient, *, eps, step):
    """A step of linf PGD in NumPy, back into the ball around X and [0, 1]."""
    return np.clip(np.clip(x + step * np.sign(gradient), X - eps, X + eps), 0, 1)


@pytest.mark.slow
def test_the_last_point_of_pgd_is_that_of_a_loop_by_hand():
    # Away from .45, until a bound or the ball stops a number.
    loss = lambda z, y: ((z - y) ** 2).sum(axis=1)
    expected = X
    for steps in (1, 2, 3, 4):
        expected = one_step(expected, 2 * (expected - 0.45), eps=0.2, step=0.15)
        last = attacks.pgd(
            lambda x: x,
            X,
            jnp.full(X.shape, 0.45),
            eps=0.2,
            step_size=0.15,
            num_steps=steps,
            loss=loss,
            bounds=(0, 1),
            returns="last",
        )
        np.testing.assert_allclose(last, expected, atol=1e-6)


@pytest.mark.slow
def test_the_last_point_may_lie_beyond_the_best_one():
    x = jnp.zeros(1)
    path = [
        attacks.pgd(
            hill, x, jnp.array([0]), eps=1.0, step_size=0.25, num_steps=steps, returns="last"
        )
        for steps in (1, 2, 3)
    ]
    np.testing.assert_allclose(np.ravel(path), [0.25, 0.5, 0.25], atol=1e-6)


@pytest.mark.parametrize(("returns", "evaluations"), [("best", 5), ("last", 3)])
def test_the_last_point_of_pgd_costs_one_evaluation_per_step(returns, evaluations):
    seen = []

    def counting(x):
        jax.debug.callback(lambda: seen.append(1), ordered=True)
        return linear(x)

    attack = partial(attacks.pgd, counting, eps=0.1, num_steps=3, returns=returns)
    jax.jit(attack)(X, Y).block_until_ready()
    jax.effects_barrier()
    assert len(seen) == evaluations


@pytest.mark.parametrize("attack", [attacks.pgd, attacks.apgd])
def test_a_warm_start_is_projected_onto_the_ball_and_the_bounds(attack):
    # The loss is flat: no step leaves the start, and no point is better than x but by its goal.
    run = partial(
        attack,
        lambda x: x,
        jnp.asarray(X),
        jnp.asarray(X),
        eps=0.2,
        num_steps=2,
        bounds=(0, 1),
        loss=lambda z, x: 0 * z.sum(axis=1),
        fooled=lambda z, x: (z != x).any(axis=1),
    )
    start = np.array([[0.3, -0.1, -0.3], [0.05, 0.0, 0.9]], np.float32)
    expected = np.clip(X + np.clip(start, -0.2, 0.2), 0, 1)
    for key in (None, jax.random.key(0)):
        np.testing.assert_allclose(run(start=start, key=key), expected, atol=1e-6)


@pytest.mark.slow
def test_steps_from_warm_starts_are_the_iterates_of_one_run():
    # So a history of the loss, or of anything else, needs no attack of its own.
    run = partial(attacks.pgd, valley, eps=0.4, step_size=0.05, returns="last")
    x, y = jnp.full((1,), 0.035), jnp.array([0])
    point = x
    for steps in (1, 2, 3):
        point = run(x, y, num_steps=1, start=point - x)
        np.testing.assert_allclose(point, run(x, y, num_steps=steps), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"returns": "all"}, "returns must be one of best, last, got 'all'"),
        (
            {"returns": "last", "restarts": 2, "key": 1},
            'restarts must be 1 for returns="last", got 2',
        ),
        ({"start": X, "random_start": True, "key": 1}, "start must be None for random_start=True"),
        ({"start": X, "restarts": 2, "key": 1}, "restarts must be 1 without key and random start"),
        ({"start": X[:1]}, r"start must have the shape of x, float32\[2, 3\], got float32\[1, 3\]"),
        ({"start": X * np.nan}, "start must be finite numbers, got nan"),
    ],
)
def test_pgd_refuses_starts_and_results_that_contradict(options, said):
    if "key" in options:
        options = options | {"key": jax.random.key(options["key"])}
    with pytest.raises(ValueError, match=said):
        attacks.pgd(linear, X, Y, eps=0.1, **options)


def test_apgd_refuses_restarts_from_one_start():
    with pytest.raises(ValueError, match="restarts must be 1 with a start, got 2"):
        attacks.apgd(linear, X, Y, eps=0.1, restarts=2, start=X, key=jax.random.key(0))


@pytest.mark.slow
@pytest.mark.parametrize("attack", [attacks.pgd, attacks.apgd])
def test_early_stop_fools_the_same_rows_with_fewer_evaluations(attack):
    calls = []

    def counted(x):
        jax.debug.callback(lambda: calls.append(1))
        return linear(x)

    def evaluations(early_stop):
        calls.clear()
        x_adv = attack(counted, X, Y, eps=0.5, num_steps=30, early_stop=early_stop)
        np.testing.assert_array_equal(jnp.argmax(linear(x_adv), axis=1), 1 - Y)
        jax.effects_barrier()
        return len(calls)

    assert evaluations(True) < evaluations(False) / 2


@pytest.mark.slow
@pytest.mark.parametrize("attack", [attacks.pgd, attacks.apgd])
def test_early_stop_treats_rows_as_if_they_were_alone(attack):
    x, y, eps = jnp.asarray(X)[jnp.array([0, 0, 1])], jnp.array([0, 1, 1]), jnp.array([0.5, 1, 0.1])
    attack = partial(attack, linear, num_steps=9, early_stop=True)
    together = attack(x, y, eps=eps)
    for i in range(3):
        row = slice(i, i + 1)
        alone = attack(x[row], y[row], eps=eps[row])
        np.testing.assert_allclose(alone, together[row], atol=1e-6)


@pytest.mark.slow
def test_early_stop_keeps_the_first_point_that_fools():
    given = {"eps": 0.5, "step_size": 0.05}
    stopped = attacks.pgd(linear, X, Y, num_steps=20, early_stop=True, **given)
    for i in range(len(X)):
        x, y = X[i : i + 1], Y[i : i + 1]
        for steps in range(1, 20):
            first = attacks.pgd(linear, x, y, num_steps=steps, **given)
            if jnp.argmax(linear(first), axis=1)[0] != y[0]:
                break
        np.testing.assert_allclose(stopped[i], first[0], atol=1e-6)
