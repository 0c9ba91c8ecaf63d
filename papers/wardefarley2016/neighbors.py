"""FGSM on smoothed nearest neighbors, computed in three ways.  [wardefarley2016, sec. 1.2.1]

p_y is a sum of softmax weights w_n. Where it is nearly 1, the gradient of -log p_y is a difference
of nearly equal numbers, and in float32 it depends on how it is computed:

    log-sum-exp    of the distances to each class, without such a difference
    weights        p_y as JAX differentiates it, weight by weight
    zero at 1      the same, and 0 where p_y rounds to 1
"""

from functools import partial

import jax
import jax.numpy as jnp

from adv_jax import attacks, models
from adv_jax.data.dataset import Arrays
from adv_jax.evaluate.batching import over_rows
from adv_jax.runner.run.trained import Trained
from adv_jax.types import Array
from papers.judging import numbers
from papers.running.drawing import Drawing, Table, rounded
from papers.wardefarley2016.transfer import EPS

PRINTED = "wardefarley2016.table1_1.smoothed_nn_to_nn"
BATCH_SIZE = 50  # Each row has a weight for every training example.


def gradients(run: Trained) -> Drawing:
    """Table 1.1's smoothed nearest neighbor, by three ways to compute its gradient.

    Args:
      run: a run on MNIST, whose data are used and whose model is not.
    """
    dataset = run.dataset
    measured = partial(_measured, train=dataset.train, num_classes=dataset.num_classes)
    fooled, is_sure = over_rows(measured, dataset.test, batch_size=BATCH_SIZE)
    found = {way: rounded(rows.mean()) for way, rows in fooled.items()}
    share, count = rounded(is_sure.mean()), len(dataset.test.y)
    printed = numbers.fraction(PRINTED)
    caption = (
        f"Error of the nearest neighbor on FGSM's examples of size {EPS} of smoothed nearest "
        f"neighbors, printed {100 * printed:.1f} %, by the way to compute the gradient in float32: "
        + ", ".join(f"{way} {100 * error:.1f} %" for way, error in found.items())
        + f". p_y rounds to 1 for {100 * share:.1f} % of {count} test examples."
    )
    document = {
        "caption": caption,
        "settings": {"attack": "fgsm", "eps": EPS, "bounds": None, "chosen": ["eps"]},
        "data": {"name": dataset.name, "source": dataset.source, "test": count},
        "error": found,
        "printed": printed,
        "rounds_to_1": share,
    }
    rows = [(way, f"{100 * error:.1f}", f"{100 * printed:.1f}") for way, error in found.items()]
    title = "Smoothed to nearest neighbor, Table 1.1, error in %"
    return Drawing(None, document, Table(title, ("gradient", "here", "printed"), rows))


def _measured(
    x: Array, y: Array, *, train: Arrays, num_classes: int
) -> tuple[dict[str, Array], Array]:
    """Returns way -> bool[B], whether the nearest neighbor is fooled, and bool[B], if p_y is 1."""
    of_data = {"train_x": train.x, "train_y": train.y, "num_classes": num_classes}
    exact = attacks.fgsm(partial(models.smoothed_nearest_neighbor, **of_data), x, y, eps=EPS)
    probability, step = step_by_weights(x, y, train)
    is_sure = probability == 1
    stays = is_sure.reshape(-1, *(1,) * (x.ndim - 1))
    moved = x + EPS * step
    shown = {"log-sum-exp": exact, "weights": moved, "zero at 1": jnp.where(stays, x, moved)}
    nearest = partial(models.nearest_neighbor, **of_data)
    fooled = {way: nearest(example).argmax(axis=1) != y for way, example in shown.items()}
    return fooled, is_sure


def step_by_weights(x: Array, y: Array, train: Arrays) -> tuple[Array, Array]:
    """Returns p_y f32[B] and the sign of -grad log p_y, f32[B, *D], both by the weights."""
    examples, classes = map(jnp.asarray, train)
    flat = examples.reshape(len(examples), -1)

    def loss(x: Array) -> tuple[Array, Array]:
        closeness = 2 * x.reshape(len(x), -1) @ flat.T - jnp.square(flat).sum(axis=1)[None]
        weights = jax.nn.softmax(closeness, axis=1)
        probability = jnp.where(classes[None] == y[:, None], weights, 0).sum(axis=1)
        return -jnp.log(probability).sum(), probability

    slope, probability = jax.grad(loss, has_aux=True)(x)
    return probability, jnp.sign(slope)
