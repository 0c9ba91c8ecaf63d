"""certify: its arrays, batches and side inputs, on a linear model and under attack."""

import jax
import jax.numpy as jnp
import nets
import numpy as np
import pytest

from adv_jax import attacks, evaluate

EPS = [0.0, 0.1, 0.4]


def exact_margins(w, b, x, y, eps):
    """logit_y - logit_j minus eps times the l1 norm of their difference of weights: f[E, N, K]."""
    logits = np.float64(x) @ w + b
    rows = np.arange(len(y))
    at_x = logits[rows, y][:, None] - logits
    length = np.abs(w[:, y].T[:, :, None] - w[None]).sum(1)
    found = at_x[None] - np.reshape(eps, (-1, 1, 1)) * length[None]
    found[:, rows, y] = np.inf
    return found


def test_a_linear_model_is_certified_exactly_in_batches_of_any_size(problem):
    w, b, x, y = problem(11)
    seen = []
    found = evaluate.certify(
        lambda x: x @ w + b[None],
        x,
        y,
        EPS,
        batch_size=2,  # On four devices, two batches, the last of which is padded.
        progress=lambda batches, name: seen.append((len(batches), name)) or batches,
    )
    expected = exact_margins(w, b, x, y, EPS)
    np.testing.assert_allclose(found.margins, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found.certified, (expected > 0).all(-1))
    np.testing.assert_allclose(found.accuracy, (expected > 0).all(-1).mean(-1))
    assert found.eps.tolist() == EPS and 0 < found.accuracy[1] < found.accuracy[0] < 1
    assert seen == [(2, "eps 0"), (2, "eps 0.1"), (2, "eps 0.4")]


def test_each_row_is_certified_with_its_own_side_inputs(problem):
    w, b, x, y = problem(5)
    shift = np.float32(np.random.default_rng(1).normal(size=(5, 4)))
    found = evaluate.certify(
        lambda x, aux: x @ w + b[None] + aux["shift"], x, y, EPS, aux={"shift": shift}
    )
    for i in range(5):
        expected = exact_margins(w, b + shift[i], x[i : i + 1], y[i : i + 1], EPS)
        np.testing.assert_allclose(found.margins[:, i : i + 1], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.exhaustive
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_attack_fools_a_certified_row_of_a_trained_net(norm):
    x, y = (array[:30] for array in nets.digits())
    sizes = {"linf": (0.01, 0.05), "l2": (0.1, 0.5)}[norm]
    options = {"norm": norm, "bounds": nets.BOUNDS}
    for name in ("plain", "pgd"):
        logits_fn = nets.trained(name).logits_fn
        found = evaluate.certify(logits_fn, x, y, sizes, **options)
        for eps, certified in zip(sizes, found.certified, strict=True):
            x_adv = attacks.auto_attack(logits_fn, x, y, eps=eps, key=jax.random.key(0), **options)
            right = np.asarray(logits_fn(x_adv).argmax(1) == y)
            assert right[certified].all()
        # The smallest radius is nearly that of the attack.
        assert found.accuracy[0] > 0.8


def test_bfloat16_inputs_are_certified_in_float32(problem):
    w, b, x, y = problem(3)
    x = jnp.asarray(x).astype(jnp.bfloat16)
    found = evaluate.certify(lambda x: x @ w + b[None], x, y, [0.1], method="ibp")
    expected = exact_margins(w, b, np.float64(x), y, [0.1])
    assert found.margins.dtype == np.float32
    np.testing.assert_allclose(found.margins, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["ibp", "crown_ibp", "crown"])
def test_no_misclassified_row_is_certified_where_logits_share_a_huge_offset(problem, method):
    w, _, x, y = problem(60)

    def logits_fn(x):
        return x @ w + np.float32(1e8)  # In float32 the logits are multiples of 8.

    right = np.argmax(np.float32(x @ w + np.float32(1e8)), axis=1) == y
    found = evaluate.certify(logits_fn, x, y, EPS, method=method)
    margins = exact_margins(w, 0.0, x, y, EPS)
    assert ((margins > 1e-3).all(-1) & ~right).any()  # In exact numbers they would be certified.
    assert not found.certified[:, ~right].any()
    assert found.certified.any() and (found.accuracy <= right.mean()).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": 0.1}, "eps must be a sequence of numbers such as [0, 0.1], got 0.1"),
        ({"eps": []}, "eps must be one or more numbers of at least 0, got ()"),
        ({"eps": ["a"]}, "eps must be a sequence of numbers such as [0, 0.1], got ['a']"),
        ({"eps": [0.1, -1.0]}, "eps must be a finite number of at least 0, got -1.0"),
        ({"eps": [np.nan]}, "eps must be a finite number of at least 0, got nan"),
        ({"eps": [8.0], "bounds": (0, 1)}, "eps must be at most 1, the linf width of the bounds"),
        ({"method": "lp"}, "method must be one of ibp, crown_ibp, crown, got 'lp'"),
        (
            {"norm": "l0"},
            'norm must be "linf" ("inf", jnp.inf), "l2" (2), "l1" (1) or "rms", got \'l0\'',
        ),
        ({"norm": "l3"}, 'norm must be "linf" ("inf", jnp.inf), "l2" (2)'),
        ({"x": np.full((2, 6), 2.0, np.float32), "bounds": (0, 1)}, "x must be within the bounds"),
        ({"y": np.array([0, 7])}, "y must be classes from 0 to 3, got 7"),
        ({"y": np.array([0.5, 1])}, "y must be classes i32[N] with N = 2"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"logits_fn": jax.nn.softmax}, "logits_fn must return logits, the values before the"),
        (
            {"logits_fn": lambda x: jnp.sin(x) * x},
            "logits_fn must be made of affine maps, convolutions, pooling and monotone activations "
            "in float32 to have bounds, got the primitive sin",
        ),
    ],
)
def test_certify_refuses_bad_arguments(problem, change, message):
    w, *_ = problem(2)
    arguments = {"logits_fn": lambda x: x @ w, "x": np.ones((2, 6), np.float32) / 2}
    arguments |= {"y": np.array([0, 1]), "eps": [0.1], **change}
    with pytest.raises(ValueError) as error:
        evaluate.certify(**arguments)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
