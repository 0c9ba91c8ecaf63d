"""models.preact_resnet: published sizes, a block in NumPy, identities, and every objective."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.signal
from marks import exhaustive_after

from adv_jax import attacks, models, objectives
from adv_jax.models.residual import Block
from adv_jax.step import init_state, make_step, over_replicas, over_steps

KEY = jax.random.key(0)
SMALL = models.preact_resnet(stem=3, stages=(4, 6), blocks=1, num_classes=3)
FGSM = partial(attacks.fgsm, eps=0.1)


def images(size=6, shape=(8, 8, 2), seed=0):
    return np.random.default_rng(seed).normal(size=(size, *shape)).astype(np.float32)


def labels(size=6):
    return jnp.asarray(np.arange(size) % 3)


def random_variables(model, x):
    """Variables of the model's shapes from NumPy; variances are positive."""
    shapes = jax.eval_shape(lambda: models.init(model, KEY, x))
    rng = np.random.default_rng(1)
    draw = lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32)
    variables = jax.tree.map(draw, dict(shapes))
    variables["batch_stats"] = jax.tree.map(lambda v: v**2 + 0.5, variables["batch_stats"])
    return variables


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 11_172_170),  # PreAct-ResNet-18: 11.17 million
        ({"stem": 16, "stages": (160, 320, 640), "blocks": 4}, 36_479_194),  # WRN-28-10: 36.5
    ],
)
def test_the_published_nets_have_their_number_of_weights(settings, count):
    model = models.preact_resnet(**settings)
    x = jnp.zeros((2, 32, 32, 3))
    variables = jax.eval_shape(lambda: models.init(model, KEY, x))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == count
    output = jax.eval_shape(models.apply_fn(model), variables, x)
    side, maps = 32 // 2 ** (len(model.stages) - 1), model.stages[-1]
    layers = len(model.stages) * model.blocks + 2
    assert output.extras[f"hidden{layers - 1}"].shape == (2, side, side, maps)
    assert output.extras[f"hidden{layers}"].shape == (2, maps)


def numpy_conv(h, kernel, stride):
    """Convolves images f[B, H, W, C] with zeros around them, by SciPy in float64."""
    margin = kernel.shape[0] // 2
    padded = np.pad(h, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    maps = [
        [scipy.signal.correlate(image, kernel[..., o], mode="valid")[..., 0] for image in padded]
        for o in range(kernel.shape[3])
    ]
    return np.moveaxis(np.array(maps), 0, -1)[:, ::stride, ::stride]


def numpy_norm(h, layer, stats):
    mean, var = (h.mean((0, 1, 2)), h.var((0, 1, 2))) if stats is None else stats
    return (h - mean) / np.sqrt(var + 1e-5) * layer["scale"] + layer["bias"]


def numpy_block(params, h, stride, stats):
    """[he2016], Fig. 4 (e); stats: those of each norm, or None for the batch's own."""
    at = lambda name: None if stats is None else (stats[name]["mean"], stats[name]["var"])
    a = np.maximum(numpy_norm(h, params["norm1"], at("norm1")), 0)
    shortcut = numpy_conv(a, params["shortcut"]["kernel"], stride) if "shortcut" in params else h
    a = numpy_conv(a, params["conv1"]["kernel"], stride)
    a = np.maximum(numpy_norm(a, params["norm2"], at("norm2")), 0)
    return shortcut + numpy_conv(a, params["conv2"]["kernel"], 1)


@pytest.mark.slow
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(("maps", "stride"), [(2, 1), (5, 1), (5, 2), (2, 2)])
def test_a_block_equals_the_numpy_version(maps, stride, train):
    h = images(shape=(7, 6, 2))
    block = Block(maps, stride)
    shapes = jax.eval_shape(partial(block.init, train=True), KEY, h)
    rng = np.random.default_rng(2)
    variables = jax.tree.map(lambda s: rng.uniform(0.2, 1, s.shape).astype("f"), dict(shapes))
    found, state = block.apply(variables, h, train=train, mutable=["batch_stats"])
    fine = jax.tree.map(np.float64, variables)
    stats = None if train else fine["batch_stats"]
    expected = numpy_block(fine["params"], np.float64(h), stride, stats)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert ("shortcut" in variables["params"]) == (maps != 2 or stride != 1)
    stored = state["batch_stats"]["norm1"]
    if train:  # The statistics of this batch alone.
        np.testing.assert_allclose(stored["mean"], h.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(stored["var"], h.var((0, 1, 2)) * 252 / 251, rtol=1e-4)
    else:
        np.testing.assert_array_equal(stored["mean"], variables["batch_stats"]["norm1"]["mean"])


def test_a_block_whose_last_normalization_has_scale_0_is_the_identity():
    h, block = images(), Block(2)
    variables = dict(block.init(KEY, h, train=True))
    params = dict(variables["params"])
    params["norm2"] = {"scale": jnp.zeros(2), "bias": jnp.zeros(2)}
    found = block.apply(variables | {"params": params}, h, train=False)
    np.testing.assert_array_equal(found, h)


@pytest.mark.slow
def test_gradients_equal_finite_differences():
    with jax.enable_x64(True):
        x = images(size=3)
        variables = jax.tree.map(np.float64, random_variables(SMALL, x))
        x = np.float64(x)
        apply = models.apply_fn(SMALL.clone(activation="tanh"))

        @jax.jit
        def loss(params, x):
            logits = apply({**variables, "params": params}, x, train=True).logits
            return jnp.sum(jnp.sin(logits))

        by_params, by_x = jax.jit(jax.grad(loss, (0, 1)))(variables["params"], x)
        rng, h = np.random.default_rng(3), 1e-6
        step = jax.tree.map(lambda v: rng.normal(size=v.shape), (variables["params"], x))
        moved = lambda sign: jax.tree.map(
            lambda v, s: v + sign * h * s, (variables["params"], x), step
        )
        slope = (loss(*moved(1)) - loss(*moved(-1))) / (2 * h)
        products = jax.tree.map(lambda g, s: float(np.sum(g * s)), (by_params, by_x), step)
        assert sum(jax.tree.leaves(products)) == pytest.approx(float(slope), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("layer", [2, 1, 3, 4])
def test_both_halves_compose_to_the_net(layer):
    x, apply = images(), models.apply_fn(SMALL)
    variables = random_variables(SMALL, x)
    whole = apply(variables, x)
    h = apply(variables, x, method="represent", layer=layer).logits
    np.testing.assert_array_equal(h, whole.extras[f"hidden{layer}"])
    upper = apply(variables, h, method="classify", layer=layer).logits
    np.testing.assert_array_equal(upper, whole.logits)


@pytest.mark.slow
def test_bfloat16_is_the_arithmetic_of_the_layers_alone():
    x = images()
    variables = random_variables(SMALL, x)
    apply = models.apply_fn(SMALL.clone(dtype="bfloat16"))
    fine = models.apply_fn(SMALL)(variables, x).logits
    output = apply(variables, x, train=True)
    assert {leaf.dtype for leaf in jax.tree.leaves(output)} == {jnp.dtype("float32")}
    size = np.abs(fine).max()
    assert 1e-4 * size < np.abs(apply(variables, x).logits - fine).max() < 0.05 * size


OBJECTIVES = {
    "lwa_rep": partial(objectives.lwa_rep, attack=FGSM, layer=2),  # updates each half apart
    "cross_entropy": objectives.cross_entropy,
    "lwa": partial(objectives.lwa, attack=FGSM),
    "adversarial_mix": partial(objectives.adversarial_mix, attack=FGSM),
    "adversarial_backprop": partial(objectives.adversarial_backprop, attack=FGSM),
    "label_smoothing": partial(objectives.label_smoothing, smoothing=0.1),
    "consistency": partial(objectives.consistency, attack=FGSM),
    "virtual_adversarial_training": partial(
        objectives.virtual_adversarial_training,
        attack=partial(attacks.virtual_adversarial, eps=0.1, num_steps=1),
    ),
}


def state_and_steps(objective, optimizer):
    x = images()
    state = init_state(models.init(SMALL, KEY, x), optimizer, seed=1)
    batch = {"x": x, "y": labels(), "unlabeled": x, "second": x[:, :, ::-1]}
    batches = jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * 2), batch)
    step = make_step(partial(objective, models.apply_fn(SMALL)), optimizer)
    return state, batches, over_steps(step)


@pytest.mark.slow
@pytest.mark.parametrize("name", exhaustive_after(3, OBJECTIVES))
def test_every_objective_trains_the_net_and_updates_all_statistics(name):
    state, batches, steps = state_and_steps(OBJECTIVES[name], optax.sgd(0.1))
    after, metrics = jax.jit(steps)(state, batches)
    assert np.isfinite(metrics["loss"]).all()
    changed = lambda old, new: bool(np.any(np.asarray(old) != np.asarray(new)))
    stats = jax.tree.map(changed, state.model_state, dict(after.model_state))
    assert all(jax.tree.leaves(stats))
    assert any(jax.tree.leaves(jax.tree.map(changed, state.params, after.params)))


@pytest.mark.slow
def test_replicas_and_a_resumed_run_equal_single_runs():
    state, batches, steps = state_and_steps(OBJECTIVES["lwa"], optax.sgd(0.1))
    whole, _ = jax.jit(steps)(state, batches)
    half = lambda i: jax.tree.map(lambda leaf: leaf[i : i + 1], batches)
    resumed = state
    for i in range(2):
        resumed, _ = jax.jit(steps)(jax.tree.map(np.array, resumed), half(i))
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, resumed, whole)
    twice = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), (state, batches))
    replicas, _ = jax.jit(over_replicas(steps))(*twice)
    jax.tree.map(lambda found, one: close(found[1], one), replicas, whole)


@pytest.mark.slow
def test_recomputed_blocks_give_the_same_gradients_from_fewer_stored_values():
    x, y = images(8, (8, 8, 3)), labels(8)
    deep = {"stem": 4, "stages": (4, 8), "blocks": 3, "num_classes": 3}
    plain, recomputed = (models.preact_resnet(**deep, recompute=b) for b in (False, True))
    variables = random_variables(plain, x)
    found, stored = [], []
    for model in (plain, recomputed):
        apply = models.apply_fn(model)

        def loss(params, x, apply=apply):
            everything = {**variables, "params": params}
            return objectives.cross_entropy(apply, everything, {"x": x, "y": y}, key=KEY)[0]

        backward = jax.eval_shape(
            lambda *at, loss=loss: jax.vjp(loss, *at)[1], variables["params"], x
        )
        stored.append(sum(leaf.size for leaf in jax.tree.leaves(backward)))
        # The loops of attacks rewrite convolutions, in recomputed blocks too.
        logits_fn = lambda x, apply=apply: apply(variables, x).logits
        x_adv = attacks.pgd(logits_fn, x, y, eps=0.1, step_size=0.05, num_steps=2)
        found.append((jax.jit(jax.grad(loss, (0, 1)))(variables["params"], x), x_adv))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), *found)
    # The inputs of six blocks and the parameters remain, of about ten arrays in each.
    assert stored[1] < 0.4 * stored[0]
