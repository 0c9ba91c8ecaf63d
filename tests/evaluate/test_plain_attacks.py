"""Attacks that are plain functions of the user work at sizes of each row, in any form."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adv_jax
from adv_jax import attacks, evaluate
from adv_jax.evaluate.preparing import with_settings
from adv_jax.types import UserError

W = np.array([1.0, -2.0, 0.5, 1.0], np.float32)


def logits_fn(x):
    score = x.reshape(len(x), -1) @ W
    return jnp.stack([score, -score], axis=1)


def gradient(fn, x, y):
    return jax.grad(lambda x: -jax.nn.log_softmax(fn(x))[jnp.arange(len(x)), y].sum())(x)


def one_step(fn, x, y, *, eps):
    return x + eps * jnp.sign(gradient(fn, x, y))


def in_a_loop(fn, x, y, *, eps, key=None):
    def advance(_, x_adv):
        ahead = x_adv + eps / 2 * jnp.sign(gradient(fn, x_adv, y))
        return jnp.clip(ahead, x - eps, x + eps)

    return jax.lax.fori_loop(0, 3, advance, x)


def by_ours(fn, x, y, *, eps, **settings):
    return attacks.pgd(fn, x, y, eps=eps, num_steps=3, **settings)


@pytest.mark.parametrize("attack", [one_step, in_a_loop, by_ours])
@pytest.mark.parametrize("shape", [(4,), (2, 2)])
def test_the_minimal_eps_of_a_plain_attack_is_the_distance_to_the_boundary(attack, shape):
    x = np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32)
    score = np.float64(x).reshape(4, -1) @ W
    found = evaluate.minimal_eps(logits_fn, x, (score < 0).astype(int), attack, high=4.0)
    np.testing.assert_allclose(found, np.abs(score) / np.abs(W).sum(), atol=2e-3)


@pytest.mark.parametrize("name", attacks.__all__)
def test_every_attack_takes_a_size_of_each_row_that_broadcasts_with_x(name):
    attack, x = getattr(attacks, name), jnp.full((2, 2, 2), 0.5)
    given = {"attack": attacks.fgsm, "source_fn": logits_fn} if name == "transferred" else {}
    given |= {"num_queries": 2} if name in ("square", "auto_attack") else {}
    if "num_steps" in attack.__wrapped__.__kwdefaults__:
        given["num_steps"] = 1
    call = lambda size: jax.eval_shape(
        lambda size, key: attack(
            logits_fn,
            x,
            jnp.array([0, 1]),
            bounds=(0, 1),
            key=key,
            **given,
            **{attack.traits.size: size},
        ),
        size,
        jax.random.key(0),
    )
    assert call(jnp.full((2, 1, 1), 0.1)).shape == call(jnp.full(2, 0.1)).shape == (2, 2, 2)


def test_an_attack_that_fails_at_a_type_is_named_in_one_line():
    def unstable(fn, x, y, *, eps):
        return jax.lax.fori_loop(0, 2, lambda _, r: jnp.stack([r, r]), x)

    def positional(fn, x, eps):
        return x

    takes = "positional must be an attack (logits_fn, x, y, *, eps, key) -> x_adv, "
    for attack, said in ((unstable, "unstable cannot compute x_adv: "), (positional, takes)):
        for run in (
            lambda attack: evaluate.evaluate(
                logits_fn, np.ones((2, 4), np.float32), [0, 1], {"a": attack}, eps=[0.1]
            ),
            lambda attack: evaluate.minimal_eps(
                logits_fn, np.ones((2, 4), np.float32), [0, 1], attack, high=1.0
            ),
        ):
            with pytest.raises(UserError) as error:
                run(attack)
            assert str(error.value).startswith(said) and "\n" not in str(error.value)


ROWS = 3 * jax.local_device_count()  # Each device gets three.
X, Y = np.ones((ROWS, 4), np.float32), np.zeros(ROWS, int)
RUNS = {
    "evaluate": lambda attack: evaluate.evaluate(
        logits_fn, X, Y, {"a": attack}, eps=[0.1], key=jax.random.key(0)
    ),
    "batches": lambda attack: evaluate.evaluate_batches(
        logits_fn, [(X, Y)], {"a": attack}, eps=[0.1], key=jax.random.key(0)
    ),
    "minimal_eps": lambda attack: evaluate.minimal_eps(
        logits_fn, X, Y, attack, high=1.0, key=jax.random.key(0)
    ),
    "transfer": lambda attack: evaluate.transfer(
        {"a": logits_fn, "b": logits_fn}, X, Y, attack, eps=0.1, key=jax.random.key(0)
    ),
}


def refused(name, attack):
    """Returns the one line of error of an evaluation."""
    with pytest.raises(UserError) as error:
        RUNS[name](attack)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", RUNS)
def test_a_misspelled_keyword_in_a_partial_is_refused_with_the_nearest(name):
    for keyword, meant in {"steps": "num_steps", "stepsize": "step_size"}.items():
        said = refused(name, partial(attacks.pgd, **{keyword: 3}))
        assert said.endswith(f"got {keyword!r}; did you mean {meant!r}?")
    assert "got 4 of its arguments bound" in refused(name, partial(attacks.pgd, 1, X, Y, 3))


def one_draw(fn, x, y, *, eps, key):
    return x + eps * jax.random.uniform(key, x.shape)


def folded(fn, x, y, *, eps, key):
    return x + eps * jax.random.normal(jax.random.fold_in(key, 1), x.shape)


@pytest.mark.parametrize("name", ["evaluate", "minimal_eps"])
@pytest.mark.parametrize("attack", [one_draw, folded, adv_jax.attack()(one_draw)])
def test_an_attack_that_draws_once_for_all_rows_is_shown_the_keys_of_rows(name, attack):
    said = refused(name, attack)
    for word in (attack.__name__, "norms.sample", "random.row_keys", "(3,)"):
        assert word in said


def scanned(fn, x, y, *, eps):
    return jax.lax.scan(lambda r, step: (r + step, None), x, jnp.full(5, eps / 5))[0]


def branching(fn, x, y, *, eps):
    return x if eps == 0 else x + eps


def for_one_size(fn, x, y, *, eps):
    assert jnp.ndim(eps) == 0
    return x + eps


@pytest.mark.parametrize("attack", [scanned, branching, for_one_size])
def test_an_attack_that_takes_one_size_alone_is_named_with_the_shape_of_eps(attack):
    said = refused("minimal_eps", attack)
    assert said.startswith(f"{attack.__name__} must take eps as float32[3, 1], which broadcasts")


def test_an_attack_that_indexes_its_size_is_named_with_the_shape_of_eps():
    said = refused("evaluate", lambda fn, x, y, *, eps: x + eps[:, None])
    assert said.startswith("a must take eps as float32[], one number")


@pytest.mark.parametrize("name", ["evaluate", "minimal_eps"])
@pytest.mark.parametrize("error", [KeyError, ValueError, IndexError, NotImplementedError])
def test_an_error_of_the_users_own_attack_passes_as_it_is(name, error):
    def broken(fn, x, y, *, eps):
        raise error("bug")

    with pytest.raises(error, match="bug"):
        RUNS[name](broken)


@pytest.mark.parametrize("model", [2, np.inf, "2", "Linf"])
def test_a_threat_model_has_the_aliases_of_norm(model):
    by = [with_settings({"a": attacks.fgsm}, **{name: model}) for name in ("threat_model", "norm")]
    assert by[0]["a"].keywords == by[1]["a"].keywords


def nan_loss(outputs, _):
    return jnp.full(len(outputs), jnp.nan)


def nan_slope(outputs, _):
    return jnp.sqrt(outputs[:, 0] - outputs[:, 0])


EIGHT = np.random.default_rng(1).normal(size=(8, 4)).astype(np.float32)
LABELS = (EIGHT @ W < 0).astype(int)
RUNS_OF_EIGHT = {
    "evaluate": lambda attack: evaluate.evaluate(logits_fn, EIGHT, LABELS, {"a": attack}, eps=[1]),
    "evaluate_batches": lambda attack: evaluate.evaluate_batches(
        logits_fn, [(EIGHT, LABELS)], {"a": attack}, eps=[1]
    ),
    "minimal_eps": lambda attack: evaluate.minimal_eps(
        logits_fn, EIGHT, LABELS, attack, high=1.0, num_steps=1
    ),
    "transfer": lambda attack: evaluate.transfer({"a": logits_fn}, EIGHT, LABELS, attack, eps=1.0),
}
WITH_LOSS = {
    "bound": lambda loss: partial(attacks.fgsm, loss=loss),
    "iterated": lambda loss: partial(attacks.bim, num_steps=2, loss=loss),
    "in a function": lambda loss: lambda fn, x, y, *, eps: by_ours(fn, x, y, eps=eps, loss=loss),
    "on another model": lambda loss: partial(
        attacks.transferred, source_fn=logits_fn, attack=partial(attacks.fgsm, loss=loss)
    ),
}
OF_LOSS = {
    nan_loss: "loss must return finite numbers, got NaN or infinity for 8 of 8 rows of x",
    nan_slope: "loss must have a gradient by x, got NaN for 8 of 8 rows of x",
}


@pytest.mark.parametrize("run", RUNS_OF_EIGHT)
@pytest.mark.parametrize("loss", OF_LOSS)
def test_an_evaluation_refuses_a_loss_without_numbers_as_a_bare_call_does(run, loss):
    for call in (RUNS_OF_EIGHT[run], lambda attack: attack(logits_fn, EIGHT, LABELS, eps=0.1)):
        with pytest.raises(UserError) as error:
            call(WITH_LOSS["bound"](loss))
        assert str(error.value) == OF_LOSS[loss]


@pytest.mark.parametrize("form", WITH_LOSS)
def test_a_loss_of_nan_is_refused_however_an_attack_holds_it(form):
    with pytest.raises(UserError) as error:
        RUNS_OF_EIGHT["transfer"](WITH_LOSS[form](nan_loss))
    assert str(error.value) == OF_LOSS[nan_loss]


def test_a_loss_of_nan_inside_a_loop_or_jit_of_the_attack_leaks_no_tracer():
    climb = partial(attacks.fgsm, loss=nan_loss)

    def row_by_row(fn, x, y, *, eps):
        one = lambda row: climb(fn, row[0][None], row[1][None], eps=eps)[0]
        return jax.lax.map(one, (x, y))

    def jitted(fn, x, y, *, eps):
        return jax.jit(lambda x, y: climb(fn, x, y, eps=eps))(x, y)

    for attack in (row_by_row, jitted):
        assert RUNS_OF_EIGHT["transfer"](attack).shape == (1, 1)


@pytest.mark.parametrize("run", RUNS_OF_EIGHT)
def test_an_attack_that_returns_nan_is_named(run):
    def q(fn, x, y, *, eps):
        return jnp.where(x == EIGHT[3:4], jnp.nan, x)

    with pytest.raises(
        UserError, match="finite inputs, got NaN or infinity for 1 of 8 rows"
    ) as error:
        RUNS_OF_EIGHT[run](q)
    assert str(error.value).startswith("a " if run.startswith("evaluate") else "q ")
    assert "logits_fn" not in str(error.value) and "\n" not in str(error.value)
