"""Attacks climb any loss of any outputs: on linear models they reach the best corner."""

import itertools
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import exhaustive_after

from adv_jax import attacks, losses

RNG = np.random.default_rng(1)
X = RNG.uniform(0.3, 0.7, (2, 3))
W = RNG.normal(size=(3, 6))
EPS = 0.02
ATTACKS = {
    "fgsm": attacks.fgsm,
    "pgd": partial(attacks.pgd, num_steps=5),
    "apgd": partial(attacks.apgd, num_steps=5),
    "square": partial(attacks.square, num_queries=100, key=jax.random.key(0)),
}


class Case(NamedTuple):
    """outputs: of the linear model, from z = x @ W f[B, 6]; loss: of JAX.

    row_loss: the same of one row, in NumPy: (z f64[6], label) -> float.
    """

    outputs: Any
    loss: Any
    y: Any
    row_loss: Any


def softmax(z):
    return np.exp(z) / np.exp(z).sum()


TEACHER = np.stack([softmax(z) for z in RNG.normal(size=(2, 6))])
CASES = {
    "reconstruction": Case(  # Warde-Farley & Goodfellow 2016 ask for an autoencoder's.
        lambda z: {"code": z[:, :2], "image": z[:, 3:]},
        lambda out, y: ((out["image"] - y) ** 2).sum(axis=1),
        X.astype(np.float32),
        lambda z, y: sum((z[3 + i] - y[i]) ** 2 for i in range(3)),
    ),
    "regression": Case(
        lambda z: z[:, 0],
        lambda out, y: (out - y) ** 2,
        np.float32([1, -1]),
        lambda z, y: (z[0] - y) ** 2,
    ),
    "several labels": Case(
        lambda z: z,
        lambda out, y: (jax.nn.softplus(out) - jnp.where(y, out, 0)).sum(axis=1),
        np.array([[True, False, True, False, True, True], [False] * 5 + [True]]),
        lambda z, y: sum(-np.log(1 / (1 + np.exp(-z[k] if y[k] else z[k]))) for k in range(6)),
    ),
    "segmentation": Case(
        lambda z: (z.reshape(-1, 3, 2), {}),  # logits of three pixels and two classes
        lambda out, y: (
            -jnp.take_along_axis(jax.nn.log_softmax(out[0]), y[..., None], 2).sum((1, 2))
        ),
        np.array([[0, 1, 1], [1, 0, 0]]),
        lambda z, y: -sum(np.log(softmax(z[2 * p : 2 * p + 2])[y[p]]) for p in range(3)),
    ),
    "one logistic output": Case(
        lambda z: z[:, 1],
        lambda out, y: jax.nn.softplus(jnp.where(y == 1, -out, out)),
        np.array([1, 0]),
        lambda z, y: np.log(1 + np.exp(-z[1] if y else z[1])),
    ),
    "divergence from a fixed prediction": Case(  # TRADES
        lambda z: z,
        lambda out, y: (y["probs"] * (jnp.log(y["probs"]) - jax.nn.log_softmax(out))).sum(axis=1),
        {"probs": TEACHER.astype(np.float32)},
        lambda z, y: (y["probs"] * np.log(y["probs"] / softmax(z))).sum(),
    ),
}


def best_corner(case, x, label):
    """Returns the corner of highest loss. The losses are convex: there is no better point."""
    corners = [x + EPS * np.array(signs) for signs in itertools.product([-1, 1], repeat=3)]
    return max(corners, key=lambda corner: case.row_loss(corner @ W, label))


def model_of(case):
    return lambda x: case.outputs(x @ jnp.asarray(W, jnp.float32))


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("name", exhaustive_after(2, CASES))
def test_attacks_reach_the_point_of_highest_loss_in_the_ball(name, attack):
    case = CASES[name]
    labels = [jax.tree.map(lambda rows, i=i: rows[i], case.y) for i in range(2)]
    expected = [best_corner(case, *row) for row in zip(X, labels, strict=True)]
    x = jnp.asarray(X, jnp.float32)
    x_adv = ATTACKS[attack](model_of(case), x, case.y, eps=EPS, loss=case.loss)
    np.testing.assert_allclose(x_adv, expected, atol=1e-6)


def identity(x):
    return x


def away(outputs, y):
    return (outputs - y) ** 2


LINE = {  # Attacks on one number, with several starts.
    "pgd": partial(attacks.pgd, num_steps=5, restarts=6, key=jax.random.key(0)),
    "apgd": partial(attacks.apgd, num_steps=5, restarts=6, key=jax.random.key(0)),
    "square": ATTACKS["square"],
}


@pytest.mark.slow
@pytest.mark.parametrize("attack", LINE)
def test_a_point_that_fools_is_better_than_one_of_higher_loss(attack):
    # In [-.4, .6] the left end is farther from .15 than the right end.
    x, y = jnp.full(1, 0.1), jnp.full(1, 0.15)
    run = partial(LINE[attack], identity, x, y, eps=0.5, loss=away)
    np.testing.assert_allclose(run(), -0.4, atol=1e-6)
    assert float(run(fooled=lambda outputs, y: outputs > 0.5)[0]) > 0.5


@pytest.mark.parametrize("attack", ["fgsm", "raw_gradient", "pgd", "apgd"])
def test_a_targeted_attack_descends_the_loss(attack):
    x, y = jnp.asarray([0.1, 0.4]), jnp.asarray([0.3, 0.3])
    run = getattr(attacks, attack)
    size = {"tau": 0.1} if attack == "raw_gradient" else {"eps": 0.1}
    found = run(identity, x, y, **size, loss=away, targeted=True)
    expected = [0.14, 0.38] if attack == "raw_gradient" else [0.2, 0.3]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("attack", ["pgd", pytest.param("apgd", marks=pytest.mark.slow)])
@pytest.mark.parametrize("loss", ["name", losses.cross_entropy])
def test_the_rules_of_a_classifier_as_functions_give_the_attack_by_name(attack, loss):
    run = partial(ATTACKS[attack], lambda x: x @ jnp.asarray(W, jnp.float32), eps=0.3)
    x, y = jnp.asarray(X, jnp.float32), jnp.array([0, 3])
    functions = {"fooled": lambda logits, y: jnp.argmax(logits, axis=1) != y}
    if loss != "name":
        functions["loss"] = loss
    np.testing.assert_array_equal(run(x, y, **functions), run(x, y))


def test_pgd_climbs_the_binary_cross_entropy_of_logistic_outputs():
    case = CASES["several labels"]
    x, y = jnp.asarray(X, jnp.float32), jnp.asarray(case.y, jnp.float32)
    expected = [best_corner(case, *row) for row in zip(X, case.y, strict=True)]
    x_adv = attacks.pgd(
        model_of(case), x, y, eps=EPS, num_steps=5, loss="binary_cross_entropy", fooled=never
    )
    np.testing.assert_allclose(x_adv, expected, atol=1e-6)


def never(outputs, y):
    return jnp.zeros(len(y), bool)


@pytest.mark.slow
@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_fgsm_of_a_loss_is_differentiable_by_the_model_on_request(keep):
    def stepped(w):
        step = partial(attacks.fgsm, eps=0.1, norm="l2", loss=away, constant=False)
        return step(lambda x: keep * x @ w, jnp.ones((1, 2)), jnp.zeros(1)).sum()

    # The gradient is parallel to w, so x_adv = x + .1 w / |w|, with the derivative
    # .1 (1 - w (sum w) / |w|^2) / |w| of the sum.
    w = np.array([3.0, 4.0])
    expected = 0.1 * (1 - w * 7 / 25) / 5
    np.testing.assert_allclose(jax.grad(stepped)(jnp.asarray(w, jnp.float32)), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"loss": 3}, "loss must be one of .* or a function \\(outputs, y\\) -> f\\[B\\], got 3"),
        ({"fooled": "all"}, "fooled must be None or a function .*, got 'all'"),
        (
            {"loss": lambda out, y: out[:, None]},
            "loss must return f.B. with B = 2, got float32.2, 1",
        ),
        ({"loss": lambda out, y: out.sum()}, "loss must return f.B. with B = 2, got float32.."),
        ({"loss": lambda out, y: out > 0}, "loss must return f.B. with B = 2, got bool.2."),
        ({"loss": lambda out, y: (out, y)}, "loss must return f.B. with B = 2, got a tuple"),
        ({"fooled": away}, "fooled must return bool.B. with B = 2, got float32.2."),
        ({"loss": lambda out, y: float(out[0])}, "loss must be made of jax.numpy operations"),
    ],
)
@pytest.mark.parametrize("wrap", [identity, jax.jit])
def test_functions_of_another_kind_are_refused_in_one_line(options, said, wrap):
    x = jnp.asarray([0.1, 0.4])
    run = partial(attacks.pgd, identity, eps=0.1, num_steps=2, **{"loss": away} | options)
    with pytest.raises(ValueError, match=said) as caught:
        wrap(run)(x, x)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_labels_of_other_rows_are_refused_for_a_loss_of_ones_own():
    x = jnp.asarray([0.1, 0.4])
    with pytest.raises(
        ValueError, match=r"y must be a tree of arrays with B = 2 rows, got float32.3"
    ):
        attacks.pgd(identity, x, {"goal": jnp.ones(3)}, eps=0.1, loss=away)


def test_logits_that_look_like_probabilities_are_refused_with_a_goal_of_ones_own():
    with pytest.raises(ValueError, match="look like probabilities"):
        attacks.pgd(jax.nn.softmax, jnp.asarray(X, jnp.float32), None, eps=0.1, fooled=never)


def test_the_targeted_ratio_takes_no_goal_of_ones_own():
    run = partial(attacks.apgd, identity, jnp.ones((2, 4)), jnp.array([0, 1]), eps=0.1)
    with pytest.raises(ValueError, match="fooled must be None for the targeted dlr"):
        run(loss="dlr", targeted=True, fooled=never)
