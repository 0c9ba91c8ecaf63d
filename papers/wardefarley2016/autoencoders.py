"""Samples, reconstructions and codes of autoencoders.  [wardefarley2016, sec. 1.4.5]

The source describes the variational autoencoder, its combination with a discriminator and the
adversarial autoencoder. It prints no numbers and no pictures of them.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import norm

from adv_jax.runner.run.trained import Trained
from adv_jax.style import CLASS_COLORS, canvas
from adv_jax.types import Array, UserError
from papers.judging.documents import data_in_words
from papers.judging.statistics import spread
from papers.running.drawing import Drawing, mosaic, picture, rounded
from papers.running.runs import finished_runs, require_one_model, samples_of, trained_on

MODELS = ("vae", "vae_gan", "adversarial_autoencoder", "semi_supervised_autoencoder")
COLUMNS, SAMPLED, BETWEEN = 10, 2, 3  # digits in a row, and rows
GRID = 20  # decoded digits in a row and in a column
BOUND = "evidence lower bound"


def generated(workdirs: Sequence[str]) -> Drawing:
    """Sec. 1.4.5: samples, reconstructions and interpolations of an autoencoder.

    Args:
      workdirs: runs of one of MODELS on the same data; the first seed is drawn.

    Raises:
      UserError: a run is unfinished, has a grid or another model, or the data differ.
    """
    runs = finished_runs(workdirs, models=MODELS)
    require_one_model(runs)
    name = runs[0].config["model"]["name"]
    bounds = {
        replica["seed"]: rounded(-replica["test_loss"])
        for run in runs
        for replica in run.result["replicas"]
        if name == "vae"
    }
    words = name.replace("_", " ")
    caption = (
        f"From top to bottom: {SAMPLED} rows of samples; test digits and, below, their "
        f"reconstructions; {BETWEEN} rows of digits on the line between the codes of two test "
        f"digits. First seed of: {words}, {trained_on(runs)}."
    )
    if bounds:
        mean = spread([*bounds.values()]).mean
        caption += f" The mean bound on the log-likelihood of the test set is {mean:.4g} nats."
    document = {
        "caption": caption,
        "settings": {"chosen": ["net", "digits"]},
        "by_seed": {BOUND: bounds} if bounds else {},
        "data": runs[0].result["data"],
    }
    title = f"{words}; {trained_on(runs, first=True)}"
    return Drawing(_drawn(rows_of(runs[0].models()[0]), title), document)


def code(run: Trained) -> Drawing:
    """Sec. 1.4.5: the test digits in a code of two values, and the digits of such codes.

    Args:
      run: an autoencoder with two latent values whose prior is N(0, I).

    Raises:
      UserError: the run has another model or another number of latent values.
    """
    spec, about = run.about["model"], run.about
    if spec["name"] not in MODELS[:-1] or spec["latent"] != 2:
        allowed = " or ".join(MODELS[:-1])
        found = f"{about['experiment']} with {spec.get('latent', 'no')}"
        raise UserError(f"workdir must be a run of {allowed} with 2 latent values, got {found}")
    x, y = run.dataset.test
    codes = np.asarray(_through(run, jnp.asarray(x), "encode"))
    images = np.asarray(_through(run, jnp.asarray(quantiles()), "decode")).squeeze(-1)
    means = {str(label): rounded(codes[y == label].mean(axis=0)) for label in np.unique(y)}
    words = spec["name"].replace("_", " ")
    of = f"{words}, {data_in_words(about['data'])}, seed {about['seed']}, {about['epochs']} epochs"
    caption = (
        "Left: codes of the test digits by label. Right: digits of codes at equally spaced "
        f"quantiles of the prior, {GRID} x {GRID}. {of}."
    )
    document = {
        "caption": caption,
        "settings": {"chosen": ["net", "epochs", "grid"]},
        "seed": about["seed"],
        "means": means,
        "run": about,
    }
    return Drawing(_code_drawn(codes, y, images, f"Codes: {of}"), document)


def quantiles() -> np.ndarray:
    """Returns codes at quantiles of N(0, I), by rows from the top left: f32[GRID^2, 2]."""
    ends = norm.ppf((np.arange(GRID) + 0.5) / GRID)
    first, second = np.meshgrid(ends, ends[::-1])
    return np.stack([first.ravel(), second.ravel()], axis=1).astype(np.float32)


def rows_of(model: Trained) -> np.ndarray:
    """Returns the images of the figure: f32[SAMPLED + 2 + BETWEEN, COLUMNS, *D]."""
    digits = jnp.asarray(model.dataset.test.x[: max(COLUMNS, 2 * BETWEEN)])
    codes = _through(model, digits, "encode")
    ends = codes[: 2 * BETWEEN].reshape(BETWEEN, 2, -1)
    between = jnp.concatenate([jnp.linspace(start, end, COLUMNS) for start, end in ends])
    images = [
        samples_of(model, SAMPLED * COLUMNS),
        digits[:COLUMNS],
        _through(model, codes[:COLUMNS], "decode"),
        _through(model, between, "decode"),
    ]
    return np.concatenate(images).reshape(-1, COLUMNS, *digits.shape[1:])


def _through(model: Trained, inputs: Array, method: str) -> Array:
    return model.apply(model.variables, inputs, method=method).logits


def _drawn(rows: np.ndarray, title: str) -> Figure:
    """Draws the images of `rows_of`, with a name beside each row."""
    names = ["sampled"] * SAMPLED + ["test digits", "reconstructed"] + ["in between"] * BETWEEN
    figure, panels = canvas(len(rows), COLUMNS, title=title, width=0.8, height=0.85)
    for row, images, name in zip(panels, rows, names, strict=True):
        for axes, image in zip(row, images, strict=True):
            picture(axes, image, beside="" if axes is not row[0] else name)
    return figure


def _code_drawn(codes: np.ndarray, y: np.ndarray, images: np.ndarray, title: str) -> Figure:
    figure, ((left, right),) = canvas(1, 2, title=title, width=6, height=6)
    for label in np.unique(y):
        color = CLASS_COLORS[label % len(CLASS_COLORS)]
        left.plot(*codes[y == label].T, ".", markersize=2, color=color, label=label)
    left.set(xlabel="first value of the code", ylabel="second value", aspect="equal")
    left.legend(markerscale=6, loc="upper left", bbox_to_anchor=(1, 1))
    picture(right, mosaic(images, GRID))
    return figure
