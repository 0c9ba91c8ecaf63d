"""The self-audit: attacks and models that provoke each warning."""

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
from adv_jax.evaluate.auditing import audit, warnings_of_curves
from adv_jax.types import UserError

PROBED = ("nan_gradient", "zero_gradient", "saturated", "random", "batch", "misleading")


def audited(logits_fn, x, y, chosen, *, eps=(0.0, 0.1), bounds=None):
    """Returns the audit; asserts that its warnings were issued with this file as the caller."""
    with warnings.catch_warnings(record=True) as issued:
        warnings.simplefilter("always")
        found = evaluate.evaluate(
            logits_fn, x, y, chosen, eps=eps, bounds=bounds, key=jax.random.key(0), batch_size=7
        ).audit
    assert tuple(str(w.message) for w in issued) == found.warnings
    assert all(w.category is evaluate.AuditWarning and w.filename == __file__ for w in issued)
    return found


def linear(problem, rows=30):
    w, b, x, y = problem(rows)
    return lambda x: x @ w + b[None], x, y


@pytest.mark.slow
def test_honest_attacks_give_no_warning(problem):
    logits_fn, x, y = linear(problem, 60)
    bounds = (float(x.min()), float(x.max()))
    chosen = {
        f"{attack.__name__} {norm}": partial(attack, norm=norm, bounds=bounds)
        for attack in (attacks.fgsm, attacks.uniform_noise)
        for norm in ("linf", "l2")
    }
    chosen["raw"] = partial(attacks.raw_gradient, bounds=bounds)
    eps = dict.fromkeys(chosen, (0.0, 1e-6, 0.3))
    found = audited(logits_fn, x, y, chosen, eps=eps, bounds=bounds)
    assert found.warnings == ()
    assert found.zero_gradients == 0
    assert found.outside_ball == dict.fromkeys(chosen.keys() - {"raw"}, 0)
    assert found.outside_bounds == found.changed_at_zero == dict.fromkeys(chosen, 0)
    # One step is compared with noise of the same norm, and with nothing else.
    assert found.order.keys() == {
        "fgsm linf - uniform_noise linf",
        "fgsm l2 - uniform_noise l2",
    }
    assert max(found.order.values()) <= 0


@pytest.mark.slow
def test_gradients_that_are_zero_behind_a_hard_softmax_are_counted():
    # Two classes, logits (s, -s): p of the other class is e^(-2 s), which is 0 in float32 at
    # s = 100 and .14 at s = 1. Where the label is wrong the gradient is 1, not 0.
    x = np.array([[100.0], [-100.0], [100.0], [1.0], [2.0]], np.float32)
    y = np.array([0, 1, 1, 0, 0])
    found = audited(lambda x: jnp.hstack([x, -x]), x, y, {"fgsm": attacks.fgsm})
    assert found.zero_gradients == pytest.approx(2 / 5)
    (warning,) = found.warnings
    assert warning.startswith("40 % of the gradients are exactly 0 (gradient masking)")


@pytest.mark.slow
def test_gradients_of_nan_are_counted_and_not_taken_for_zeros():
    # The logits are finite; the derivative of the square root at 0 is infinity times 0.
    x, y = np.array([[3.0], [-1.0], [2.0], [1.0]], np.float32), np.array([0, 1, 0, 0])

    def logits_fn(x):
        known = x < 1.5
        return jnp.hstack([x, -x]) + jnp.sqrt(jnp.where(known, 0, x - x))

    found = audited(logits_fn, x, y, {"fgsm": attacks.fgsm})
    assert (found.nan_gradients, found.zero_gradients) == (0.5, 0)
    (warning,) = found.warnings
    assert warning.startswith("the gradient of logits_fn is NaN for 50 % of the rows, although")


@pytest.mark.slow
@pytest.mark.parametrize("norm", exhaustive_after(1, ["linf", "l2", "l1", "rms"]))
def test_leaving_the_ball_is_counted_row_by_row(problem, norm):
    logits_fn, x, y = linear(problem)

    def careless(logits_fn, x, y, *, eps, norm="linf", key=None):
        # Every other row moves by 1.001 eps: too little to see, but not to measure.
        factor = jnp.where(x[:, 0] > 0, 1.001, 0.999)
        return attacks.fgsm(logits_fn, x, y, eps=factor * eps, norm=norm)

    a = partial(careless, norm=norm)

    def careless_too(logits_fn, x, y, *, eps, norm=norm, bounds, key=None):
        return a(logits_fn, x, y, eps=eps)

    chosen = {
        "a": a,
        "b": attacks.fgsm,
        "c": partial(attacks.transferred, source_fn=logits_fn, attack=careless_too),
    }
    found = audited(logits_fn, x, y, chosen, eps=dict.fromkeys(chosen, (0.0, 0.1)))
    share = pytest.approx((x[:, 0] > 0).mean())
    assert found.outside_ball == {"a": share, "b": 0, "c": share}
    assert [w.partition(":")[0] for w in found.warnings] == [
        f"{name} leaves its {norm} ball in {100 * (x[:, 0] > 0).mean():.3g} % of the rows"
        for name in "ac"
    ]


@pytest.mark.slow
def test_attacks_that_share_sizes_of_different_kinds_are_named(problem):
    logits_fn, x, y = linear(problem)
    chosen = {"fgsm": attacks.fgsm, "raw": attacks.raw_gradient, "std": attacks.gaussian_noise}
    chosen |= {"noise": attacks.uniform_noise, "pgd": partial(attacks.pgd, norm="l2")}
    chosen |= {"jsma": attacks.jsma}
    mixed = (
        "fgsm (linf) and raw (tau) and pgd (l2) and jsma (gamma) share their sizes, which are not "
        "radii of one norm: the worst case mixes them; evaluate them apart, or give them one norm, "
        "or in Python pass eps as a dict of the sizes of each attack"
    )
    assert audited(logits_fn, x, y, chosen).warnings[-1] == mixed
    apart = audited(logits_fn, x, y, chosen, eps=dict.fromkeys(chosen, (0.0, 0.1)))
    assert not any("share their sizes" in warning for warning in apart.warnings)
    alike = {name: chosen[name] for name in ("fgsm", "noise", "std")}
    found = audited(logits_fn, x, y, alike).warnings
    assert not any("share their sizes" in warning for warning in found)


@pytest.mark.slow
def test_radii_in_other_units_than_the_inputs_are_named(problem):
    logits_fn, x, y = linear(problem)
    in_bytes = lambda x: logits_fn(x / 255)
    given = {"bounds": (-1000, 1000), "eps": (0.0, 8 / 255)}
    found = audited(in_bytes, 255 * x, y, {"fgsm": attacks.fgsm}, **given).warnings
    assert found[-1] == (
        "all sizes of fgsm are below 1/5,000 of the width of the bounds (-1000, 1000): check that "
        "eps has the units of x"
    )
    for change in ({"eps": (0.0, 8)}, {"bounds": None}, {"eps": (0.0,)}):
        found = audited(in_bytes, 255 * x, y, {"fgsm": attacks.fgsm}, **(given | change)).warnings
        assert not any("1/5,000" in warning for warning in found)


def test_a_model_that_is_no_better_than_one_class_is_named(problem):
    logits_fn, x, y = linear(problem)
    num_classes = logits_fn(x[:1]).shape[1]
    constant = lambda x: 1e-3 * logits_fn(x) + 9 * jnp.eye(num_classes)[2][None]
    most = 100 * np.bincount(np.asarray(y)).max() / len(y)
    right = 100 * np.mean(np.asarray(y) == 2)
    said = (
        f"the model is right for {right:.3g} % of the rows without an attack, where the most "
        f"frequent class is {most:.3g} %: check its training"
    )
    weak = np.where(np.arange(len(y)) % 3, np.asarray(y), 0)  # Two thirds of the rows are right.
    for model, labels, is_said in [
        (constant, y, True),
        (logits_fn, weak, False),
        (logits_fn, y, False),
        (constant, 2 + 0 * y, False),  # All rows have that class.
    ]:
        found = audited(model, x, labels, {"fgsm": attacks.fgsm})
        assert any(line.startswith(said) for line in found.warnings) == is_said


def test_an_attack_of_no_norm_must_stay_in_the_linf_ball(problem):
    logits_fn, x, y = linear(problem)

    def far(logits_fn, x, y, *, eps, key=None):
        factor = jnp.where(x[:, :1] > 0, 3.0, 0.9)
        return x - factor * eps * jnp.sign(x)

    share = (x[:, 0] > 0).mean()
    found = audited(logits_fn, x, y, {"far": far, "fgsm": attacks.fgsm})
    assert found.outside_ball == {"far": pytest.approx(share), "fgsm": 0}
    words = f"far leaves the linf ball, which holds those of l2 and l1, in {100 * share:.3g} % "
    assert any(w.startswith(words) for w in found.warnings)


@pytest.mark.slow
@pytest.mark.parametrize("name", exhaustive_after(1, ["carlini_wagner", "lbfgs"]))
def test_the_audit_measures_carlini_wagner_and_lbfgs_in_l2(problem, name):
    logits_fn, x, y = linear(problem)
    x = jnp.clip(x, -1, 1)
    attack = partial(getattr(attacks, name), bounds=(-1.0, 1.0), num_steps=3, search_steps=2)
    # 6 numbers in (-1, 1): no two rows are further apart than 2 in linf, or 2 sqrt(6) = 4.9 in l2.
    assert audited(logits_fn, x, y, {name: attack}, eps=[4.0]).outside_ball == {name: 0}
    with pytest.raises(
        UserError, match=r"eps of .* must be at most 4.89898, the l2 width .* got 5$"
    ):
        audited(logits_fn, x, y, {name: attack}, eps=[5.0], bounds=(-1.0, 1.0))

    # A wrapper has the traits of what it wraps: here one that leaves the l2 ball.
    @functools.wraps(attack.func)
    def careless(logits_fn, x, y, *, eps, key=None):
        return x + eps * jnp.sign(x)

    assert audited(logits_fn, x, y, {"a": careless}, eps=[0.1]).outside_ball == {"a": 1}


@pytest.mark.slow
def test_rows_that_one_step_fools_but_no_attack_does_are_counted(problem):
    logits_fn, x, y = linear(problem, 200)

    def timid(logits_fn, x, y, *, eps, norm="linf", key=None):
        return attacks.fgsm(logits_fn, x, y, eps=0.01 * eps, norm=norm)

    found = audited(logits_fn, x, y, {"timid": timid}, eps=[0.3])
    right = [
        np.argmax(logits_fn(x_adv), 1) == y
        for x_adv in (timid(logits_fn, x, y, eps=0.3), attacks.fgsm(logits_fn, x, y, eps=0.3))
    ]
    share = (right[0] & ~right[1]).mean()
    assert found.one_step == {"linf": pytest.approx(share)} and share > 0.1
    (warning,) = found.warnings
    assert warning.startswith(f"{100 * share:.3g} % of the rows are correct under all attacks but ")
    # A second attack that does what the step does leaves nothing to it.
    both = {"timid": timid, "fgsm": attacks.fgsm}
    assert audited(logits_fn, x, y, both, eps=[0.3]).one_step == {"linf": 0}


@pytest.mark.parametrize("attack", [attacks.uniform_noise, "transferred"])
def test_attacks_that_do_not_aim_at_the_model_are_not_compared_with_a_step(problem, attack):
    logits_fn, x, y = linear(problem)
    if attack == "transferred":
        attack = partial(
            attacks.transferred, source_fn=lambda x: -logits_fn(x), attack=attacks.fgsm
        )
    assert audited(logits_fn, x, y, {"a": attack}, eps=[0.3]).one_step == {}


@pytest.mark.slow
def test_the_rounding_of_plain_arithmetic_is_not_taken_for_leaving_the_ball():
    def textbook(logits_fn, x, y, *, eps, norm="linf", key=None):
        return x + eps * jnp.sign(1 + 0 * x)

    x = np.random.default_rng(0).uniform(0.5, 1, (200, 3)).astype(np.float32)
    moved = np.float64(x + np.float32(1e-4)) - x
    assert (moved.max(1) > 1e-4 * (1 + 1e-5)).any()  # It does leave it by an ulp of x.
    found = audited(lambda x: 9 * x, x, np.zeros(200, int), {"a": textbook}, eps=[1e-4])
    assert found.outside_ball == {"a": 0}


@pytest.mark.slow
def test_leaving_the_bounds_is_counted_row_by_row(problem):
    w, b, x, y = problem(30)
    x = np.clip(x, -1, 1)
    softmax = np.exp(x @ w + b) / np.exp(x @ w + b).sum(1, keepdims=True)
    x_adv = x + 0.1 * np.sign((softmax - np.eye(4)[y]) @ w.T)
    outside = (np.abs(x_adv) > 1).any(1).mean()
    assert 0 < outside < 1
    chosen = {"free": partial(attacks.fgsm, bounds=None), "clipped": attacks.fgsm}
    found = audited(lambda x: x @ w + b[None], x, y, chosen, bounds=(-1, 1))
    assert found.outside_bounds == {"free": pytest.approx(outside), "clipped": 0}
    (warning,) = found.warnings
    assert warning == (
        f"free leaves the bounds (-1, 1) in {100 * outside:.3g} % of the rows: they are not "
        "valid inputs; pass bounds=(-1, 1)"
    )


@pytest.mark.slow
def test_an_attack_that_ignores_eps_is_found_at_zero(problem):
    logits_fn, x, y = linear(problem)

    def deaf(logits_fn, x, y, *, eps, key=None):
        return -x

    changed = (np.argmax(logits_fn(-x), 1) != np.argmax(logits_fn(x), 1)).mean()
    found = audited(logits_fn, x, y, {"deaf": deaf, "fgsm": attacks.fgsm}, eps=[0.1, 0.0])
    assert found.changed_at_zero == {"deaf": pytest.approx(changed), "fgsm": 0}
    leaves, changes = found.warnings
    assert leaves.startswith("deaf leaves the linf ball")
    assert f"changes the class of {100 * changed:.3g} % of the rows at eps = 0" in changes
    assert audited(logits_fn, x, y, {"deaf": deaf}, eps=[0.1]).changed_at_zero == {}


@pytest.mark.slow
def test_iterated_attacks_weaker_than_one_step_are_found(problem):
    logits_fn, x, y = linear(problem, 200)

    @adv_jax.attack(rank=attacks.ITERATED)
    def still(logits_fn, x, y, *, eps, norm="linf", key=None):
        return x  # as with a step size of 0

    chosen = {"one - step": attacks.fgsm, "many": still, "other": partial(still, norm="l2")}
    found = audited(logits_fn, x, y, chosen, eps=dict.fromkeys(chosen, (0.0, 0.2, 0.5)))
    stepped = attacks.fgsm(logits_fn, x, y, eps=0.5)
    gap = (np.argmax(logits_fn(x), 1) == y).mean() - (np.argmax(logits_fn(stepped), 1) == y).mean()
    assert found.order == {"many - one - step": pytest.approx(gap)} and gap > 0.1
    (warning,) = found.warnings
    assert warning.startswith(
        f"many leaves {100 * gap:.3g} % more of the rows correct than one - step,"
    )


def test_an_iterated_attack_that_fools_hardly_a_row_is_named_beside_another(problem):
    logits_fn, x, y = linear(problem, 100)
    few = partial(attacks.carlini_wagner, num_steps=1, search_steps=1, learning_rate=1e-6)
    ddn = partial(attacks.ddn, num_steps=10)
    bounds = (float(x.min()), float(x.max()))
    found = audited(logits_fn, x, y, {"cw": few, "ddn": ddn}, eps=(0.5,), bounds=bounds)
    x_adv = ddn(logits_fn, x, y, eps=0.5, bounds=bounds)
    right, left = ((np.argmax(logits_fn(rows), 1) == y).mean() for rows in (x, x_adv))
    (warning,) = [text for text in found.warnings if "fools" in text]
    assert right - left > 0.1
    assert warning.startswith(f"cw fools 0 % of the rows, ddn {100 * (right - left):.3g} %: grad")


@pytest.mark.parametrize(
    ("rows", "behind", "warned"),
    [(50, 3, False), (50, 4, True), (1000, 10, False), (1000, 11, True)],
)
def test_a_stronger_attack_may_fall_behind_by_a_few_rows(rows, behind, warned):
    y = np.zeros(rows, int)
    turned = {"noise": 20, "step": 20 - behind}
    found = audit(
        {"noise": attacks.sign_noise, "step": attacks.fgsm},
        {name: {"label": (np.arange(rows) < n)[None]} for name, n in turned.items()},
        y,
        y,
        eps=[0.1],
        probed=dict.fromkeys(PROBED, np.zeros(rows, bool)),
        shape=(1,),
        bounds=None,
    )
    assert found.order == {"step - noise": pytest.approx(behind / rows)}
    assert len(found.warnings) == warned


def of_labels(labels, y, *, attack=attacks.fgsm, eps, shape=(1,), bounds=None):
    """Returns the audit of labels i32[E, N] under one attack if all clean rows are right."""
    return audit(
        {"a": attack},
        {"a": {"label": np.asarray(labels)}},
        y,
        y,
        eps=eps,
        probed=dict.fromkeys(PROBED, np.zeros(len(y), bool)),
        shape=shape,
        bounds=bounds,
    )


# A row of 4 numbers in (-1, 3) is at most 2 from the middle, 1, in linf: 4 in l2, 8 in l1.
@pytest.mark.parametrize(("norm", "enough"), [("linf", 2), ("l2", 4), ("l1", 8), ("rms", 2)])
@pytest.mark.parametrize("reaches", [True, False])
def test_accuracy_above_one_class_at_half_the_width_of_the_bounds_is_reported(
    norm, enough, reaches
):
    eps = enough if reaches else 0.99 * enough
    y = np.repeat([0, 1], [60, 40])
    attack = partial(attacks.fgsm, norm=norm)
    labels = [np.zeros(100, int), np.where(np.arange(100) < 90, y, 2)]
    found = of_labels(labels, y, attack=attack, eps=(0.1, eps), shape=(2, 2), bounds=(-1, 3))
    assert found.at_gray == ({norm: 0.9} if reaches else {})
    assert any("90 % of the rows are correct under all" in w for w in found.warnings) == reaches
    # A guess of the largest class, 60 %, may withstand.
    found = of_labels(labels[:1], y, attack=attack, eps=(eps,), shape=(2, 2), bounds=(-1, 3))
    assert found.warnings == ()


def test_an_accuracy_that_rises_with_eps_is_found_for_any_order_of_sizes():
    y = np.zeros(100, int)
    labels = [(np.arange(100) < wrong) for wrong in (60, 40, 53)]  # eps = .2, .3, .1
    found = of_labels(labels, y, eps=(0.2, 0.3, 0.1))
    assert found.rises == {"a": pytest.approx(0.2)}
    (warning,) = found.warnings
    assert warning.startswith("the accuracy under a rises by 20 points as eps grows")
    assert of_labels(labels, y, attack=attacks.sign_noise, eps=(0.2, 0.3, 0.1)).rises == {}


def test_curves_alone_show_weak_steps_and_rising_accuracy():
    """By hand: of 100 rows, the iterated attack leaves .5 where one step leaves .2."""
    attacks_ = {"fgsm": attacks.fgsm, "pgd": partial(attacks.pgd, num_steps=1)}
    eps, clean, y = [0.1, 0.2], np.array([0.9]), np.arange(100) % 10
    curves = {"fgsm": np.array([0.2, 0.4]), "pgd": np.array([0.5, 0.3])}
    warnings = partial(warnings_of_curves, attacks_, y=y, eps=eps)
    moved = {name: np.array([0.1, 0.2]) for name in attacks_}
    order, rise = warnings(curves, clean_accuracies=clean, changes=moved)
    assert order.startswith("pgd leaves 30 % more of the rows correct than fgsm")
    assert rise.startswith("the accuracy under fgsm rises by 20 points as eps grows")
    sound = {"fgsm": np.array([0.5, 0.4]), "pgd": np.array([0.2, 0.1])}
    assert warnings(sound, clean_accuracies=clean, changes=moved) == ()
    # Of two replicas one has not learned.
    (guess,) = warnings(sound, clean_accuracies=np.array([0.9, 0.1]), changes=moved)
    assert guess.startswith("the model (1 of 2 replicas) is right for 10 % of the rows without")


def test_an_attack_that_changes_no_input_is_named_unless_it_need_not():
    deepfool = partial(attacks.deepfool, norm="linf")
    one = {"fgsm": attacks.fgsm, "deepfool": deepfool, "square": attacks.square}
    flat = {name: np.full(3, 0.1) for name in one}
    changes = {name: np.zeros(3) for name in one}
    y = np.arange(1000) % 20
    (warning,) = warnings_of_curves(
        one, flat, np.array([0.1]), y, eps=[0.0, 0.1, 0.3], changes=changes
    )
    assert warning.startswith("fgsm changes no input: the gradients are exactly 0")
