"""models.ladder_spec: strings of the reference program, and strings that are refused."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adv_jax import models
from adv_jax.models.ladder_spec import LayerSpec, parse_denoising, parse_layers

# As in the README of the program of [rasmus2015], and what the layers leave of an image:
# string, shape of the input, heights and widths of the images, maps or units of the layers.
REFERENCE = {
    "fc": ("1000-500-250-250-250-10", (28, 28, 1), [], [1000, 500, 250, 250, 250, 10]),
    "conv-fc": (
        "convv:1000:26:1:1-convv:500:1:1:1-convv:250:1:1:1-convv:250:1:1:1-convv:250:1:1:1-"
        "convv:10:1:1:1-globalmeanpool:0",
        (28, 28, 1),
        [3, 3, 3, 3, 3, 3],
        [1000, 500, 250, 250, 250, 10, 10],
    ),
    "conv-small": (
        "convf:32:5:1:1-maxpool:2:2-convv:64:3:1:1-convf:64:3:1:1-maxpool:2:2-"
        "convv:128:3:1:1-convv:10:1:1:1-globalmeanpool:6:6-fc:10",
        (28, 28, 1),
        [32, 16, 14, 16, 8, 6, 6],
        [32, 32, 64, 64, 64, 128, 10, 10, 10],
    ),
    "conv-large": (
        "convv:96:3:1:1-convf:96:3:1:1-convf:96:3:1:1-maxpool:2:2-convv:192:3:1:1-"
        "convf:192:3:1:1-convv:192:3:1:1-maxpool:2:2-convv:192:3:1:1-convv:192:1:1:1-"
        "convv:10:1:1:1-globalmeanpool:0",
        (32, 32, 3),
        [30, 32, 34, 17, 15, 17, 15, 8, 6, 6, 6],
        [96, 96, 96, 96, 192, 192, 192, 192, 192, 192, 10, 10],
    ),
}
every_reference = pytest.mark.parametrize(
    ("spec", "image", "sides", "channels"), REFERENCE.values(), ids=REFERENCE
)


@pytest.mark.slow
@every_reference
def test_the_layer_strings_of_the_reference_give_its_shapes(spec, image, sides, channels):
    # After the mean over all pixels the reference has 1 x 1 pixels, this library no axes for them.
    shapes = [(side, side, maps) for side, maps in zip(sides, channels, strict=False)]
    shapes += [(units,) for units in channels[len(sides) :]]
    top = len(shapes)
    model = models.ladder(layers=spec, noise_std=(0.3,) * (top + 1), denoising="gauss")
    apply, x = models.apply_fn(model), jnp.zeros((2, *image))

    def pass_down(key):
        variables = models.init(model, key, x)
        return variables, apply(variables, x, x, x, train=True, key=key, method="autoencode")

    variables, (logits, extras, _) = jax.eval_shape(pass_down, jax.random.key(0))
    assert logits.shape == (2, 10)
    below = image if sides else (784,)
    for found in (extras["z"], [extras["z_hat"][layer] for layer in range(top + 1)]):
        assert [z.shape[1:] for z in found] == [below, *shapes]
    stats = variables["batch_stats"]
    assert [stats[f"mean{i}"].shape for i in range(1, top + 1)] == [(n,) for n in channels]


def test_conv_large_has_the_expected_number_of_weights():
    # 9 * 3 * 96 + 2 * 9 * 96^2 + 9 * 96 * 192 + 3 * 9 * 192^2 + 192^2 + 192 * 10 = 1,368,480, up
    # only, in the Gamma model; beta of all but the two max-pools: 3 * 96 + 5 * 192 + 2 * 10; ten
    # numbers for each class in its one denoising function.
    spec, image, *_ = REFERENCE["conv-large"]
    settings = {"layers": spec, "noise_std": (0.3,) * 13, "scale_softmax": False}
    model = models.ladder(**settings, denoising="0-" * 12 + "gauss")
    init = partial(models.init, model)
    params = jax.eval_shape(init, jax.random.key(0), jnp.zeros((2, *image)))["params"]
    kernels = 9 * (3 * 96 + 2 * 96**2 + 96 * 192 + 3 * 192**2) + 192**2 + 192 * 10
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert size == kernels + 3 * 96 + 5 * 192 + 2 * 10 + 10 * 10


def test_parse_layers_returns_the_layers_in_order():
    spec = "convf:32:5:1:1-maxpool:2:2-convv:64:3:1:1-globalmeanpool:6:6-fc:10-7"
    assert parse_layers(spec) == (
        LayerSpec("convf", 32, 5),
        LayerSpec("maxpool"),
        LayerSpec("convv", 64, 3),
        LayerSpec("globalmeanpool", height=6, width=6),
        LayerSpec("fc", 10),
        LayerSpec("fc", 7),
    )


@pytest.mark.parametrize(
    ("spec", "word", "number"),
    [
        ("", "''", 1),
        ("1000-", "''", 2),
        ("1000-500-ten", "'ten'", 3),
        ("0", "'0'", 1),
        ("fc:-5", "'fc:'", 1),
        ("10-10.5", "'10.5'", 2),
        ("conv:8:3:1:1-10", "'conv:8:3:1:1'", 1),
        ("convv:8:3-10", "'convv:8:3'", 1),
        ("convv:8:3:2:2-10", "'convv:8:3:2:2'", 1),  # a stride
        ("convv:8:0:1:1-10", "'convv:8:0:1:1'", 1),
        ("convv:8:3:1:1-maxpool:3:2-10", "'maxpool:3:2'", 2),
        ("convv:8:3:1:1-maxpool-10", "'maxpool'", 2),
        ("convv:8:3:1:1-globalmeanpool:-10", "'globalmeanpool:'", 2),
        ("10 -10", "'10 '", 1),
        ("10\n-10", r"'10\\n'", 1),
    ],
)
def test_an_unknown_layer_is_refused_with_the_position(spec, word, number):
    words = f"layer {number} of model.layers must be UNITS, fc:UNITS, convv:MAPS.*, got {word}"
    with pytest.raises(ValueError, match=words):
        parse_layers(spec)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("maxpool:2:2-10", "1 of model.layers must be a layer with weights, got 'maxpool:2:2'"),
        ("globalmeanpool-10", "1 of model.layers must be a layer with weights"),
        ("20-convv:8:3:1:1-10", "2 of model.layers must be fc:UNITS after fc, got 'convv:8:3:1:1'"),
        ("convv:8:3:1:1-20-maxpool:2:2-10", "3 of model.layers must be fc:UNITS after fc, got"),
        (
            "convv:8:3:1:1-globalmeanpool-maxpool:2:2",
            "3 of model.layers must be fc:UNITS after globalmeanpool, got 'maxpool:2:2'",
        ),
        (
            "convv:8:3:1:1-convv:10:1:1:1",
            "2 of model.layers, the last, must be fc:UNITS or globalmeanpool, got 'convv:10:1:1:1'",
        ),
        ("convv:8:3:1:1-maxpool:2:2", "2 of model.layers, the last, must be fc:UNITS or"),
    ],
)
def test_layers_that_do_not_fit_together_are_refused_with_the_position(spec, words):
    with pytest.raises(ValueError, match=f"layer {words}"):
        parse_layers(spec)


def test_one_denoising_word_applies_to_all_layers():
    assert parse_denoising("gauss", 2) == ("gauss",) * 3
    assert parse_denoising("sig", 1) == ("sig",) * 2
    assert parse_denoising("0", 3) == ("0",) * 4
    assert parse_denoising("0-sig-gauss", 2) == ("0", "sig", "gauss")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "model.denoising must be gauss, sig or 0 for layer 0, got ''"),
        ("0-0-Gauss", "model.denoising must be gauss, sig or 0 for layer 2, got 'Gauss'"),
        ("gauss-gauss", "must have 1 word, or 3: one for the input and one for each layer .*got 2"),
        ("0-0-0-gauss", "must have 1 word, or 3: .*got 4"),
        ("gauss-0-gauss", "must be 0 for layer 0, as for the layer above, .*got 'gauss'"),
        ("0-sig-0", "must be 0 for layer 1, as for the layer above, .*got 'sig'"),
    ],
)
def test_denoising_that_does_not_fit_is_refused(spec, words):
    with pytest.raises(ValueError, match=words):
        parse_denoising(spec, 2)
    model = models.ladder(layers="4-3", noise_std=(0.3,) * 3, denoising=spec)
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(partial(models.init, model), jax.random.key(0), jnp.zeros((2, 5)))


number = st.integers(0, 40).map(str)
convolution = st.tuples(st.sampled_from(["convv", "convf"]), number, number, st.just("1:1"))
layer = st.one_of(
    number,
    number.map("fc:{}".format),
    convolution.map(":".join),
    st.sampled_from(["maxpool:2:2", "globalmeanpool", "globalmeanpool:0", "globalmeanpool:7:7"]),
    st.text(alphabet="0123456789:convfmaxplgb", max_size=9),
)
layers = st.lists(layer, min_size=1, max_size=6).map("-".join)
denoisings = st.lists(st.sampled_from(["gauss", "sig", "0", "none"]), max_size=5).map("-".join)


def written(layer):
    kind, units, size, height, width = layer
    return {
        "fc": f"fc:{units}",
        "convv": f"convv:{units}:{size}:1:1",
        "convf": f"convf:{units}:{size}:1:1",
        "maxpool": "maxpool:2:2",
        "globalmeanpool": f"globalmeanpool:{height}:{width}",
    }[kind]


def refusal(parse, *args):
    """Returns the error message, None if the string parses."""
    try:
        parse(*args)
    except ValueError as error:
        return str(error)
    return None


@given(spec=layers | st.text())
@example(spec="convv:8:3:1:1-maxpool:2:2-globalmeanpool:7:7-fc:10-10")
def test_any_string_parses_as_layers_or_is_refused_with_the_field(spec):
    if message := refusal(parse_layers, spec):
        assert re.fullmatch(r"(layer \d+ of )?model\.layers.* must be .*, got .*", message)
        return
    found = parse_layers(spec)
    assert len(found) == spec.count("-") + 1
    for layer, word in zip(found, spec.split("-"), strict=True):
        numbers = [n for n in (layer.units, layer.size) if n]
        assert all(n > 0 for n in numbers) and str(layer.units or "") in word
    assert parse_layers("-".join(map(written, found))) == found


@given(spec=denoisings | st.text(), num_layers=st.integers(1, 4))
@example(spec="0-sig-gauss", num_layers=2)
def test_any_string_parses_as_denoising_functions_or_is_refused_with_the_field(spec, num_layers):
    if message := refusal(parse_denoising, spec, num_layers):
        assert re.fullmatch(r"model\.denoising must (be|have) .*, got .*", message)
        return
    found = parse_denoising(spec, num_layers)
    assert len(found) == num_layers + 1 and set(found) <= {"gauss", "sig", "0"}
    # Reconstructed layers lie above all others.
    assert sorted(found, key=lambda word: word != "0") == list(found)
    assert spec in (found[0], "-".join(found))
