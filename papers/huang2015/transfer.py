"""A net's adversarial examples on models that are no nets.  [huang2015, sec. 1]

The work says of the examples of [szegedy2014] that nearest neighbors and boosted trees misclassify
them too; it prints no numbers.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax import attacks
from adv_jax.data.dataset import Arrays
from adv_jax.types import Array, UserError, install_hint
from papers.judging.statistics import spread
from papers.running.drawing import Drawing, Table, rounded
from papers.running.runs import finished, only, trained_on

EPS = 1.5  # l2 norm, that of Table 1
EXAMPLES = 1000  # of the test set: a nearest neighbor takes a pass over all training examples.
# Trees are grown one per class and iteration, on so many training examples; all would take minutes.
TREES = {"max_iter": 50, "random_state": 0}
GROWN_ON = 10_000
Classify = Callable[[np.ndarray], np.ndarray]  # f[B, D] -> i[B]


def models_without_a_net(workdirs: Sequence[str]) -> Drawing:
    """Sec. 1: Adv_Loss examples of nets on a nearest neighbor and on boosted trees.

    The control is uniform noise of the same l2 norm.

    Args:
      workdirs: a finished run of huang_mlp_mnist; each seed's net crafts examples.

    Raises:
      UserError: it is not one finished run without a grid, or scikit-learn is not installed.
    """
    run = finished(only(workdirs, figure="transfer"))
    nets = run.models()
    dataset = nets[0].dataset
    models = fitted(dataset.train)
    x, y = (jnp.asarray(part[:EXAMPLES]) for part in dataset.test)
    shown = {
        net.about["seed"]: {
            "noise": attacks.uniform_noise(
                None, x, y, eps=EPS, norm="l2", key=jax.random.key(net.about["seed"])
            ),
            "adversarial": attacks.fgsm(net.logits_fn, x, y, eps=EPS, norm="l2"),
        }
        for net in nets
    }
    clean = {name: _error(classify, x, y) for name, classify in models.items()}
    by_seed = {
        f"{name}.{what}": {
            seed: _error(classify, examples[what], y) for seed, examples in shown.items()
        }
        for name, classify in models.items()
        for what in ("noise", "adversarial")
    }
    mean = {cell: spread([*values.values()]).mean for cell, values in by_seed.items()}
    rows = [
        (name, clean[name], mean[f"{name}.noise"], mean[f"{name}.adversarial"]) for name in models
    ]
    cells = [[name, *(f"{100 * error:.1f}" for error in found)] for name, *found in rows]
    net = "x".join(map(str, run.config["model"]["features"]))
    caption = (
        f"Error in % on {len(y)} test images, on them with uniform noise of l2 norm {EPS}, and "
        f"on Adv_Loss examples of that norm, crafted on nets of {net} units; {trained_on([run])}. "
        f"The trees learn from {GROWN_ON} images."
    )
    document = {
        "caption": caption,
        "settings": {
            "eps": EPS,
            "examples": len(y),
            "neighbors": 1,
            "trees": TREES | {"examples": GROWN_ON},
            "chosen": ["eps", "examples", "neighbors", "trees"],
        },
        "clean": clean,
        "by_seed": by_seed,
        "runs": [net.about for net in nets],
    }
    columns = ["model", "clean", "noise", "examples of the net"]
    return Drawing(None, document, Table(f"Huang 2015, sec. 1; {run.data}", columns, cells))


def fitted(train: Arrays) -> dict[str, Classify]:
    """Fits a nearest neighbor and gradient-boosted trees to training examples.

    Raises:
      UserError: scikit-learn is not installed.
    """
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.neighbors import KNeighborsClassifier
    except ModuleNotFoundError:
        raise UserError(
            "scikit-learn must be installed for huang2015.transfer "
            f"({install_hint('covtype')}), got none"
        ) from None
    x, y = np.asarray(train.x), np.asarray(train.y)
    x = x.reshape(len(x), -1)
    return {
        "nearest neighbor": KNeighborsClassifier(n_neighbors=1).fit(x, y).predict,
        "boosted trees": HistGradientBoostingClassifier(**TREES)
        .fit(x[:GROWN_ON], y[:GROWN_ON])
        .predict,
    }


def _error(classify: Classify, x: Array, y: Array) -> float:
    return rounded((classify(np.asarray(x.reshape(len(y), -1))) != np.asarray(y)).mean())
