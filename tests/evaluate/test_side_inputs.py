"""aux: each row keeps its own side inputs, as if they were part of x."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax import attacks, evaluate
from adv_jax.evaluate.crafting import at_size
from adv_jax.types import UserError

SUITE = {"fgsm": attacks.fgsm, "pgd": partial(attacks.pgd, num_steps=2, norm="l2")}
EPS = [0.0, 0.2, 0.5]


@pytest.fixture(scope="module")
def masked():
    """Returns x f32[29, 6], y, aux and a model that sees x only through aux."""
    rng = np.random.default_rng(0)
    w = jnp.asarray(rng.normal(size=(6, 4)), jnp.float32)
    x = rng.normal(size=(29, 6)).astype(np.float32)
    aux = {
        "mask": rng.integers(0, 2, (29, 6)).astype(np.float32),
        "shift": rng.normal(size=(29, 4)).astype(np.float32),
    }

    def logits_fn(x, aux):
        return (x * aux["mask"]) @ w + aux["shift"]

    y = np.array(jnp.argmax(logits_fn(x, aux), axis=1), np.int32)
    y[:5] = (y[:5] + 1) % 4
    return x, y, aux, logits_fn


def of_row(logits_fn, aux, i):
    """Returns the model of one row, whose side inputs are constants."""
    own = jax.tree.map(lambda leaf: leaf[i : i + 1], aux)
    return lambda x: logits_fn(x, jax.tree.map(lambda leaf: jnp.repeat(leaf, len(x), 0), own))


def rows_correct(x, y, aux, logits_fn, name, eps):
    """Returns which rows are correct under an attack of each row alone: bool[N]."""
    found = []
    for i in range(len(x)):
        model = of_row(logits_fn, aux, i)
        x_adv = SUITE[name](model, x[i : i + 1], y[i : i + 1], eps=eps)
        found.append(int(jnp.argmax(model(x_adv))) == y[i])
    return np.array(found)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [3, 500])
def test_evaluate_attacks_each_row_with_its_side_inputs(masked, batch_size):
    x, y, aux, logits_fn = masked
    eps = dict.fromkeys(SUITE, EPS)
    found = evaluate.evaluate(logits_fn, x, y, SUITE, eps=eps, aux=aux, batch_size=batch_size)
    for name in SUITE:
        expected = rows_correct(x, y, aux, logits_fn, name, 0.2)
        np.testing.assert_array_equal(found.correct[name][1], expected)
    assert 0 < found.worst_case[1] < found.worst_case[0] == 24 / 29
    # The probes keep rows and side inputs together too.
    assert (found.audit.batch, found.audit.misleading, found.audit.warnings) == (0, 0, ())


@pytest.mark.slow
def test_streams_minimal_sizes_and_transfer_take_side_inputs(masked):
    x, y, aux, logits_fn = masked
    batches = [
        (x[i : i + 7], y[i : i + 7], {k: v[i : i + 7] for k, v in aux.items()}) for i in (0, 7)
    ]
    found = evaluate.evaluate_batches(logits_fn, batches, SUITE, eps=[0.2], batch_size=3)
    first = rows_correct(x, y, aux, logits_fn, "fgsm", 0.2)
    np.testing.assert_array_equal(found.correct["fgsm"][0], first[:14])
    least = evaluate.minimal_eps(
        logits_fn, x, y, attacks.fgsm, high=0.2, aux=aux, num_steps=1, batch_size=4
    )
    np.testing.assert_array_equal(np.isinf(least), first)
    plain = lambda x, aux: logits_fn(x, aux | {"mask": jnp.ones_like(aux["mask"])})
    crossed = evaluate.transfer(
        {"masked": logits_fn, "plain": plain}, x, y, attacks.fgsm, eps=0.2, aux=aux
    )
    assert crossed[0, 0] == pytest.approx(first.mean()) and crossed[0, 1] != crossed[0, 0]


@pytest.mark.slow
def test_auto_attack_takes_side_inputs_along_when_it_splits_a_batch(masked):
    x, y, aux, logits_fn = masked
    attack = partial(attacks.auto_attack, num_steps=3, num_targets=2, num_queries=10, block_size=4)
    run = partial(evaluate.evaluate, logits_fn, x, y, eps=[0.2], aux=aux, key=jax.random.key(0))
    whole = run({"whole": partial(attack, block_size=29)}).correct["whole"]
    split = run({"split": attack}).correct["split"]
    np.testing.assert_array_equal(split, whole)
    assert not whole.all()


@pytest.mark.slow
def test_an_attack_with_the_keyword_aux_is_given_it(masked):
    x, y, aux, logits_fn = masked

    def halves(logits_fn, x, y, *, eps, aux, key=None):
        """Attacks the rows in two blocks of other sizes."""

        def block(rows):
            own = jax.tree.map(lambda leaf: leaf[rows], aux)
            return attacks.fgsm(lambda x: logits_fn(x, own), x[rows], y[rows], eps=eps)

        return jnp.concatenate([block(slice(0, 10)), block(slice(10, None))])

    found = at_size(halves, logits_fn, jnp.asarray(x), y, 0.2, None, aux)
    whole = attacks.fgsm(lambda x: logits_fn(x, aux), x, y, eps=0.2)
    np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize(
    ("aux", "message"),
    [
        ({"m": np.zeros((28, 6))}, "aux must be a tree of arrays with B = 29 rows, got float64[28"),
        ([1.0], "aux must be a tree of arrays with B = 29 rows, got 1.0"),
    ],
)
def test_side_inputs_of_other_rows_are_refused(masked, aux, message):
    x, y, _, logits_fn = masked
    with pytest.raises(UserError) as error:
        evaluate.evaluate(logits_fn, x, y, SUITE, eps=EPS, aux=aux)
    assert str(error.value).startswith(message)


def test_an_attack_that_splits_the_batch_without_aux_is_refused(masked):
    x, y, aux, logits_fn = masked
    split = lambda logits_fn, x, y, *, eps, key=None: x + 0 * logits_fn(x[:3]).sum()
    with pytest.raises(UserError, match="an attack without the keyword aux must call logits_fn wi"):
        evaluate.evaluate(logits_fn, x, y, {"split": split}, eps=EPS, aux=aux)
