"""Samples of generators on MNIST, and their Parzen windows.  [goodfellow2014, Table 1, Fig. 2 a]

Table 1's row is the mean log-likelihood of the test set under a Gaussian Parzen window at samples.
The source chooses the bandwidth on a validation set; here it is chosen on training images, as the
net of the lowest validation error is not the best generator. Fig. 2's last column has the training
images nearest to the samples beside them, to show whether the generator repeats them. A generator
that has collapsed is named; `evaluate.collapse` has the rule, without a classifier here.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from adv_jax import evaluate
from adv_jax.evaluate.batching import over_rows
from adv_jax.evaluate.density import parzen, parzen_bandwidth
from adv_jax.runner.trained import Trained
from adv_jax.types import Array, UserError
from papers.drawing import Drawing, canvas, rounded
from papers.runs import finished, require_same_data, samples_of, trained_on
from papers.statistics import spread

SAMPLES, HELD_OUT = 10_000, 1000
CLOSE = 1000  # images whose distances to each other are compared
BANDWIDTHS = (0.1, 0.13, 0.16, 0.2, 0.25, 0.32, 0.4)
LIKELIHOOD = "log-likelihood"
ROWS, COLUMNS = 6, 10


class Closeness(NamedTuple):
    """diversity: of samples beside test images; fooled: the mean D(G(z)), None without such a D."""

    diversity: float
    fooled: float | None


def generated(workdirs: Sequence[str]) -> Drawing:
    """Table 1, MNIST: the log-likelihood of the test set; Fig. 2 a: samples of the first seed.

    Args:
      workdirs: runs of gan_mnist.

    Raises:
      UserError: a run is unfinished, has a grid or no generator, or the data differ.
    """
    runs = [finished(Path(workdir)) for workdir in workdirs]
    require_same_data(runs)
    for run in runs:
        if run.config["objective"]["name"] != "gan":
            raise UserError(f"workdir must be a run of a gan, got {run.path}")
    models = [model for run in runs for model in run.models()]
    found = {model.about["seed"]: likelihood(model) for model in models}
    values = {seed: rounded(value) for seed, (value, _) in found.items()}
    widths = sorted({width for _, width in found.values()})
    signs = {f"seed {model.about['seed']}": signs_of(model) for model in models}
    title = f"Samples of a generator; {trained_on(runs)}"
    caption = (
        f"Samples of the first seed; the last column has the training images nearest to those "
        f"beside it. The mean log-likelihood of the test set under a Parzen window at {SAMPLES} "
        f"samples is {spread([*values.values()]).mean:.4g} nats, with the bandwidth "
        f"{', '.join(f'{width:g}' for width in widths)}; {trained_on(runs)}. "
        f"{collapsed(signs.items())}"
    )
    settings = {"samples": SAMPLES, "held_out": HELD_OUT, "chosen": ["net", "bandwidths"]}
    document = {
        "caption": caption,
        "settings": settings,
        "by_seed": {LIKELIHOOD: values},
        "collapse": signs,
        "data": runs[0].result["data"],
    }
    return Drawing(_drawn(models[0], title), document)


def closeness(images: Array, model: Trained) -> Closeness:
    """Returns what tells a collapse without a classifier, of samples of a model."""
    few, real = (jnp.asarray(rows)[:CLOSE] for rows in (images, model.dataset.test.x))
    diversity = rounded(evaluate.diversity(few, real))
    if model.predicts != "real":
        return Closeness(diversity, None)
    logits = over_rows(lambda x: model.logits_fn(x).T, (images,), batch_size=500)
    return Closeness(diversity, rounded(jax.nn.softmax(logits, axis=0)[1].mean()))


def signs_of(model: Trained) -> list[str]:
    """Returns the signs that a generator has collapsed, by its samples and its discriminator."""
    found = closeness(samples_of(model, CLOSE), model)
    return evaluate.collapse(diversity=found.diversity, fooled=found.fooled)


def collapsed(signs: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Returns a sentence with the names and signs of the generators that have collapsed."""
    found = [f"{name} ({'; '.join(of_one)})" for name, of_one in signs if of_one]
    return f"Collapsed: {', '.join(found)}." if found else "No generator has collapsed."


def likelihood(model: Trained) -> tuple[float, float]:
    """Returns the mean log-likelihood of the test set in nats, and the bandwidth."""
    samples = samples_of(model, SAMPLES)
    held_out = jnp.asarray(model.dataset.train.x[:HELD_OUT])
    width = parzen_bandwidth(samples, held_out, jnp.asarray(BANDWIDTHS))
    test = jnp.asarray(model.dataset.test.x)
    return float(jnp.mean(parzen(samples, test, bandwidth=width))), rounded(width)


def _drawn(model: Trained, title: str) -> Figure:
    images = np.asarray(samples_of(model, ROWS * COLUMNS))
    train = model.dataset.train.x
    figure, panels = canvas(ROWS, COLUMNS + 1, title=title, width=0.8, height=0.85)
    for i, row in enumerate(panels):
        shown = images[i * COLUMNS : (i + 1) * COLUMNS]
        (index,), _ = evaluate.nearest(jnp.asarray(shown[-1:]), jnp.asarray(train))
        for axes, image in zip(row, [*shown, train[index]], strict=True):
            axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1)
            axes.set_axis_off()
    return figure
