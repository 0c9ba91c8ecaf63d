"""A generator's samples as rubbish inputs, and its discriminator under attack.

[wardefarley2016, sec. 1.2.6] asks for a classifier that is sure of no class on inputs that have
none. Here a classifier of ours and a discriminator see test images, samples, noise and images that
evolved to fool the classifier; the discriminator also sees test images after a step of FGSM.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from adv_jax import attacks
from adv_jax.evaluate.batching import over_rows
from adv_jax.runner.run.trained import Trained
from adv_jax.types import Array, UserError
from papers.goodfellow2014.classifier import BATCH_SIZE, given, judge
from papers.goodfellow2014.samples import samples_of
from papers.running.drawing import Drawing, Table, rounded
from papers.running.runs import trained_on

COUNT, SURE, EPS = 1000, 0.5, 0.1  # SURE is the threshold of [goodfellow2015]
GENERATIONS = 200
NAMES = ("confidence", f"above {SURE:g}", "D")


def rubbish(workdirs: Sequence[str]) -> Drawing:
    """The confidence of a LeNet and a discriminator in samples, noise and fooling images.

    Args:
      workdirs: a run of gan_mnist, whose first seed counts, and one of huang_lenet_mnist.

    Raises:
      UserError: the generator has no discriminator of real images, or the inputs of the classifier
        no bounds; and as `classifier.given`.
    """
    runs, (model, *_), classifier = given(workdirs)
    if model.predicts != "real":
        raise UserError(f"workdir must be a run with a discriminator, got {runs[0].path}")
    judged = judge(classifier, model.dataset.train.x)
    rows = {}
    for name, images in _inputs(model).items():
        sure = _sureness(judged(np.asarray(images)).logits)
        rows[name] = dict(zip(NAMES, (*sure, rounded(real(model, images))), strict=True))
    fooling = _fooling(classifier)
    rows["fooling images"] = dict(
        zip(NAMES, _sureness(classifier.logits_fn(fooling)), strict=False)
    )
    trained = trained_on(runs, first=True)
    document = {
        "caption": f"Mean confidence of a {classifier.about['model']['name']} of ours, its share "
        f"above {SURE:g}, and the mean D(x): "
        + "; ".join(f"{name} {', '.join(_cells(row))}" for name, row in rows.items())
        + f". {trained}.",
        "settings": {
            "images": COUNT,
            "eps": EPS,
            "generations": GENERATIONS,
            "chosen": ["net", "images", "eps", "generations"],
        },
        "run": model.about,
        "classifier": classifier.about,
        "rows": [{"of": name, **row} for name, row in rows.items()],
    }
    cells = [[name, *_cells(row), *[""] * (len(NAMES) - len(row))] for name, row in rows.items()]
    title = f"Inputs without a class, to a classifier and a discriminator; {trained}"
    return Drawing(None, document, Table(title, ["inputs", *NAMES], cells))


def real(model: Trained, images: Array) -> float:
    """Returns the mean D(x) of images."""
    logits = over_rows(lambda x: model.logits_fn(x).T, (images,), batch_size=BATCH_SIZE)
    return float(jax.nn.softmax(logits, axis=0)[1].mean())


def _inputs(model: Trained) -> dict[str, Array]:
    x, y = (jnp.asarray(part[:COUNT]) for part in model.dataset.test)
    noise = attacks.rubbish(None, x, None, std=1.0, key=jax.random.key(model.about["seed"]))
    moved = attacks.fgsm(model.logits_fn, x, y, eps=EPS, bounds=(0, 1))
    return {
        "test images": x,
        f"test images, FGSM {EPS:g} on D": moved,
        "samples": samples_of(model, COUNT),
        "Gaussian noise": noise,
    }


def _fooling(classifier: Trained) -> Array:
    """Returns an image for each class, evolved in the units of the classifier."""
    dataset = classifier.dataset
    if dataset.bounds is None:
        raise UserError("workdir must be a classifier of inputs with bounds, got one without")
    return attacks.fooling_images(
        lambda x: jax.nn.softmax(classifier.logits_fn(x)),
        dataset.test.x.shape[1:],
        jnp.arange(dataset.num_classes),
        num_generations=GENERATIONS,
        bounds=dataset.bounds,
        key=jax.random.key(classifier.about["seed"]),
    )


def _sureness(logits: ArrayLike) -> tuple[float, float]:
    """Returns the mean of the largest probability, and its share above SURE."""
    largest = np.asarray(jax.nn.softmax(jnp.asarray(logits))).max(axis=1)
    return rounded(largest.mean()), rounded((largest > SURE).mean())


def _cells(row: dict[str, float]) -> list[str]:
    return [f"{value:.3g}" for value in row.values()]
