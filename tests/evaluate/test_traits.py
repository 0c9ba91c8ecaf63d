"""The audit knows an attack by its traits, or by what it returned."""

import functools
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import exhaustive_after

import adv_jax
from adv_jax import attacks, evaluate
from adv_jax.attacks import traits_of
from adv_jax.evaluate.preparing import with_settings
from adv_jax.types import UserError

W = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
X = np.random.default_rng(1).uniform(0.2, 0.8, (60, 12)).astype(np.float32)
Y = np.argmax(X @ W, axis=1).astype(np.int32)
EPS = [0.2]
SHY = 1e-6  # a step that gets nowhere
# The share of rows that a step up the cross-entropy of the softmax fools, by NumPy; all are right.
PROBS = np.exp(X @ W) / np.exp(X @ W).sum(axis=1, keepdims=True)
STEPPED = X + EPS[0] * np.sign((PROBS - np.eye(4)[Y]) @ W.T)
GAP = np.mean(np.argmax(STEPPED @ W, axis=1) != Y)


def logits_fn(x):
    return x @ W


def audited(chosen, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        key = jax.random.key(0)
        return evaluate.evaluate(logits_fn, X, Y, chosen, eps=EPS, key=key, **options).audit


def plain(logits_fn, x, y, *, eps, key=None):
    """The user's own: ten steps that are too small, without a norm keyword."""

    def advance(_, x_adv):
        loss = lambda x: -jax.nn.log_softmax(logits_fn(x))[jnp.arange(len(x)), y].sum()
        return jnp.clip(x_adv + SHY * jnp.sign(jax.grad(loss)(x_adv)), x - eps, x + eps)

    return jax.lax.fori_loop(0, 10, advance, x)


@functools.wraps(attacks.pgd)
def wrapped(*args, **settings):
    return attacks.pgd(*args, **settings)


@adv_jax.attack(rank=attacks.ITERATED, norm="linf")
def stated(logits_fn, x, y, *, eps, key=None):
    return plain(logits_fn, x, y, eps=eps)


WEAK = {
    "plain": plain,
    "stated": stated,
    "pgd": partial(attacks.pgd, step_size=SHY, random_start=False),
    "bim": partial(attacks.bim, step_size=SHY),
    "mi_fgsm": partial(attacks.mi_fgsm, step_size=SHY),
    "a partial of a partial": partial(partial(attacks.bim, num_steps=3), step_size=SHY),
    "wrapped": partial(wrapped, step_size=SHY, random_start=False),
    "a lambda": lambda fn, x, y, *, eps, key=None: plain(fn, x, y, eps=eps),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", exhaustive_after(2, WEAK))
def test_an_attack_that_gets_nowhere_is_named_beside_fgsm(name):
    found = audited({"weak": WEAK[name], "fgsm": attacks.fgsm})
    assert found.order == {"weak - fgsm": pytest.approx(GAP)} and GAP > 0.3
    (warning,) = found.warnings
    assert warning.startswith("weak leaves ")


@pytest.mark.slow
def test_a_plain_attack_alone_is_compared_with_a_step_in_the_norm_of_what_it_returned():
    found = audited({"weak": plain})
    assert found.one_step == {"linf": pytest.approx(GAP)} and len(found.warnings) == 1
    for norm in ("l1", "l2", "linf"):

        def filling(fn, x, y, *, eps, norm=norm):
            return attacks.fgsm(fn, x, y, eps=eps, norm=norm)

        hidden = lambda fn, x, y, *, eps, filling=filling: filling(fn, x, y, eps=eps)
        assert audited({"own": hidden}).one_step.keys() == {norm}


def test_noise_of_the_user_is_no_weak_attack():
    def noise(logits_fn, x, y, *, eps, key):
        draw = lambda key: jax.random.uniform(key, x.shape[1:], minval=-1)
        return x + eps * jax.vmap(draw)(key)

    found = audited({"noise": noise, "fgsm": attacks.fgsm})
    assert found.order == {} and found.warnings == ()
    marked = adv_jax.attack(aimed=False)(lambda fn, x, y, *, eps: x)
    assert audited({"other": marked, "fgsm": attacks.fgsm}).warnings == ()


def test_every_public_attack_states_its_traits():
    for name in attacks.__all__:
        traits = traits_of(getattr(attacks, name))
        assert traits is not None and (traits.rank is not None or name == "transferred"), name
    # The signatures that callers see are those of the functions.
    assert str(adv_jax.attacks.fgsm.__doc__).startswith("Fast gradient method")
    assert attacks.fgsm.__name__ == "fgsm" and attacks.fgsm.traits.size == "eps"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": "radius"}, "size must be one of eps, std, tau, gamma, got 'radius'"),
        ({"size": "tau"}, "size must be a keyword of mine, got 'tau'"),
        ({"rank": 7}, "rank must be NOISE, ONE_STEP, ITERATED or ENSEMBLE, got 7"),
        ({"norm": "l7"}, "norm must be"),
    ],
)
def test_traits_that_cannot_be_are_refused(given, message):
    def mine(logits_fn, x, y, *, eps):
        return x

    with pytest.raises(ValueError, match=message):
        adv_jax.attack(**given)(mine)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:a leaves")
def test_attacks_without_bounds_get_those_of_the_call():
    seen = {}

    def spy(logits_fn, x, y, *, eps, bounds=None, norm="linf"):
        seen.update(bounds=bounds, norm=norm)
        return attacks.fgsm(logits_fn, x, y, eps=eps, bounds=bounds, norm=norm)

    call = {"bounds": (0.1, 0.9), "threat_model": "L2"}
    evaluations = {
        "evaluate": lambda attack: evaluate.evaluate(
            logits_fn, X, Y, {"a": attack}, eps=EPS, **call
        ),
        "evaluate_batches": lambda attack: evaluate.evaluate_batches(
            logits_fn, [(X, Y)], {"a": attack}, eps=EPS, **call
        ),
        "minimal_eps": lambda attack: evaluate.minimal_eps(
            logits_fn, X, Y, attack, high=0.2, num_steps=1, **call
        ),
        "transfer": lambda attack: evaluate.transfer(
            {"a": logits_fn}, X, Y, attack, eps=0.2, **call
        ),
    }
    for run in evaluations.values():
        seen.clear()
        run(spy)
        assert seen == {"bounds": (0.1, 0.9), "norm": "l2"}
        run(partial(spy, bounds=(0, 1), norm="linf"))
        assert seen == {"bounds": (0, 1), "norm": "linf"}


@pytest.mark.slow
def test_the_examples_of_an_evaluation_with_bounds_stay_inside():
    x = np.clip(X, 0.25, 0.75)
    chosen = {name: getattr(attacks, name) for name in ("fgsm", "bim", "uniform_noise")}
    options = {"eps": [0.2], "key": jax.random.key(0), "bounds": (0.25, 0.75)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = evaluate.evaluate(logits_fn, x, Y, chosen, **options).audit
    assert found.outside_bounds == dict.fromkeys(chosen, 0)
    inner = partial(attacks.transferred, source_fn=logits_fn, attack=attacks.fgsm)
    found = evaluate.evaluate(logits_fn, x, Y, {"a": inner}, **options, norm="l2").audit
    assert found.outside_bounds == {"a": 0} and found.outside_ball == {"a": 0}


def test_a_function_of_any_settings_gets_those_of_the_evaluation():
    def wrapped(logits_fn, x, y, **settings):
        return attacks.fgsm(logits_fn, x, y, **settings)

    chosen = {"wrapped": wrapped, "fgsm": attacks.fgsm}
    found = evaluate.evaluate(logits_fn, X, Y, chosen, eps=[0.3], norm="l2", bounds=(0.2, 0.8))
    assert found.attacks["wrapped"].l2 == found.attacks["fgsm"].l2
    assert found.audit.outside_bounds == dict.fromkeys(chosen, 0)
    assert evaluate.norm_of(partial(wrapped, norm="l2")) == "l2"


def test_an_attack_of_another_norm_is_refused():
    for inner in (attacks.ddn, partial(attacks.transferred, attack=attacks.ddn)):
        with pytest.raises(UserError, match="^a: norm must be l2 for ddn, got linf$"):
            evaluate.evaluate(logits_fn, X, Y, {"a": inner}, eps=EPS, norm="linf")
    assert with_settings({"a": attacks.ddn}, norm=2)["a"] is attacks.ddn


@pytest.mark.slow
def test_benchmark_takes_the_norm_by_both_names():
    run = partial(evaluate.benchmark, logits_fn, (X[:4], Y[:4]), eps=0.0)
    assert run(norm="l2")["threat_model"] == "L2"
    one = partial(evaluate.evaluate, logits_fn, X, Y, {"a": attacks.fgsm}, eps=EPS)
    for function in (run, one):
        with pytest.raises(UserError, match="norm must be that of threat_model, linf, got l2"):
            function(norm="l2", threat_model="Linf")
