"""False robustness is caught: the audit warns of every defence in the zoo, and of no honest net.

docs/reliability.md has the counts; they are those of this file with `-m "slow or not slow"`.
"""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import nets
import pytest
import zoo

from adv_jax import attacks, evaluate

ROWS = 200
# One or two for each way of going wrong.
QUICK_BROKEN = (
    "logits times 1,000",
    "input rounded to 5 levels",
    "mask drawn in every pass",
    "mask drawn in every program",
    "mask drawn from the input",
    "gradient with its sign turned",
    "gradient shattered",
    "attack of timid steps",
)


def audited(logits_fn, chosen, *, eps, bounds=nets.BOUNDS):
    x, y = nets.digits()
    with warnings.catch_warnings(action="ignore", category=evaluate.AuditWarning):
        found = evaluate.evaluate(
            logits_fn, x[:ROWS], y[:ROWS], chosen, eps=eps, bounds=bounds, key=jax.random.key(0)
        )
    return found.audit


def assert_caught(logits_fn, broken):
    found = audited(logits_fn, broken.attacks, eps=broken.eps).warnings
    assert any(broken.words in warning for warning in found), found


def quick(names, chosen):
    """The chosen ones, and those that take a minute more."""
    return [n if n in chosen else pytest.param(n, marks=pytest.mark.slow) for n in names]


@pytest.mark.parametrize("name", quick(zoo.BROKEN, QUICK_BROKEN))
def test_it_warns_of_a_broken_defence_and_says_why(name):
    assert_caught(zoo.BROKEN[name].defend(zoo.honest("relu")), zoo.BROKEN[name])


@pytest.mark.parametrize("name", zoo.BROKEN_NETS)
def test_it_warns_of_a_net_that_is_broken_by_its_training_or_its_mode(name):
    assert_caught(zoo.BROKEN_NETS[name].defend(), zoo.BROKEN_NETS[name])


# What FGSM turns: nothing, about half, nearly all of the rows of a plain net.
SIZES = {"linf": (0.0, 0.05, 0.5), "l2": (0.0, 0.7, 14.0)}


def assert_honest(logits_fn, norm="linf", bounds=nets.BOUNDS):
    given = {"norm": norm, "bounds": bounds}
    chosen = {"fgsm": partial(attacks.fgsm, **given)}
    chosen["pgd"] = partial(attacks.pgd, **given, num_steps=10)
    chosen["noise"] = partial(attacks.uniform_noise, **given)
    assert audited(logits_fn, chosen, eps=SIZES[norm], bounds=bounds).warnings == ()


@pytest.mark.parametrize("net", quick(zoo.NETS, ["relu", "dropout", "batch norm", "fgsm"]))
def test_it_does_not_warn_of_an_honest_net(net):
    assert_honest(zoo.honest(net))


def in_bfloat16(logits_fn):
    """All weights, and with the input all values."""
    apply, variables = logits_fn.args
    variables = jax.tree.map(lambda a: a.astype(jnp.bfloat16), variables)
    return lambda x: nets.logits_of(apply, variables, x.astype(jnp.bfloat16))


def rounded_to_8_bits(logits_fn):
    return lambda x: logits_fn(x + jax.lax.stop_gradient(jnp.round(255 * x) / 255 - x))


# What an honest net may look like besides.
GUISES = {
    "tiny logits": zoo.scaled(1e-3),
    "large logits": zoo.scaled(3.0),
    "bfloat16": in_bfloat16,
    "clipped inputs": zoo.behind(lambda x: jnp.clip(x, 0, 1)),
    "8-bit inputs": rounded_to_8_bits,
}


@pytest.mark.parametrize("guise", quick(GUISES, ["tiny logits", "large logits", "8-bit inputs"]))
def test_nor_of_one_in_another_guise(guise):
    logits_fn = GUISES[guise](zoo.honest("relu"))
    assert audited(logits_fn, {"fgsm": zoo.FGSM}, eps=SIZES["linf"]).warnings == ()


# 4 minutes, with those that are not quick: more nets behind the defences and the guises, and other
# norms.


@pytest.mark.slow
@pytest.mark.parametrize("net", ["linear", "conv", "pgd"])
@pytest.mark.parametrize("name", zoo.BROKEN)
def test_it_warns_whatever_the_net_behind_the_defence(name, net):
    assert_caught(zoo.BROKEN[name].defend(zoo.honest(net)), zoo.BROKEN[name])


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "bounds"), [("linf", None), ("l2", nets.BOUNDS), ("l2", None)])
@pytest.mark.parametrize("net", ["linear", "tanh", "fgsm", "pgd"])
def test_it_does_not_warn_whatever_the_norm_and_the_bounds(net, norm, bounds):
    assert_honest(zoo.honest(net), norm, bounds)


@pytest.mark.slow
@pytest.mark.parametrize("net", ["linear", "conv", "pgd"])
@pytest.mark.parametrize("guise", GUISES)
def test_nor_of_other_nets_in_another_guise(guise, net):
    logits_fn = GUISES[guise](zoo.honest(net))
    assert audited(logits_fn, {"fgsm": zoo.FGSM}, eps=SIZES["linf"]).warnings == ()
