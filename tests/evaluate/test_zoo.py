"""The audit warns of every broken defense in the zoo, and never of an honest net.

docs/reliability.md shows the counts of this file with `-m ''`.
"""

import itertools
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import nets
import pytest
import zoo
from marks import slow_after

from adv_jax import attacks, evaluate

ROWS = 200
# One or two for each kind of fault.
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


def audited(logits_fn, chosen, *, eps, bounds=nets.BOUNDS, rows=ROWS, batch_size=500):
    x, y = nets.digits()
    with warnings.catch_warnings(action="ignore", category=evaluate.AuditWarning):
        found = evaluate.evaluate(
            logits_fn,
            x[:rows],
            y[:rows],
            chosen,
            eps=eps,
            bounds=bounds,
            batch_size=batch_size,
            key=jax.random.key(0),
        )
    return found.audit


def assert_caught(logits_fn, broken, **settings):
    settings = {"eps": broken.eps, **settings}
    found = audited(logits_fn, settings.pop("attacks", broken.attacks), **settings).warnings
    assert any(broken.words in warning for warning in found), found


def quick(names, chosen):
    """Returns the names; those that are not chosen are exhaustive."""
    return [n if n in chosen else pytest.param(n, marks=pytest.mark.exhaustive) for n in names]


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_after(3, quick(zoo.BROKEN, QUICK_BROKEN)))
def test_the_audit_warns_of_a_broken_defense_and_names_the_fault(name):
    assert_caught(zoo.BROKEN[name].defend(zoo.honest("relu")), zoo.BROKEN[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_after(1, zoo.BROKEN_NETS))
def test_the_audit_warns_of_a_net_broken_by_training_or_mode(name):
    assert_caught(zoo.BROKEN_NETS[name].defend(), zoo.BROKEN_NETS[name])


# At these sizes FGSM fools no, about half and nearly all rows of a plain net.
SIZES = {"linf": (0.0, 0.05, 0.5), "l2": (0.0, 0.7, 14.0)}


def assert_honest(logits_fn, norm="linf", bounds=nets.BOUNDS, **settings):
    given = {"norm": norm, "bounds": bounds}
    chosen = {"fgsm": partial(attacks.fgsm, **given)}
    chosen["pgd"] = partial(attacks.pgd, **given, num_steps=10)
    chosen["noise"] = partial(attacks.uniform_noise, **given)
    found = audited(logits_fn, chosen, eps=SIZES[norm], bounds=bounds, **settings)
    assert found.warnings == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    "net", slow_after(2, quick(zoo.NETS, ["relu", "dropout", "batch norm", "fgsm"]))
)
def test_the_audit_does_not_warn_of_an_honest_net(net):
    assert_honest(zoo.honest(net))


def in_bfloat16(logits_fn):
    """Returns the model with weights, inputs and activations in bfloat16."""
    apply, variables = logits_fn.args
    variables = jax.tree.map(lambda a: a.astype(jnp.bfloat16), variables)
    return lambda x: nets.logits_of(apply, variables, x.astype(jnp.bfloat16))


def rounded_to_8_bits(logits_fn):
    return lambda x: logits_fn(x + jax.lax.stop_gradient(jnp.round(255 * x) / 255 - x))


# Changes that leave a net honest.
GUISES = {
    "tiny logits": zoo.scaled(1e-3),
    "large logits": zoo.scaled(3.0),
    "bfloat16": in_bfloat16,
    "clipped inputs": zoo.behind(lambda x: jnp.clip(x, 0, 1)),
    "8-bit inputs": rounded_to_8_bits,
}


@pytest.mark.slow
@pytest.mark.parametrize("guise", quick(GUISES, ["tiny logits", "large logits", "8-bit inputs"]))
def test_the_audit_does_not_warn_of_an_honest_net_in_disguise(guise):
    logits_fn = GUISES[guise](zoo.honest("relu"))
    assert audited(logits_fn, {"fgsm": zoo.FGSM}, eps=SIZES["linf"]).warnings == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_after(1, zoo.DECLARED))
def test_the_audit_does_not_warn_of_a_declared_gradient(name):
    logits_fn = zoo.DECLARED[name](zoo.honest("relu"))
    assert audited(logits_fn, {"fgsm": zoo.FGSM}, eps=SIZES["linf"]).warnings == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_after(1, zoo.MISDECLARED))
def test_the_audit_warns_of_a_declared_gradient_that_misleads(name):
    broken = zoo.Broken(zoo.MISDECLARED[name], "gradients are misleading")
    assert_caught(broken.defend(zoo.honest("relu")), broken)


@pytest.mark.slow
def test_the_audit_does_not_call_a_mask_keyed_on_the_batch_random():
    def masked_by_the_batch(x):
        bits = jax.lax.bitcast_convert_type(x.sum(), jnp.uint32)
        key = jax.random.fold_in(jax.random.key(0), bits)
        return x * jax.random.bernoulli(key, 0.5, x.shape).astype(x.dtype)

    logits_fn = zoo.behind(masked_by_the_batch)(zoo.honest("relu"))
    found = audited(logits_fn, {"fgsm": zoo.FGSM}, eps=(0.1,))
    assert found.random == 0
    assert any("random numbers are drawn by the batch" in warning for warning in found.warnings)


# 4 minutes, with those that are not quick: more nets behind the defenses and the guises, and other
# norms.


@pytest.mark.exhaustive
@pytest.mark.parametrize("net", ["linear", "conv", "pgd"])
@pytest.mark.parametrize("name", zoo.BROKEN)
def test_the_audit_warns_of_a_broken_defense_of_any_net(name, net):
    assert_caught(zoo.BROKEN[name].defend(zoo.honest(net)), zoo.BROKEN[name])


@pytest.mark.exhaustive
@pytest.mark.parametrize(("norm", "bounds"), [("linf", None), ("l2", nets.BOUNDS), ("l2", None)])
@pytest.mark.parametrize("net", ["linear", "tanh", "fgsm", "pgd"])
def test_the_audit_does_not_warn_of_honest_nets_in_any_norm_and_bounds(net, norm, bounds):
    assert_honest(zoo.honest(net), norm, bounds)


@pytest.mark.exhaustive
@pytest.mark.parametrize("net", ["linear", "conv", "pgd"])
@pytest.mark.parametrize("guise", GUISES)
def test_the_audit_does_not_warn_of_other_honest_nets_in_disguise(guise, net):
    logits_fn = GUISES[guise](zoo.honest(net))
    assert audited(logits_fn, {"fgsm": zoo.FGSM}, eps=SIZES["linf"]).warnings == ()


# The thresholds were set on 200 rows of nets of one seed, in one batch, with FGSM.

SATURATED = zoo.BROKEN["logits times 1,000"]
QUICK_SATURATED = [(1e2, 64, 50), (1e3, 200, 500), (1e6, 64, 500)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factor", "rows", "batch_size"),
    [
        pytest.param(*case, marks=[] if case in QUICK_SATURATED else pytest.mark.exhaustive)
        for case in itertools.product((1e2, 1e3, 1e4, 1e5, 1e6), (64, 200, 1000), (50, 100, 500))
    ],
)
@pytest.mark.parametrize("net", quick(["relu", "conv"], ["relu"]))
def test_the_audit_warns_of_saturated_logits_for_any_rows_and_batches(
    net, factor, rows, batch_size
):
    logits_fn = zoo.scaled(factor)(zoo.honest(net))
    assert_caught(logits_fn, SATURATED, rows=rows, batch_size=batch_size)


TIMID = zoo.BROKEN["attack of timid steps"]._replace(words="the attacks are too weak")


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "eps"), slow_after(1, [("linf", 0.1), ("l2", 1.5)]))
def test_the_audit_warns_of_timid_steps_at_sizes_that_make_no_input_gray(norm, eps):
    timid = partial(TIMID.attacks["pgd"], norm=norm)
    assert_caught(zoo.honest("relu"), TIMID, attacks={"pgd": timid}, eps=(0.0, eps))


OTHERWISE = {
    "64 rows, batches of 50, linf": {"rows": 64, "batch_size": 50},
    "1,000 rows, batches of 100, l2": {"rows": 1000, "batch_size": 100},
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("how", OTHERWISE)
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", zoo.BROKEN)
def test_the_audit_warns_of_a_broken_defense_for_any_seed_norm_and_attack(name, seed, how):
    broken, settings = zoo.BROKEN[name], OTHERWISE[how]
    if "fgsm" in broken.attacks and "l2" in how:
        apgd = partial(attacks.apgd, norm="l2", num_steps=10, bounds=nets.BOUNDS)
        settings = {**settings, "attacks": {"apgd": apgd}, "eps": (0.0, 1.5)}
    assert_caught(broken.defend(zoo.honest("relu", seed)), broken, **settings)


@pytest.mark.exhaustive
@pytest.mark.parametrize("how", OTHERWISE)
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("net", zoo.NETS)
def test_the_audit_does_not_warn_of_honest_nets_for_any_seed_and_rows(net, seed, how):
    norm = "l2" if "l2" in how else "linf"
    assert_honest(zoo.honest(net, seed), norm, **OTHERWISE[how])


# Attacks with the settings of their authors, or with fewer steps.
ALONE = {
    "apgd": partial(attacks.apgd, num_steps=20, bounds=nets.BOUNDS),
    "apgd, dlr": partial(attacks.apgd, loss="dlr", num_steps=20, bounds=nets.BOUNDS),
    "auto_attack": partial(attacks.auto_attack, num_steps=10, num_queries=50, bounds=nets.BOUNDS),
    "carlini_wagner": partial(
        attacks.carlini_wagner, num_steps=200, learning_rate=0.05, bounds=nets.BOUNDS
    ),
    "deepfool": partial(attacks.deepfool, bounds=nets.BOUNDS),
    "fab": partial(attacks.fab, num_steps=20, bounds=nets.BOUNDS),
    "lbfgs": partial(attacks.lbfgs, bounds=nets.BOUNDS),
    "noise": partial(attacks.uniform_noise, bounds=nets.BOUNDS),
    "pgd, l1": partial(attacks.pgd, norm="l1", num_steps=40, bounds=nets.BOUNDS),
}
LENGTHS = {"linf": (0.0, 0.05, 0.1), "l2": (0.0, 0.7, 1.5), "l1": (0.0, 5.0, 15.0)}


@pytest.mark.exhaustive
@pytest.mark.parametrize("net", ["relu", "pgd"])
@pytest.mark.parametrize("attack", ALONE)
def test_the_audit_does_not_warn_of_one_honest_attack_alone(attack, net):
    chosen = {attack: ALONE[attack]}
    eps = LENGTHS[evaluate.norm_of(ALONE[attack])]
    assert audited(zoo.honest(net), chosen, eps=eps).warnings == ()
