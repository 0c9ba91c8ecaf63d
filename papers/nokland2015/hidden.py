"""Features and sparsity of hidden units.  [nokland2015, Figs. 2, 3]"""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from adv_jax.runner.run.trained import Trained
from adv_jax.style import canvas
from papers.judging import numbers
from papers.nokland2015.runs import LABELS, read
from papers.running.drawing import FIRST_SEED, Drawing, first_layer, mosaic, picture, rounded
from papers.running.runs import one_of_each, trained_on

SIDE = 8  # features in a row and in a column
CUT_OFF = 0.99  # share of the weights within the gray scale
# method -> the last part of the id of the paper's share of "real zeros"
ZEROS = {"plain": "backprop", "adversarial": "adversarial"}


def features(workdirs: Sequence[str]) -> Drawing:
    """Fig. 2: features of the first hidden layer: plain, adversarial, dropout.

    Args:
      workdirs: one run of each method, of the same net; the paper has 2x400 ReLU.

    Raises:
      UserError: `runs.read` raises, or there are other runs than these.
    """
    methods = ("plain", "adversarial", "dropout")
    runs = one_of_each(read(workdirs), methods, labels=LABELS, figure="fig2")
    runs_text = trained_on(list(runs.values()), first=True)
    title = f"Nokland 2015, Fig. 2: features of {runs['plain'].net}; {runs_text}"
    figure, [panels] = canvas(1, len(runs), title=title, width=4, height=4.3)
    local, scales = {}, {}
    for axes, (method, run) in zip(panels, runs.items(), strict=True):
        model = run.models()[0]
        images = first_layer(model.variables["params"], model.dataset.train.x.shape[1:3])
        local[method] = rounded(extent(images))
        scale = scales[method] = rounded(np.quantile(np.abs(images), CUT_OFF))
        sheet = mosaic(images[: SIDE * SIDE], SIDE)
        above = f"{LABELS[method]}\nextent {local[method]:.3f}"
        picture(axes, sheet, above=above, low=-scale, high=scale)
    extents = ", ".join(f"{LABELS[method]} {value:.3f}" for method, value in local.items())
    caption = (
        f"Weights into the first {SIDE * SIDE} units of the first hidden layer, black negative, "
        "white positive. Extent, the share of the pixels that a unit's squared weights fill, "
        f"median over all units: {extents}. The paper sees more localized features after "
        "adversarial back-propagation, like strokes of a pen."
    )
    document = {
        "caption": caption,
        "settings": {"seed": FIRST_SEED, "chosen": ["units", "gray scale", "extent"]},
        "cut_off": scales,
        "extent": local,
        "runs": [run.about() for run in runs.values()],
    }
    return Drawing(figure, document)


def activations(workdirs: Sequence[str]) -> Drawing:
    """Fig. 3: activations of the hidden units, plain and adversarial, and the share of zeros.

    Args:
      workdirs: one plain and one adversarial run of the same net; the paper has 2x400 ReLU.

    Raises:
      UserError: `runs.read` raises, or there are other runs than these.
    """
    runs = one_of_each(read(workdirs), tuple(ZEROS), labels=LABELS, figure="fig3")
    models = {method: run.models() for method, run in runs.items()}
    layers_of = {
        method: [hidden_layers(model, model.dataset.test.x) for model in of_method]
        for method, of_method in models.items()
    }
    hidden = {method: layers[0] for method, layers in layers_of.items()}
    zeros = {method: shares_of_zeros(layers) for method, layers in hidden.items()}
    by_seed = {
        method: {
            model.about["seed"]: shares_of_zeros(layers)["all"]
            for model, layers in zip(of_method, layers_of[method], strict=True)
        }
        for method, of_method in models.items()
    }
    runs_text = trained_on(list(runs.values()), first=True)
    title = f"Nokland 2015, Fig. 3: hidden units of {runs['plain'].net}; {runs_text}"
    figure, [panels] = canvas(1, len(runs), title=title, sharex=True, sharey=True)
    values = np.concatenate([v.ravel() for layers in hidden.values() for v in layers.values()])
    edges = np.linspace(values.min(), values.max(), 61)
    for axes, (method, layers) in zip(panels, hidden.items(), strict=True):
        for name, layer in layers.items():
            share = np.full(layer.size, 1 / layer.size)
            label = f"{name}: {100 * zeros[method][name]:.1f} % zeros"
            axes.hist(layer.ravel(), edges, weights=share, histtype="step", label=label)
        axes.set_title(f"{LABELS[method]}: {100 * zeros[method]['all']:.1f} % zeros")
        axes.set(xlabel="activation", ylabel="share of the activations", yscale="log")
        axes.legend()
    shares = " and ".join(f"{100 * zeros[m]['all']:.1f} % {LABELS[m]}" for m in zeros)
    paper = {m: numbers.entry(f"nokland2015.sparsity.{cell}")["value"] for m, cell in ZEROS.items()}
    printed = " and ".join(f"{percent} %" for percent in paper.values())
    caption = (
        f"Activations of all hidden units on the test set. Exact zeros: {shares}; the paper has "
        f"{printed}, and does not say of which layers and images."
    )
    document = {
        "caption": caption,
        "settings": {"seed": FIRST_SEED, "chosen": ["layers", "test set"]},
        "zeros": zeros,
        "by_seed": by_seed,
        "zeros_in_paper": {method: percent / 100 for method, percent in paper.items()},
        "runs": [run.about() for run in runs.values()],
    }
    return Drawing(figure, document)


def extent(images: ArrayLike) -> float:
    """Returns the median participation ratio, (sum w^2)^2 / (D sum w^4).

    It is 1 / D for one nonzero pixel and 1 for equal pixels. Images of zeros do not count.

    Args:
      images: f[N, H, W], D = H W.
    """
    squares = np.square(np.asarray(images, float)).reshape(len(np.asarray(images)), -1)
    squares = squares[squares.any(axis=1)]
    ratios = squares.sum(1) ** 2 / (squares.shape[1] * np.square(squares).sum(1))
    return float(np.median(ratios))


def hidden_layers(model: Trained, x: ArrayLike) -> dict[str, np.ndarray]:
    """Returns the activations on x f32[N, *D]: {"hidden1": f32[N, units], ...}."""
    extras = model.apply(model.variables, jnp.asarray(x)).extras
    return {name: np.asarray(values) for name, values in extras.items()}


def shares_of_zeros(layers: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns {layer: share of exact zeros}, with the key "all" for all layers together."""
    shares = {name: rounded(np.mean(values == 0)) for name, values in layers.items()}
    together = np.concatenate([values.ravel() for values in layers.values()])
    return shares | {"all": rounded(np.mean(together == 0))}
