"""The two halves of a batch in models.ladder and their noise, random and adversarial."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import scipy.stats
from ladders import (
    BATCH,
    FC,
    MODULE,
    SMALL,
    Net,
    autoencode,
    compiled,
    cost,
    fix_noise,
    in_float32,
    make_apply,
    nets,
    noise_of,
    on_batch,
    oracle_of,
    random_batch,
    random_variables,
    run_of,
)
from marks import exhaustive_after

from adv_jax import attacks

# Noise, and the two halves.


@pytest.fixture
def drawn(monkeypatch):
    """Returns a function: run -> the noise that the model draws, a tuple of f32[*G, B, *S_l]."""
    draws = MODULE.draws

    def record(run):
        def recorded():
            noise = []
            keep = lambda *args, **kwargs: noise.append(draws(*args, **kwargs)) or noise[-1]
            monkeypatch.setattr(MODULE, "draws", keep)
            run()
            return tuple(noise)

        return compiled(recorded)()

    return record


@pytest.mark.slow
def test_every_layer_and_half_draws_independent_standard_normal_noise(drawn):
    variables, x = jax.tree.map(jnp.float32, random_variables()), jnp.ones((300, 6))
    recorded = drawn(lambda: autoencode(make_apply(), variables, {"x": x, "unlabeled": x}))
    assert [noise.shape for noise in recorded] == [(2, 300, *shape) for shape in FC.shapes]
    columns = np.concatenate([np.moveaxis(n, 1, 2).reshape(-1, 300) for n in recorded])
    assert scipy.stats.kstest(columns.ravel(), "norm").pvalue > 1e-3
    # No column repeats another: of 861 pairs of 300 numbers, |r| > .25 (4.3 sd) in none.
    correlation = np.corrcoef(columns) - np.eye(len(columns))
    assert np.abs(correlation).max() < 0.25


@pytest.mark.slow
def test_only_layers_with_noise_draw_it_and_as_beside_others(drawn):
    variables, x = jax.tree.map(jnp.float32, random_variables()), jnp.ones((4, 6))
    of = lambda **settings: drawn(
        lambda: autoencode(make_apply(**settings), variables, {"x": x, "unlabeled": x})
    )
    bottom, _, _, top = of()
    for noise, own in zip(of(noise_std=(0.3, 0, 0, 0.3)), (bottom, top), strict=True):
        np.testing.assert_array_equal(noise, own)


@pytest.mark.slow
def test_the_noise_of_a_half_does_not_depend_on_the_other_half(drawn):
    variables, batch = in_float32(random_variables(), random_batch())
    apply, x = make_apply(), batch["x"]
    both = drawn(lambda: autoencode(apply, variables, batch))
    labels_alone = make_apply(denoising="0")
    for half, run in [
        (0, lambda: autoencode(labels_alone, variables, batch)),
        (0, lambda: on_batch(apply, variables, x, noisy=True, half=0, frozen=False)),
        (1, lambda: on_batch(apply, variables, x, noisy=True, half=1, frozen=True)),
    ]:
        for alone, beside in zip(drawn(run), both, strict=True):
            np.testing.assert_array_equal(alone, beside[half])
    for labeled, unlabeled in both:
        assert np.abs(labeled - unlabeled).min() > 0
    assert drawn(lambda: on_batch(apply, variables, x, noisy=False, half=0, frozen=False)) == ()


@nets("fc", slow=["small"])
def test_on_batch_equals_either_half_of_the_training_passes(x64, monkeypatch, net):
    variables, batch, expected = random_variables(net), random_batch(net), run_of(net).expected
    fix_noise(monkeypatch, net)

    @compiled
    def passes(variables, halves):
        run = partial(on_batch, make_apply(net), variables, frozen=False)
        each = lambda noisy: [run(x, noisy=noisy, half=half) for half, x in enumerate(halves)]
        return each(True), each(False)

    found = passes(variables, (batch["x"], batch["unlabeled"]))
    for halves, both in zip(found, (expected.corrupted, expected.clean), strict=True):
        for half, (logits, extras, state) in enumerate(halves):
            expected_logits = oracle_of(variables, net).logits(both.z[-1][half])
            np.testing.assert_allclose(logits, expected_logits, rtol=1e-8)
            for z, expected_z in zip(extras["z"], both.z, strict=True):
                np.testing.assert_allclose(z, expected_z[half], rtol=1e-8, atol=1e-10)
            # Nothing is stored.
            stats = variables["batch_stats"]
            jax.tree.map(np.testing.assert_array_equal, state["batch_stats"], stats)


@pytest.mark.slow
def test_on_batch_with_the_training_key_has_the_labeled_logits_of_training():
    variables, batch = in_float32(random_variables(), random_batch())
    apply, keys = make_apply(), [jax.random.key(5), jax.random.key(6)]

    @compiled
    def both(variables, batch):
        run = partial(on_batch, apply, variables, noisy=True, half=0, frozen=False)
        trained = autoencode(apply, variables, batch, keys[0])
        return trained.logits, *(run(batch["x"], key).logits for key in keys)

    expected, same, other = both(variables, batch)
    np.testing.assert_allclose(same, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(other - expected).min() > 1e-3


@pytest.mark.slow
def test_neither_half_of_the_batch_depends_on_the_other():
    variables, batch = in_float32(random_variables(), random_batch())
    run = compiled(partial(autoencode, make_apply()))
    logits, extras, _ = run(variables, batch)
    of_labeled = run(variables, batch | {"unlabeled": batch["x"] ** 2})
    np.testing.assert_array_equal(of_labeled.logits, logits)
    of_unlabeled = run(variables, batch | {"x": batch["unlabeled"] + 1})
    jax.tree.map(np.testing.assert_array_equal, of_unlabeled.extras, extras)
    assert np.abs(of_unlabeled.logits - logits).min() > 0


@pytest.mark.parametrize(
    ("net", "noisy"),
    exhaustive_after(2, [(FC, True), (FC, False), (SMALL, True)]),
    ids=["fc", "fc-clean", "small"],
)
def test_frozen_statistics_are_constants_of_the_input_gradient(x64, monkeypatch, net, noisy):
    variables, batch = random_variables(net), random_batch(net)
    oracle, x, y = oracle_of(variables, net), batch["x"], batch["y"]
    noise = noise_of(net) if noisy else None
    fix_noise(monkeypatch, net)

    def numpy_loss(x, moments=None):
        z = oracle.encode([x, x], noise, moments).z[-1][1]
        return oracles.cross_entropies(oracle.logits(z), y).sum()

    def loss(x, frozen):
        apply = make_apply(net)
        logits = on_batch(apply, variables, x, noisy=noisy, half=1, frozen=frozen).logits
        return -jnp.sum(jax.nn.log_softmax(logits)[jnp.arange(BATCH), y])

    moments = oracle.encode([x, x], noise).moments
    expected = {
        False: oracles.numerical_gradient(numpy_loss, x),
        True: oracles.numerical_gradient(lambda x: numpy_loss(x, moments), x),
    }
    both = lambda x: {frozen: jax.value_and_grad(loss)(x, frozen) for frozen in (False, True)}
    for frozen, (value, by_x) in compiled(both)(x).items():
        assert float(value) == pytest.approx(numpy_loss(x), rel=1e-8)
        np.testing.assert_allclose(by_x, expected[frozen], rtol=1e-5, atol=1e-7)
    assert np.abs(expected[True] - expected[False]).max() > 0.1 * np.abs(expected[False]).max()


# Adversarial noise. What else objectives.ladder does with it, test_ladder_attack.py has.


def adversarial(oracle, x, labels, half, radius):
    """x + radius * direction of the gradient of the corrupted pass, in NumPy."""

    def loss(x):
        z = oracle.encode([x, x], noise_of()).z[-1][half]
        return oracles.cross_entropies(oracle.logits(z), labels).sum()

    gradient = oracles.numerical_gradient(loss, x)
    return x + radius * gradient / np.linalg.norm(gradient, axis=1, keepdims=True)


@pytest.mark.slow
def test_the_cost_with_adversarial_noise_on_both_halves_equals_the_numpy_version(x64, monkeypatch):
    fix_noise(monkeypatch)
    variables, batch, oracle = random_variables(), random_batch(), oracle_of(random_variables())
    x, y, u = batch["x"], batch["y"], batch["unlabeled"]
    options = {
        "attack": partial(attacks.fgsm, eps=0.2, norm="l2"),
        "unlabeled_attack": partial(attacks.fgsm, eps=0.1, norm="rms"),
    }
    loss, _ = compiled(partial(cost, make_apply(), FC.weights, **options))(variables, batch)
    virtual = oracle.logits(oracle.encode([x, u], noise_of()).z[-1][1]).argmax(axis=1)
    inputs = (
        adversarial(oracle, x, y, 0, 0.2),
        adversarial(oracle, u, virtual, 1, 0.1 * np.sqrt(6)),
    )
    expected = oracle(x, y, u, noise_of(), corrupted_inputs=inputs)
    total = expected.supervised + np.dot(FC.weights, list(expected.C.values())[::-1])
    assert float(loss) == pytest.approx(total, rel=1e-7)
    assert abs(float(loss) - run_of().loss) > 0.01


POOLED = Net("convv:3:2:1:1-maxpool:2:2-globalmeanpool", ((4, 3, 1), (3, 2, 3), (2, 1, 3), (3,)))
SHORT = Net("5-3", ((4,), (5,), (3,)))


@pytest.mark.slow
@pytest.mark.parametrize("net", exhaustive_after(1, [SHORT, POOLED]), ids=["fc", "pooled"])
def test_the_update_may_run_through_the_perturbations_of_a_whole_ladder(x64, monkeypatch, net):
    fix_noise(monkeypatch, net)
    variables, batch = random_variables(net), random_batch(net)
    params, along = (random_variables(net, seed)["params"] for seed in (0, 7))
    options = {
        "attack": partial(attacks.fgsm, eps=0.2, norm="l2", constant=False),
        "unlabeled_attack": partial(attacks.raw_gradient, tau=0.2, constant=False),
    }

    @compiled
    def loss_and_gradient(params):
        loss = lambda params: cost(
            make_apply(net), net.weights, {**variables, "params": params}, batch, **options
        )
        return jax.value_and_grad(loss, has_aux=True)(params)

    def loss(step):
        at = jax.tree.map(lambda a, b: a + step * b, params, along)
        return float(loss_and_gradient(at)[0][0])

    _, gradient = loss_and_gradient(params)
    dot = sum(jax.tree.leaves(jax.tree.map(np.vdot, gradient, along)))
    # Here it is the derivative of the loss, not of the loss at points that stay.
    assert dot == pytest.approx((loss(1e-6) - loss(-1e-6)) / 2e-6, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("net", [SHORT, SHORT._replace(denoising="0")], ids=["ladder", "alone"])
def test_noise_in_all_layers_follows_the_gradient_of_each_layer(x64, monkeypatch, net):
    fix_noise(monkeypatch, net)
    variables, batch = random_variables(net), random_batch(net)
    oracle, noise, std = oracle_of(variables, net), noise_of(net), net.noise_std
    inputs, eps = (batch["x"], batch["unlabeled"]), 0.2
    virtual = oracle.logits(oracle.encode(inputs, noise).z[-1][1]).argmax(axis=1)

    def moved(half, layer, step):
        added = [list(of_half) for of_half in noise]
        added[half][layer] = added[half][layer] + step / std[layer]
        return added

    def step(half, layer, labels):
        def loss(step):
            z = oracle.encode(inputs, moved(half, layer, step)).z[-1][half]
            return oracles.cross_entropies(oracle.logits(z), labels).sum()

        gradient = oracles.numerical_gradient(loss, np.zeros_like(noise[half][layer]))
        rms = np.sqrt(np.mean(gradient**2, axis=1, keepdims=True))
        return eps * gradient / rms

    perturbed = [
        [n + step(half, layer, labels) / std[layer] for layer, n in enumerate(noise[half])]
        for half, labels in enumerate((batch["y"], virtual))
    ]
    expected = oracle(batch["x"], batch["y"], batch["unlabeled"], perturbed)
    total = expected.supervised + sum(net.weights[layer] * c for layer, c in expected.C.items())
    attack = partial(attacks.fgsm, eps=eps, norm="rms")
    options = {"attack": attack, "unlabeled_attack": attack, "attacked_layers": "all"}
    loss, _ = compiled(partial(cost, make_apply(net), net.weights, **options))(variables, batch)
    assert float(loss) == pytest.approx(total, rel=1e-7)


@pytest.mark.slow
def test_attacks_of_size_zero_equal_the_ladder_without_attacks(monkeypatch):
    fix_noise(monkeypatch, SHORT)
    variables, batch = in_float32(random_variables(SHORT), random_batch(SHORT))

    def loss_and_gradient(eps, params):
        attack = None if eps is None else partial(attacks.fgsm, eps=eps)
        options = {"attack": attack, "unlabeled_attack": attack}
        run = partial(cost, make_apply(SHORT), SHORT.weights, batch=batch, **options)
        loss = lambda params: run(variables={**variables, "params": params})
        return jax.value_and_grad(loss, has_aux=True)(params)

    found = compiled(loss_and_gradient)(jnp.float32(0), variables["params"])
    none = compiled(partial(loss_and_gradient, None))(variables["params"])
    jax.tree.map(np.testing.assert_array_equal, found, none)
