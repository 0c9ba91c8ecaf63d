"""Walks and arithmetic among the inputs z of a generator.  [goodfellow2014, Fig. 3]

[radford2016] adds and subtracts means of z; [wardefarley2016, Fig. 1.7] shows its faces. Here the
concept is the ink of a digit: bold a - light a + light b should be a bold b.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from adv_jax.runner.run.trained import Trained
from adv_jax.style import canvas
from adv_jax.types import Array, UserError
from papers.goodfellow2014.classifier import given, judge
from papers.running.drawing import Drawing, picture, rounded
from papers.running.runs import finished, only, trained_on

ROWS, COLUMNS = 6, 10
MODELS = ("gan", "dcgan", "catgan")  # whose only input is z
DRAWN, EXEMPLARS = 10_000, 3  # inputs z; of each mean, as in [radford2016]
PAIRS = ((3, 8), (7, 1), (9, 4), (0, 6), (2, 5))  # (a, b) of the rows
TERMS = ("bold a", "light a", "light b", "sum")


def interpolation(workdirs: Sequence[str]) -> Drawing:
    """Fig. 3: digits on straight lines between two inputs of a generator.

    Args:
      workdirs: one run of gan_mnist, or of another generator of latent inputs; its first seed.

    Raises:
      UserError: there are several runs, the run is unfinished or has a grid, or no latent inputs.
    """
    run = finished(only(workdirs))
    model = run.models()[0]
    ends = inputs_of(model, 2 * ROWS)
    share = jnp.linspace(0, 1, COLUMNS)[None, :, None]
    z = (1 - share) * ends[:ROWS, None] + share * ends[ROWS:, None]
    images = generated(model, z.reshape(ROWS * COLUMNS, -1)).reshape(ROWS, COLUMNS, *_shape(model))
    steps = np.linalg.norm(np.diff(images.reshape(ROWS, COLUMNS, -1), axis=1), axis=2)
    share = rounded((steps.max(axis=1) / steps.sum(axis=1)).mean())
    trained = trained_on([run], first=True)
    even = 1 / (COLUMNS - 1)
    caption = (
        f"Each row: images of {COLUMNS} inputs on a line between two that are drawn at random. The "
        f"largest step of a row is {100 * share:.0f} % of its way in pixels, and would be "
        f"{100 * even:.0f} % if steps were even; {trained}."
    )
    document = {
        "caption": caption,
        "settings": {"rows": ROWS, "columns": COLUMNS, "chosen": ["net", "rows", "columns"]},
        "run": model.about,
        "largest_step": share,
    }
    return Drawing(_images(images, f"Lines in the inputs of a generator; {trained}"), document)


def arithmetic(workdirs: Sequence[str]) -> Drawing:
    """Bold a - light a + light b, in the inputs of a generator, for pairs of digits a, b.

    Args:
      workdirs: a run of gan_mnist, and one of huang_lenet_mnist, which tells the classes.

    Raises:
      UserError: the generator has no latent inputs; and as `classifier.given`.
    """
    runs, (model, *_), classifier = given(workdirs)
    judged = judge(classifier, model.dataset.train.x)
    z = inputs_of(model, DRAWN)
    images = generated(model, z)
    classes, ink = judged(images).logits.argmax(axis=1), images.reshape(DRAWN, -1).mean(axis=1)
    means = np.stack([_terms(np.asarray(z), classes, ink, *pair) for pair in PAIRS])
    shown = generated(model, jnp.asarray(means.reshape(len(PAIRS) * len(TERMS), -1)))
    found = judged(shown).logits.argmax(axis=1).reshape(len(PAIRS), len(TERMS))
    inks = shown.reshape(len(PAIRS), len(TERMS), -1).mean(axis=2)
    rows = [
        {
            "a": a,
            "b": b,
            "classes": dict(zip(TERMS, map(int, of_row), strict=True)),
            "ink": dict(zip(TERMS, rounded(dark), strict=True)),
        }
        for (a, b), of_row, dark in zip(PAIRS, found, inks, strict=True)
    ]
    right = sum(row["classes"]["sum"] == row["b"] for row in rows)
    bolder = sum(row["ink"]["sum"] > row["ink"]["light b"] for row in rows)
    trained, net = trained_on(runs, first=True), classifier.about["model"]["name"]
    caption = (
        f"Images of means of {EXEMPLARS} inputs, the boldest or the lightest of their class among "
        f"{DRAWN}, and of bold a - light a + light b. Of {len(rows)} such sums, {bolder} have more "
        f"ink than light b, and a {net} of ours takes {right} for the digit b; {trained}."
    )
    document = {
        "caption": caption,
        "settings": {"drawn": DRAWN, "exemplars": EXEMPLARS, "chosen": ["net", "drawn", "pairs"]},
        "run": model.about,
        "classifier": classifier.about,
        "rows": rows,
    }
    grid = shown.reshape(len(PAIRS), len(TERMS), *_shape(model))
    titled = f"Arithmetic in the inputs of a generator; {trained}"
    return Drawing(_images(grid, titled, columns=TERMS, rows=PAIRS), document)


def inputs_of(model: Trained, count: int) -> Array:
    """Returns random inputs z of a generator, uniform in [-1, 1]: f32[count, latent].

    Raises:
      UserError: the model is none of `MODELS`.
    """
    about = model.about["model"]
    if about["name"] not in MODELS:
        raise UserError(f"workdir must be a run of {', '.join(MODELS)}, got {about['name']}")
    key = jax.random.key(model.about["seed"])
    return jax.random.uniform(key, (count, about["latent"]), minval=-1, maxval=1)


def generated(model: Trained, z: Array) -> np.ndarray:
    """Returns the images of inputs z: f32[count, latent] -> f32[count, *D]."""
    return np.asarray(model.apply(model.variables, z, method="generate").logits)


def _terms(z: np.ndarray, classes: np.ndarray, ink: np.ndarray, a: int, b: int) -> np.ndarray:
    """Returns the means of z of `TERMS`: f32[4, latent].

    Raises:
      UserError: a class has too few images.
    """

    def exemplars(digit: int, sign: int) -> np.ndarray:
        rows = np.flatnonzero(classes == digit)
        if len(rows) < EXEMPLARS:
            few = f"{len(rows)} of {digit} among {len(classes)}"
            raise UserError(f"workdir must be a generator of {EXEMPLARS} of each digit, got {few}")
        return z[rows[np.argsort(sign * ink[rows])[:EXEMPLARS]]].mean(axis=0)

    bold_a, light_a, light_b = exemplars(a, -1), exemplars(a, 1), exemplars(b, 1)
    return np.stack([bold_a, light_a, light_b, bold_a - light_a + light_b])


def _shape(model: Trained) -> tuple[int, ...]:
    return model.dataset.test.x.shape[1:]


def _images(
    images: np.ndarray,
    title: str,
    *,
    columns: Sequence[str] = (),
    rows: Sequence[tuple[int, int]] = (),
) -> Figure:
    """Draws images f[rows, columns, *D] with the names of the columns and the pairs of the rows."""
    figure, panels = canvas(*images.shape[:2], title=title, width=0.85, height=0.9)
    for place, axes in np.ndenumerate(panels):
        above = columns[place[1]] if columns and place[0] == 0 else ""
        beside = "{}, {}".format(*rows[place[0]]) if rows and place[1] == 0 else ""
        picture(axes, images[place], above=above, beside=beside)
    return figure
