"""The attack on a net whose predicted classes alone are known.  [wardefarley2016, sec. 1.2.1]

The source tells of the experiment of [papernot2017] and prints no numbers of it. Here the first
queries are the last test images, which are not attacked, and FGSM is run on the substitute.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adv_jax import attacks, evaluate, models, objectives, step
from adv_jax.runner.run.trained import Trained
from adv_jax.types import Array, LogitsFn, UserError
from papers.judging.statistics import spread
from papers.running.drawing import Drawing, Table, rounded
from papers.running.runs import finished_runs, require_one_model, trained_on
from papers.wardefarley2016.targets import EPSILONS, QUERIED

FIRST, ROUNDS, EPOCHS, AUGMENTED = 150, 6, 10, 0.1  # those of [papernot2017]
UNITS = (200, 200)  # of the substitute


class Attacked(NamedTuple):
    """errors: of the victim by what it sees; agreed: share of test images of equal classes."""

    errors: dict[str, float]
    agreed: float


def substitutes(workdirs: Sequence[str]) -> Drawing:
    """Sec. 1.2.1: errors of nets on the examples of substitutes that have asked them for classes.

    Args:
      workdirs: runs of one net with labels and pixels in [0, 1].

    Raises:
      UserError: a run is unfinished, has a grid or other inputs, or the models or data differ.
    """
    runs = finished_runs(workdirs)
    require_one_model(runs)
    found = {model.about["seed"]: attacked(model) for run in runs for model in run.models()}
    by_seed = {
        name: {seed: one.errors[name] for seed, one in found.items()}
        for name in next(iter(found.values())).errors
    }
    means = {name: 100 * spread([*of_seeds.values()]).mean for name, of_seeds in by_seed.items()}
    agreed = 100 * spread([one.agreed for one in found.values()]).mean
    queries = FIRST << ROUNDS
    trained = trained_on(runs)
    document = {
        "caption": "Test error of a net in % by what it sees and the l-infinity size: "
        + "; ".join(f"{name} {mean:.4g}" for name, mean in means.items())
        + f". The substitute has asked for {queries:,} classes, and agrees with the net on "
        f"{agreed:.1f} % of the test images. {trained}.",
        "settings": {
            "attack": "fgsm",
            "bounds": (0, 1),
            "first_queries": FIRST,
            "rounds": ROUNDS,
            "step": AUGMENTED,
            "substitute": UNITS,
            "chosen": ["nets", "optimizer", "epochs"],
        },
        "by_seed": by_seed,
        "agreed": {seed: one.agreed for seed, one in found.items()},
        "data": runs[0].result["data"],
    }
    cells = [
        [shown, *(f"{means[f'{shown}, {eps:g}']:.4g}" for eps in EPSILONS)] for shown in QUERIED
    ]
    title = f"A net that tells its classes, error in %; {trained}"
    return Drawing(None, document, Table(title, ["shown", *map("{:g}".format, EPSILONS)], cells))


def attacked(victim: Trained) -> Attacked:
    """Trains a substitute for a net, and attacks the net with it."""
    if victim.predicts != "labels" or victim.dataset.bounds != (0, 1):
        found = victim.about["experiment"]
        raise UserError(f"workdir must be a classifier of pixels in [0, 1], got a run of {found}")
    seed = victim.about["seed"]
    tested, asked = np.split(victim.dataset.test.x, [-FIRST])
    x, y = jnp.asarray(tested), jnp.asarray(victim.dataset.test.y[:-FIRST])
    classes = jax.jit(lambda x: victim.logits_fn(x).argmax(axis=1))
    found = _substitute(classes, asked, num_classes=victim.dataset.num_classes, seed=seed)
    error = lambda shown: rounded(jnp.mean(classes(shown) != y))
    errors = {}
    for eps in EPSILONS:
        examples = (
            attacks.fgsm(victim.logits_fn, x, y, eps=eps, bounds=(0, 1)),
            attacks.fgsm(found, x, y, eps=eps, bounds=(0, 1)),
            attacks.sign_noise(None, x, y, eps=eps, bounds=(0, 1), key=jax.random.key(seed)),
        )
        errors |= {
            f"{name}, {eps:g}": error(shown) for name, shown in zip(QUERIED, examples, strict=True)
        }
    return Attacked(errors, rounded(jnp.mean(found(x).argmax(axis=1) == classes(x))))


def _substitute(
    classes: Callable[[Array], Array], asked: np.ndarray, *, num_classes: int, seed: int
) -> LogitsFn:
    """Returns the logits of a net that was trained on a net's answers."""
    key_init, key = jax.random.split(jax.random.key(seed))
    net, optimizer = models.mlp(features=UNITS, num_classes=num_classes), optax.adam(1e-3)
    apply = models.apply_fn(net)
    variables = models.init(net, key_init, jnp.asarray(asked[:2]))
    found = evaluate.substitute(
        lambda x: np.asarray(classes(jnp.asarray(x))),
        jnp.asarray(asked),
        apply=apply,
        step=step.make_step(partial(objectives.cross_entropy, apply), optimizer),
        state=step.init_state(variables, optimizer, seed=seed),
        rounds=ROUNDS,
        eps=AUGMENTED,
        epochs=EPOCHS,
        bounds=(0, 1),
        key=key,
    )
    return found.logits_fn
