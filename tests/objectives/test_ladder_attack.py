"""objectives.ladder with attacks: the perturbed inputs and the gradients that attacks follow."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from marks import exhaustive_after, slow_after

from adv_jax import attacks, objectives
from adv_jax.types import Output

pytestmark = pytest.mark.usefixtures("x64")

KEY = jax.random.key(0)
WEIGHTS = (0.5, 2.0)
RNG = np.random.default_rng(0)
BATCH = {"x": RNG.normal(size=(4, 3)), "y": RNG.integers(0, 3, size=4)}
BATCH["unlabeled"] = RNG.normal(size=(4, 3))
# Noise of the labeled and of the unlabeled half, large enough to change a prediction.
W, NOISE = RNG.normal(size=(3, 3)), RNG.normal(size=(2, 4, 3))
X, U, Y = BATCH["x"], BATCH["unlabeled"], BATCH["y"]
LABELED, UNLABELED = 0, 1

both_passes = pytest.mark.parametrize("which", ["corrupted", "clean"])
both_statistics = pytest.mark.parametrize("statistics", ["batch", "frozen"])


class Call(NamedTuple):
    method: str
    train: bool
    key: jax.Array
    inputs: tuple
    options: dict


class Stub:
    """A net of one linear layer with the ladder's passes, which records how it is called.

    `on_batch` adds a fixed noise and centers each unit over the batch, so that a row's gradient
    depends on the others, as behind a batch norm.
    """

    def __init__(self):
        self.calls = []

    def __call__(self, variables, *inputs, train=False, key=None, method=None, **options):
        self.calls.append(Call(method, train, key, inputs, options))
        w = variables["params"]
        if method == "on_batch":
            (x,) = inputs
            a = (x + NOISE[options["half"]] if options["noisy"] else x) @ w
            mean = a.mean(axis=0, keepdims=True)
            return Output(a - (jax.lax.stop_gradient(mean) if options["frozen"] else mean), {}, {})
        labeled, unlabeled, target = inputs
        z = (target, target @ w)
        z_hat = {0: 0.5 * unlabeled, 1: unlabeled @ w * 0.25}
        return Output(labeled @ w, {"z": z, "z_hat": z_hat}, {"batch_stats": 7.0})

    @property
    def autoencoded(self):
        """Returns the inputs of the only training pass."""
        ((*_, inputs, options),) = [call for call in self.calls if call.method == "autoencode"]
        assert options == {}
        return inputs


def numpy_loss(w, labeled, unlabeled, target=U):
    supervised = oracles.cross_entropies(labeled @ w, Y).mean()
    c0 = ((0.5 * unlabeled - target) ** 2).mean()
    c1 = ((0.25 * unlabeled @ w - target @ w) ** 2).mean()
    return supervised + WEIGHTS[0] * c0 + WEIGHTS[1] * c1


def activations(x, half, which, w=W):
    return (x + NOISE[half] if which == "corrupted" else x) @ w


def center(x, half, which):
    return activations(x, half, which).mean(axis=0)


def numpy_gradient(x, labels, half, *, which="corrupted", statistics="batch", w=W):
    """Returns the gradient by x of the stub's cross-entropies, summed over the rows.

    Frozen statistics are computed with W, for any w.
    """
    a = activations(x, half, which, w)
    mean = center(x, half, which) if statistics == "frozen" else a.mean(axis=0)
    by_logits = oracles.softmax(a - mean) - np.eye(3)[labels]
    if statistics == "batch":
        by_logits = by_logits - by_logits.mean(axis=0)
    return by_logits @ w.T


def predicted(x, which="corrupted"):
    a = activations(x, UNLABELED, which)
    return (a - a.mean(axis=0)).argmax(axis=1)


def unit(gradient, radius=1.0):
    return radius * gradient / np.linalg.norm(gradient, axis=1, keepdims=True)


def run(stub, w=W, batch=BATCH, **kwargs):
    batch = jax.tree.map(jnp.asarray, batch)
    variables = {"params": jnp.asarray(w)}
    return objectives.ladder(stub, variables, batch, key=KEY, weights=WEIGHTS, **kwargs)


def loss_and_gradient(w=W, **kwargs):
    return jax.value_and_grad(lambda w: run(Stub(), w, **kwargs)[0])(jnp.asarray(w))


@pytest.mark.slow
def test_the_ladder_without_an_attack_makes_one_pass_of_the_clean_inputs():
    stub = Stub()
    loss, (state, metrics) = run(stub)
    (call,) = stub.calls
    assert call.method == "autoencode" and call.train is True
    for found, name in zip(call.inputs, ("x", "unlabeled", "unlabeled"), strict=True):
        np.testing.assert_array_equal(found, BATCH[name])
    expected = numpy_loss(W, X, U)
    assert float(loss) == pytest.approx(expected, rel=1e-12)
    assert float(metrics["supervised"] + metrics["denoising"]) == pytest.approx(expected)
    assert metrics.keys() == {"accuracy", "supervised", "denoising"}
    assert state == {"batch_stats": 7.0}


@pytest.mark.slow
def test_an_attack_moves_only_the_labeled_half_along_the_sign():
    stub, tau = Stub(), 0.05
    loss, _ = run(stub, attack=partial(attacks.fgsm, eps=tau))
    moved = X + tau * np.sign(numpy_gradient(X, Y, LABELED))
    labeled, unlabeled, target = stub.autoencoded
    np.testing.assert_allclose(labeled, moved, rtol=1e-12)
    np.testing.assert_array_equal(unlabeled, U)
    np.testing.assert_array_equal(target, U)
    assert float(loss) == pytest.approx(numpy_loss(W, moved, U), rel=1e-12)


def test_an_unlabeled_attack_uses_predicted_labels_and_leaves_the_target():
    stub, tau = Stub(), 0.05
    loss, _ = run(stub, unlabeled_attack=partial(attacks.raw_gradient, tau=tau))
    moved = U + tau * numpy_gradient(U, predicted(U), UNLABELED)
    labeled, unlabeled, target = stub.autoencoded
    np.testing.assert_array_equal(labeled, X)
    np.testing.assert_allclose(unlabeled, moved, rtol=1e-12)
    np.testing.assert_array_equal(target, U)
    assert float(loss) == pytest.approx(numpy_loss(W, X, moved), rel=1e-12)


def test_each_attack_moves_one_half():
    # Sign noise on the labeled and 28N, here sqrt(3)N, on the unlabeled half:
    # [maronas2016], sec. 6.2.1.
    stub = Stub()
    run(
        stub,
        attack=partial(attacks.fgsm, eps=0.1),
        unlabeled_attack=partial(attacks.fgsm, eps=0.02, norm="rms"),
    )
    direction = unit(numpy_gradient(U, predicted(U), UNLABELED), np.sqrt(3))
    labeled, unlabeled, target = stub.autoencoded
    signs = np.sign(numpy_gradient(X, Y, LABELED))
    np.testing.assert_allclose(labeled, X + 0.1 * signs)
    np.testing.assert_allclose(unlabeled, U + 0.02 * direction, rtol=1e-12)
    np.testing.assert_array_equal(target, U)


# [maronas2016], eq. 35 and 56 to 59, leaves open: the pass whose gradient is taken, the labels
# of the unlabeled half, whether the noise is constant, the statistics, a gradient of zero.


@both_passes
@both_statistics
def test_the_numpy_gradient_of_the_stub_is_the_finite_difference(which, statistics):
    for half, x in enumerate((X, U)):
        at_x = center(x, half, which)

        def loss(x, half=half, at_x=at_x):
            a = activations(x, half, which)
            mean = at_x if statistics == "frozen" else a.mean(axis=0)
            return oracles.cross_entropies(a - mean, Y).sum()

        found = numpy_gradient(x, Y, half, which=which, statistics=statistics)
        np.testing.assert_allclose(found, oracles.numerical_gradient(loss, x), atol=1e-8)


@both_passes
@both_statistics
def test_an_attack_uses_the_configured_pass_and_statistics(which, statistics):
    stub, options = Stub(), {"which": which, "statistics": statistics}
    attack = partial(attacks.raw_gradient, tau=0.3)
    run(
        stub,
        attack=attack,
        unlabeled_attack=attack,
        gradient_pass=which,
        statistics=statistics,
    )
    labeled, unlabeled, target = stub.autoencoded
    x_adv = X + 0.3 * numpy_gradient(X, Y, LABELED, **options)
    np.testing.assert_allclose(labeled, x_adv, rtol=1e-12)
    # Labels of the corrupted pass, whatever the gradient is of.
    u_adv = U + 0.3 * numpy_gradient(U, predicted(U), UNLABELED, **options)
    np.testing.assert_allclose(unlabeled, u_adv, rtol=1e-12)
    np.testing.assert_array_equal(target, U)


@both_passes
def test_virtual_labels_are_predictions_of_the_configured_pass(which):
    stub = Stub()
    attack = partial(attacks.raw_gradient, tau=0.3)
    run(stub, unlabeled_attack=attack, virtual_labels=which)
    assert (predicted(U, "clean") != predicted(U, "corrupted")).any()
    u_adv = U + 0.3 * numpy_gradient(U, predicted(U, which), UNLABELED)
    np.testing.assert_allclose(stub.autoencoded[1], u_adv, rtol=1e-12)


def test_virtual_labels_do_not_depend_on_true_labels():
    # The same images in both halves, as with all labels; then with other labels.
    same = BATCH | {"x": U}
    assert (predicted(U) != Y).any()
    attack = partial(attacks.raw_gradient, tau=0.3)
    inputs = []
    for y in (Y, predicted(U), (Y + 1) % 3):
        stub = Stub()
        run(stub, batch=same | {"y": y}, attack=attack, unlabeled_attack=attack)
        inputs.append(stub.autoencoded)
    for other in inputs[1:]:
        np.testing.assert_array_equal(other[1], inputs[0][1])
        assert np.abs(other[0] - inputs[0][0]).max() > 0.01


def recording(keys):
    def attack(logits_fn, x, y, *, key):
        keys.append(key)
        logits_fn(x)
        logits_fn(x + 1)
        return x

    return attack


def bits(key):
    return jax.random.key_data(key).tobytes()


@both_statistics
@both_passes
def test_each_attack_queries_its_half_after_the_virtual_labels(which, statistics):
    stub = Stub()
    other = {"clean": "corrupted", "corrupted": "clean"}[which]
    run(
        stub,
        attack=recording([]),
        unlabeled_attack=recording([]),
        gradient_pass=which,
        virtual_labels=other,
        statistics=statistics,
    )
    # Two looks of each attack; before those of the second, the virtual labels.
    frozen = statistics == "frozen"
    options = lambda which, half: {"noisy": which == "corrupted", "half": half, "frozen": frozen}
    assert [call.options for call in stub.calls] == [
        options(which, LABELED),
        options(which, LABELED),
        options(other, UNLABELED),
        options(which, UNLABELED),
        options(which, UNLABELED),
        {},
    ]
    assert [call.method for call in stub.calls] == ["on_batch"] * 5 + ["autoencode"]
    assert all(call.train for call in stub.calls)


def test_fresh_noise_differs_between_halves_and_is_fixed_during_an_attack():
    stub, keys = Stub(), []
    run(stub, attack=recording(keys), unlabeled_attack=recording(keys), draw="fresh")
    first, second, *third, training = (bits(call.key) for call in stub.calls)
    assert first == second and len(set(third)) == 1
    assert len({first, third[0], training, *map(bits, keys)}) == 5


def test_same_noise_in_attacks_equals_the_noise_of_the_update():
    stub, keys = Stub(), []
    run(stub, attack=recording(keys), unlabeled_attack=recording(keys), draw="same")
    assert len({bits(call.key) for call in stub.calls}) == 1
    # The update and the attacks' own numbers are as with a fresh one.
    fresh, fresh_keys = Stub(), []
    run(fresh, attack=recording(fresh_keys), unlabeled_attack=recording(fresh_keys))
    assert bits(fresh.calls[-1].key) == bits(stub.calls[-1].key)
    assert [*map(bits, fresh_keys)] == [*map(bits, keys)]


@pytest.mark.slow
@both_statistics
@pytest.mark.parametrize("constant", exhaustive_after(1, [True, False]))
def test_attacks_of_size_zero_equal_the_ladder_without_attacks_bit_for_bit(constant, statistics):
    # The keys of the training pass do not depend on the attacks, nor does a zero step move x.
    none = loss_and_gradient()
    options = {"constant": constant, "norm": "l2"}
    for zero in (
        partial(attacks.fgsm, eps=0.0, **options),
        partial(attacks.raw_gradient, tau=0.0, constant=constant),
    ):
        for kwargs in ({"attack": zero}, {"unlabeled_attack": zero}):
            found = loss_and_gradient(**kwargs, statistics=statistics, draw="same")
            jax.tree.map(np.testing.assert_array_equal, found, none)
    stubs = Stub(), Stub()
    run(stubs[0])
    run(stubs[1], attack=zero, unlabeled_attack=zero)
    assert bits(stubs[0].calls[-1].key) == bits(stubs[1].calls[-1].key)


STEPS = {
    "udg": (partial(attacks.raw_gradient, tau=0.3), lambda g: 0.3 * g),
    "1n": (partial(attacks.fgsm, eps=0.3, norm="l2"), lambda g: unit(g, 0.3)),
    "qn": (partial(attacks.fgsm, eps=0.2, norm="rms"), lambda g: unit(g, 0.2 * np.sqrt(3))),
}


def perturbed_inputs(step, w=W, **options):
    x_adv = X + step(numpy_gradient(X, Y, LABELED, w=w, **options))
    return x_adv, U + step(numpy_gradient(U, predicted(U), UNLABELED, w=w, **options))


@pytest.mark.parametrize(("attack", "step"), STEPS.values(), ids=STEPS)
def test_constant_perturbations_have_no_derivative_in_the_update(attack, step):
    value, gradient = loss_and_gradient(attack=attack, unlabeled_attack=attack)
    inputs = perturbed_inputs(step)
    assert float(value) == pytest.approx(numpy_loss(W, *inputs), rel=1e-12)
    expected = oracles.numerical_gradient(lambda w: numpy_loss(w, *inputs), W)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(("attack", "step"), STEPS.values(), ids=STEPS)
@both_statistics
def test_the_update_differentiates_perturbations_that_are_not_constant(attack, step, statistics):
    attack = partial(attack, constant=False)
    value, gradient = loss_and_gradient(
        attack=attack, unlabeled_attack=attack, statistics=statistics
    )
    loss = lambda w: numpy_loss(w, *perturbed_inputs(step, w, statistics=statistics))
    assert float(value) == pytest.approx(loss(W), rel=1e-12)
    through = oracles.numerical_gradient(loss, W)
    np.testing.assert_allclose(gradient, through, rtol=1e-5, atol=1e-7)
    inputs = perturbed_inputs(step, statistics=statistics)
    as_data = oracles.numerical_gradient(lambda w: numpy_loss(w, *inputs), W)
    assert np.abs(through - as_data).max() > 0.01


def test_the_update_through_a_sign_equals_the_update_with_constants():
    attack = partial(attacks.fgsm, eps=0.1)
    gradients = [
        loss_and_gradient(attack=partial(attack, constant=constant))[1]
        for constant in (True, False)
    ]
    np.testing.assert_allclose(*gradients, rtol=1e-12)


@both_statistics
@pytest.mark.parametrize("norm", slow_after(2, ["linf", "l2", "l1", "rms"]))
def test_a_zero_gradient_moves_no_input_of_the_ladder_and_stays_finite(norm, statistics):
    # A softmax of logits that are thousands apart is exactly 0 and 1.
    stub, w = Stub(), 1e5 * W
    attack = partial(attacks.fgsm, eps=0.3, norm=norm, constant=False)
    run(stub, w, unlabeled_attack=attack, statistics=statistics)
    np.testing.assert_array_equal(stub.autoencoded[1], U)
    value, gradient = loss_and_gradient(w, unlabeled_attack=attack, statistics=statistics)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_the_size_of_a_ladder_attack_may_be_traced():
    tau = jnp.array([0.0, 0.05])
    losses = jax.jit(jax.vmap(lambda tau: run(Stub(), attack=partial(attacks.fgsm, eps=tau))[0]))(
        tau
    )
    signs = np.sign(numpy_gradient(X, Y, LABELED))
    expected = [numpy_loss(W, X, U), numpy_loss(W, X + 0.05 * signs, U)]
    np.testing.assert_allclose(losses, expected, rtol=1e-9)


# Settings that do not fit.


@pytest.mark.parametrize(
    ("field", "allowed"),
    [
        ("gradient_pass", "corrupted, clean"),
        ("virtual_labels", "corrupted, clean"),
        ("draw", "fresh, same"),
        ("statistics", "batch, frozen"),
        ("attacked_layers", "input, all"),
    ],
)
def test_unknown_settings_of_the_ladder_are_refused_by_name(field, allowed):
    for wrong in ("none", "Clean", ""):
        words = f"{field} must be one of {allowed}, got {wrong!r}"
        with pytest.raises(ValueError, match=words):
            run(Stub(), **{field: wrong})


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 1.0, 1.0), ()])
def test_weights_for_another_number_of_layers_are_refused_by_name(weights):
    batch = jax.tree.map(jnp.asarray, BATCH)
    words = f"objective.weights must have 2 entries, .*, got {len(weights)}$"
    with pytest.raises(ValueError, match=words):
        objectives.ladder(Stub(), {"params": jnp.asarray(W)}, batch, key=KEY, weights=weights)


def test_the_ladder_without_weights_is_the_supervised_cost():
    batch = jax.tree.map(jnp.asarray, BATCH)
    loss, (_, metrics) = objectives.ladder(
        Stub(), {"params": jnp.asarray(W)}, batch, key=KEY, weights=(0.0, 0.0)
    )
    expected = oracles.cross_entropies(X @ W, Y).mean()
    assert float(loss) == pytest.approx(expected, rel=1e-12)
    assert float(metrics["denoising"]) == 0
