"""Runs of generators, and a classifier of ours that judges their samples."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from adv_jax.evaluate.batching import over_rows
from adv_jax.runner.config.binding import PREPROCESSING, bind
from adv_jax.runner.run.trained import Trained
from adv_jax.types import Array, UserError
from papers.running.runs import Finished, finished

BATCH_SIZE = 500


class Judged(NamedTuple):
    """Images in the eyes of a classifier.

    logits: f[n, K].
    features: f[n, F], of its last hidden layer.
    """

    logits: np.ndarray
    features: np.ndarray


class Given(NamedTuple):
    """The runs of a figure.

    runs, models: the runs of generators, and the model of each of their replicas.
    classifier: the first seed of the run of a classifier.
    """

    runs: list[Finished]
    models: list[Trained]
    classifier: Trained


def given(workdirs: Sequence[str]) -> Given:
    """Loads runs of generators and one run of a classifier, in any order.

    Raises:
      UserError: a run is unfinished or has a grid; there is not one run of a classifier beside
        others; the data differ, or those of a generator are preprocessed.
    """
    runs = [finished(workdir) for workdir in workdirs]
    models = [run.models() for run in runs]
    classifies = [first.predicts == "labels" for first, *_ in models]
    if sum(classifies) != 1 or len(runs) == 1:
        legal = "runs of generators and one of a classifier"
        raise UserError(f"workdir must be {legal}, got {', '.join(map(str, workdirs))}")
    if len({str(run.result["data"]["sha256"]) for run in runs}) > 1:
        raise UserError("workdir must be runs on the same data, got different data")
    classifier = models.pop(classifies.index(True))[0]
    runs.pop(classifies.index(True))
    for run in runs:
        if run.config["data"].get("preprocess", ()):
            raise UserError(f"workdir must be a run without preprocessing, got {run.path}")
    return Given(runs, [model for of_run in models for model in of_run], classifier)


def judge(classifier: Trained, train: np.ndarray) -> Callable[[np.ndarray], Judged]:
    """Returns the function from images in natural units to what the classifier sees in them.

    train: its training images in natural units, to which its preprocessing is fitted.
    """
    transforms = []
    for i, spec in enumerate(classifier.about["preprocess"]):
        fit = bind(spec, PREPROCESSING, field=f"data.preprocess[{i}]")()
        transforms.append(fit(train))
        train = transforms[-1].apply(train)

    def of_batch(x: Array) -> tuple[Array, Array]:
        output = classifier.apply(classifier.variables, x)
        last = max(name for name in output.extras if name.startswith("hidden"))
        return output.logits.T, output.extras[last].reshape(len(x), -1).T

    def judged(images: np.ndarray) -> Judged:
        for transform in transforms:
            images = transform.apply(images)
        found = over_rows(of_batch, (images,), batch_size=BATCH_SIZE)
        return Judged(*(np.asarray(rows).T for rows in found))

    return judged
