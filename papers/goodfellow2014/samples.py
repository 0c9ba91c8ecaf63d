"""Samples of generators on MNIST, and their Parzen windows.  [goodfellow2014, Table 1, Fig. 2 a]

Likewise those of its successors: a generator of given digits [mirza2014], a convolutional one
[radford2016], and a pyramid of generators [denton2015].

Table 1's row is the mean log-likelihood of the test set under a Gaussian Parzen window at samples.
The source chooses the bandwidth on a validation set; here it is chosen on training images, as the
net of the lowest validation error is not the best generator. Fig. 2's last column has the training
images nearest to the samples beside them, to show whether the generator repeats them. A generator
that has collapsed is named; `generative.measures.collapse` has the rule, without a classifier here.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from adv_jax import generative
from adv_jax.evaluate.batching import over_rows
from adv_jax.generative.measures.density import parzen, parzen_bandwidth
from adv_jax.runner.run.trained import Trained
from adv_jax.style import canvas
from adv_jax.types import Array
from papers.judging.statistics import spread
from papers.running.drawing import Drawing, picture, rounded
from papers.running.runs import (
    drawn,
    finished_runs,
    key_of,
    require_one_model,
    samples_of,
    trained_on,
)

SAMPLES, HELD_OUT = 10_000, 1000
CLOSE = 1000  # images whose distances to each other are compared
BANDWIDTHS = (0.1, 0.13, 0.16, 0.2, 0.25, 0.32, 0.4)
LIKELIHOOD = "log-likelihood"
GENERATORS = ("gan", "dcgan", "vae", "vae_gan", "adversarial_autoencoder")
ROWS, COLUMNS, DIGITS = 6, 10, 10
# Model -> what `fooled` is of, in words
FOOLED = {
    "conditional_gan": "D(G(z, y), y) of the given labels y",
    "lapgan": "D(G(z)) at every level of the pyramid",
}

Images = np.ndarray  # f32[rows, COLUMNS, H, W, C]


class Closeness(NamedTuple):
    """diversity: of samples beside test images; fooled: see `fooled`, None without such a D."""

    diversity: float
    fooled: float | None


def generated(workdirs: Sequence[str]) -> Drawing:
    """Table 1, MNIST: the log-likelihood of the test set; Fig. 2 a: samples of the first seed.

    Args:
      workdirs: runs of a config on MNIST whose model is one of GENERATORS.

    Raises:
      UserError: a run is unfinished, has a grid or another model, the data differ, or two have the
        same seed.
    """

    def grid(model: Trained) -> list[Images]:
        images = np.asarray(samples_of(model, ROWS * COLUMNS))
        return [*images.reshape(ROWS, COLUMNS, *images.shape[1:])]

    note = "the last column has the training images nearest to those beside it"
    return _drawing(workdirs, GENERATORS, grid, note, nearest=True)


def of_digits(workdirs: Sequence[str]) -> Drawing:
    """Samples of each digit, a row for each, and the log-likelihood of the test set.

    Args:
      workdirs: runs of cgan_mnist.

    Raises:
      UserError: see `generated`.
    """

    def grid(model: Trained) -> list[Images]:
        labels = jnp.repeat(jnp.arange(DIGITS), COLUMNS)
        images = np.asarray(drawn(model, len(labels), key_of(model), labels).logits)
        return [*images.reshape(DIGITS, COLUMNS, *images.shape[1:])]

    note = "each row has the digit that its generator was given, 0 to 9"
    name = lambda row, images: f"given {row}"
    return _drawing(workdirs, ["conditional_gan"], grid, note, name)


def of_levels(workdirs: Sequence[str]) -> Drawing:
    """Samples at each level of a pyramid, coarse to fine, and the likelihood of the test set.

    Args:
      workdirs: runs of lapgan_mnist.

    Raises:
      UserError: see `generated`.
    """

    def grid(model: Trained) -> list[Images]:
        images, coarser, _ = drawn(model, COLUMNS, key_of(model))
        coarse_to_fine = [coarser[name] for name in sorted(coarser, reverse=True)]
        return [np.asarray(level) for level in (*coarse_to_fine, images)]

    note = "each row adds details to the images above it, and has twice their size"
    name = lambda row, images: " x ".join(map(str, images.shape[1:3]))
    return _drawing(workdirs, ["lapgan"], grid, note, name)


def _drawing(
    workdirs: Sequence[str],
    names: Sequence[str],
    grid: Callable[[Trained], list[Images]],
    note: str,
    name: Callable[[int, Images], str] = lambda row, images: "",
    *,
    nearest: bool = False,
) -> Drawing:
    """Draws samples of the first seed, with the likelihoods of all seeds.

    Args:
      workdirs: the runs.
      names: of the models that the figure is of.
      grid: returns the rows of images to draw.
      note: what the caption says of the rows.
      name: returns the name of a row, from its number and images.
      nearest: whether to end each row with the training image nearest to its last sample.
    """
    runs = finished_runs(workdirs, models=names)
    require_one_model(runs)
    models = [model for run in runs for model in run.models()]
    found = {model.about["seed"]: likelihood(model) for model in models}
    values = {seed: rounded(value) for seed, (value, _) in found.items()}
    widths = sorted({width for _, width in found.values()})
    signs = {f"seed {model.about['seed']}": signs_of(model) for model in models}
    title = f"Samples of a generator; {trained_on(runs[:1], first=True)}"
    caption = (
        f"Samples of the first seed; {note}. The mean log-likelihood of the test set under a "
        f"Parzen window at {SAMPLES} samples is {spread([*values.values()]).mean:.4g} nats, with "
        f"the bandwidth {', '.join(f'{width:g}' for width in widths)}; {trained_on(runs)}. "
        f"{collapsed(signs.items(), looked_at('the variety of the samples', models))}"
    )
    settings = {
        "samples": SAMPLES,
        "held_out": HELD_OUT,
        "chosen": ["net", "bandwidths", "held_out"],
    }
    document = {
        "caption": caption,
        "settings": settings,
        "by_seed": {LIKELIHOOD: values},
        "collapse": signs,
        "data": runs[0].result["data"],
    }
    train = models[0].dataset.train.x if nearest else None
    rows = grid(models[0])
    beside = [name(*numbered) for numbered in enumerate(rows)]
    return Drawing(_drawn(rows, beside, title, train), document)


def closeness(images: Array, model: Trained) -> Closeness:
    """Returns what tells a collapse without a classifier, of samples of a model."""
    few, real = (jnp.asarray(rows)[:CLOSE] for rows in (images, model.dataset.test.x))
    diversity = rounded(generative.measures.diversity(few, real))
    known = fooled(model, images) if model.predicts == "real" else None
    return Closeness(diversity, known)


def fooled(model: Trained, images: Array) -> float:
    """Returns the mean D(G(z)), for which the generator's gradient vanishes near 0.

    A conditional discriminator judges samples with the labels that they were given. At each level
    of a pyramid D and G receive the same blurred test images, as in the game; the least mean of the
    levels is returned.

    Args:
      model: a generator and a discriminator of real images.
      images: samples; a model that `FOOLED` names draws others.
    """
    name = model.about["model"]["name"]
    if name == "conditional_gan":
        labels = jnp.arange(CLOSE) % DIGITS
        images = drawn(model, CLOSE, key_of(model), labels).logits
        return _real(model.apply(model.variables, images, labels).logits)
    if name == "lapgan":
        levels = len(model.variables["params"]) // 2  # Each has two players.
        return min(_fooled_at(model, level) for level in range(levels))
    logits = over_rows(lambda x: model.logits_fn(x).T, (images,), batch_size=500)
    return _real(logits.T)


def looked_at(measures: str, models: Iterable[Trained]) -> str:
    """Returns the measures, and what `fooled` is of for these models, in words."""
    names = [model.about["model"]["name"] for model in models if model.predicts == "real"]
    return " and ".join(dict.fromkeys([measures, *(FOOLED.get(n, "D(G(z))") for n in names)]))


def _fooled_at(model: Trained, level: int) -> float:
    """Returns the mean D(G(z)) at a level of a pyramid, on blurred test images."""
    run = partial(model.apply, model.variables, level=level)
    band = run(jnp.asarray(model.dataset.test.x[:CLOSE]), method="band")
    given = band.extras.values()
    key = jax.random.fold_in(key_of(model), level)
    images = run(band.logits, *given, key=key, method="sample").logits
    return _real(run(images, *given).logits)


def _real(logits: Array) -> float:
    """Returns the mean probability of a real image, of logits f[N, 2]."""
    return rounded(jax.nn.softmax(logits)[:, 1].mean())


def signs_of(model: Trained) -> list[str]:
    """Returns the signs that a generator has collapsed, by its samples and its discriminator."""
    found = closeness(samples_of(model, CLOSE), model)
    return generative.measures.collapse(diversity=found.diversity, fooled=found.fooled)


def collapsed(signs: Iterable[tuple[str, Sequence[str]]], measures: str) -> str:
    """Returns a sentence with the names and signs of the generators that have collapsed.

    measures: what was looked at, in words.
    """
    found = [f"{name} ({'; '.join(of_one)})" for name, of_one in signs if of_one]
    return f"Collapsed: {', '.join(found)}." if found else f"No sign of a collapse in {measures}."


def likelihood(model: Trained) -> tuple[float, float]:
    """Returns the mean log-likelihood of the test set in nats, and the bandwidth."""
    samples = samples_of(model, SAMPLES)
    held_out = jnp.asarray(model.dataset.train.x[:HELD_OUT])
    width = parzen_bandwidth(samples, held_out, jnp.asarray(BANDWIDTHS))
    test = jnp.asarray(model.dataset.test.x)
    return float(jnp.mean(parzen(samples, test, bandwidth=width))), rounded(width)


def _drawn(
    rows: list[Images], beside: Sequence[str], title: str, train: np.ndarray | None
) -> Figure:
    columns = COLUMNS + (train is not None)
    figure, panels = canvas(len(rows), columns, title=title, width=0.8, height=0.85)
    for number, (row, images) in enumerate(zip(panels, rows, strict=True)):
        for axes, image in zip(row[:COLUMNS], images, strict=True):
            picture(axes, image, beside="" if axes is not row[0] else beside[number])
        if train is not None:
            (index,), _ = generative.measures.nearest(jnp.asarray(images[-1:]), jnp.asarray(train))
            picture(row[-1], train[index], above="" if number else "nearest\nin training")
    return figure
