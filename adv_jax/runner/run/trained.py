"""Loads trained models from workdirs, without locking or changing them."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from adv_jax.data import Dataset
from adv_jax.runner.config import plugins
from adv_jax.runner.config.building import model_of, predicted_by
from adv_jax.runner.config.document import ConfigError, is_model_field, leaves, with_values
from adv_jax.runner.config.fields import check
from adv_jax.runner.config.replicas import Replica, replicas
from adv_jax.runner.host.numerics import same_numerics
from adv_jax.runner.run import inputs
from adv_jax.runner.run.experiment import Experiment, initial
from adv_jax.runner.run.sources import finished
from adv_jax.runner.store.checkpoint import Checkpoints, Restored, Tree, saved_epochs
from adv_jax.runner.store.workdir import is_finished, read_config, read_result
from adv_jax.runner.store.writing import scratch
from adv_jax.types import Apply, Array, LogitsFn, UserError, Variables

_ROUNDING = 1e-4  # of inputs that two machines have preprocessed, as a part of a feature's range


class Trained(NamedTuple):
    """A trained replica.

    logits_fn: f32[B, *D] -> f32[B, K], the model of the lowest validation error, or the last one
      without a validation set; computes in float32. Without classes, what the model returns.
    apply: the apply function of the model.
    variables: the variables of the model.
    predicts: "labels", "real" or "loss"; see `adv_jax.models`.
    dataset: its preprocessed data set; the images of a discriminator have class 1, real.
    about: for documents: the experiment, the model and objective as this replica had them, the data
      and preprocessing, the seed, the overrides and the epochs.
    """

    logits_fn: LogitsFn
    apply: Apply
    variables: Variables
    predicts: str
    dataset: Dataset
    about: dict[str, Any]


def load(workdir: str | Path, *, replica: int = 0) -> Trained:
    """Loads a trained model from the newest intact checkpoint of a run.

    Args:
      workdir: the directory of a run, finished or not, that has saved an epoch.
      replica: index of the replica in result.json.

    Raises:
      UserError: the run, the replica, the checkpoint or the data does not exist.
    """
    path = Path(workdir)
    config = checked_config(path)
    count = len(replicas(config))
    if not isinstance(replica, Integral) or not 0 <= replica < count:
        legal = f"0 to {count - 1}, the replicas of {path}"
        raise UserError(f"replica must be {legal}, got {replica!r}")
    return _load(path, config, [int(replica)])[0]


def load_all(workdir: str | Path) -> list[Trained]:
    """Loads all replicas of a run; they share the data."""
    path = Path(workdir)
    config = checked_config(path)
    return _load(path, config, range(len(replicas(config))))


@same_numerics()
def _load(path: Path, config: Mapping[str, Any], wanted: Sequence[int]) -> list[Trained]:
    runs = replicas(config)
    dataset, rows, about_data, _ = inputs.load(config, runs, path)
    built = experiment(config, dataset)
    saved = restored(path, built, runs)
    arrays = jax.device_put(dataset.arrays())

    def of_replica(replica: int) -> Trained:
        run, run_of = jax.tree.map(lambda leaf: leaf[replica], saved.tree), runs[replica]
        mine = {name: of_replicas[replica] for name, of_replicas in rows.items()}
        variables = built.final_variables(run, arrays, mine)
        apply = same_numerics()(built.apply)

        def logits_fn(x: Array) -> Array:
            return apply(variables, x).logits

        about = {
            "experiment": config["experiment"],
            "model": config["model"],
            "objective": with_values(config, run_of.overrides)["objective"],
            "data": about_data,
            "preprocess": inputs.preprocessing_of(config["data"]),
            "replica": replica,
            "seed": run_of.seed,
            "overrides": run_of.overrides,
            "epochs": int(run.state.step) // built.steps_per_epoch,
            "best_epoch": int(run.best_epoch) or None,
        }
        return Trained(logits_fn, apply, variables, built.predicts, labeled, about)

    labeled = _real(dataset) if built.predicts == "real" else dataset
    return [of_replica(replica) for replica in wanted]


def _real(dataset: Dataset) -> Dataset:
    """Returns the data of a discriminator: all images have class 1, real."""
    train, test = (part._replace(y=np.ones_like(part.y)) for part in (dataset.train, dataset.test))
    return dataset._replace(train=train, test=test, num_classes=2)


def tested_apart(one: Dataset, other: Dataset) -> str:
    """Returns the first difference of two test sets, as "num_classes 8 and 2"; "" if there is none.

    Models on equal files may be tested on other examples: the labels of a discriminator are others,
    and `data` may crop or preprocess.
    """
    if apart := _apart(one, other):
        return apart
    if not np.array_equal(one.test.y, other.test.y):
        return "other test labels"
    # Machines differ in the rounding of fitted preprocessing, constant features in that of others.
    x = one.test.x
    least = np.finfo(np.float32).eps * np.ptp(x)
    slack = np.maximum(_ROUNDING * np.ptp(x, axis=0, keepdims=True), least)
    close = np.allclose(x, other.test.x, rtol=0, atol=slack)
    return "" if close else "other test inputs, as by another data.preprocess or data.crop"


def _apart(one: Dataset, other: Dataset) -> str:
    """Returns the first difference of what models on two data sets take and predict, or ""."""
    facts = {
        "data.name": (one.name, other.name),
        "num_classes": (one.num_classes, other.num_classes),
        "bounds": (one.bounds, other.bounds),
        "inputs of the shape": (one.test.x.shape[1:], other.test.x.shape[1:]),
    }
    differing = (f"{name} {own} and {its}" for name, (own, its) in facts.items() if own != its)
    return next(differing, "")


def checked_config(workdir: Path) -> dict[str, Any]:
    """Returns the config of a run after checking it.

    Raises:
      UserError: the directory holds no run, or its config is invalid, or names a module that is not
        found from the current directory or whose file has changed since.
    """
    config = read_config(workdir)
    try:
        check(config)
        return dict(plugins.recorded(config))
    except ConfigError as error:
        raise ConfigError(f"{workdir / 'config.json'}: {error}") from error


def experiment(config: Mapping[str, Any], dataset: Dataset) -> Experiment:
    """Builds the experiment of a run without the sources of its objective and attacks.

    Args:
      config: the complete config.
      dataset: the output of `inputs.load`.

    Raises:
      UserError: see `source_fns`.
    """
    needed = source_fns({"data": config["data"], "model": config["model"]}, dataset)
    return Experiment(with_values(config, {"evaluation.attacks": {}}), dataset, needed)


def restored(workdir: Path, built: Experiment, runs: Sequence[Replica]) -> Restored:
    """Returns the newest intact checkpoint of a run; its tree has a leading axis of replicas.

    Reads through temporary links, so that a damaged checkpoint is not renamed in the workdir. For a
    finished run only the last checkpoint is valid, as result.json belongs to it.

    Args:
      workdir: the directory of the run.
      built: the output of `experiment`.
      runs: the replicas.

    Raises:
      UserError: there is no intact checkpoint, it is from another version, or the run is finished
        and the last checkpoint is missing or damaged.
    """
    like = jax.eval_shape(jax.vmap(built.init), *initial(runs))
    checkpoints = workdir / "checkpoints"
    ended = is_finished(workdir)  # First: the run, if it trains, ends after its last checkpoint.
    found = _newest(checkpoints, like)
    if found.tree is None:
        raise UserError(f"{checkpoints} must have an intact checkpoint, got none")
    if ended:
        epochs = [replica.get("epochs") for replica in read_result(workdir)["replicas"]]
        last = max((count for count in epochs if isinstance(count, int)), default=0)
        if found.epoch < last:
            raise UserError(
                f"{checkpoints} must have an intact checkpoint of epoch {last}, the last of the "
                f"finished run, got epoch {found.epoch}; delete result.json to resume from there"
            )
    return found


def _newest(checkpoints: Path, like: Tree) -> Restored:
    """Returns the newest intact checkpoint of a folder, of which a run may delete the old ones."""
    if not checkpoints.is_dir():
        return Restored(0, None, {}, [])
    while True:
        epochs = saved_epochs(checkpoints)
        with scratch() as links:
            for epoch in map(str, epochs):
                (links / epoch).symlink_to((checkpoints / epoch).absolute())
            try:
                with Checkpoints(links, kept=1) as manager:
                    found = manager.restore(like)
            except UserError as error:
                raise UserError(str(error).replace(str(links), str(checkpoints))) from error
        is_newest = found.tree is not None and found.epoch == epochs[-1]
        if is_newest or saved_epochs(checkpoints) == epochs:
            return found


def source_fns(config: Mapping[str, Any], dataset: Dataset) -> dict[str, LogitsFn]:
    """Returns workdir -> trained model, for all fields `..._fn` of a config.

    Args:
      config: the complete config, or `data` and the parts to search.
      dataset: the data set to use the models on.

    Raises:
      UserError: a workdir holds no finished run, or its model takes other inputs or predicts other
        classes.
    """
    fields = {path: workdir for path, workdir in leaves(config) if is_model_field(path)}
    folders = {workdir: finished(path, workdir) for path, workdir in fields.items()}
    models = {workdir: load(folder) for workdir, folder in folders.items()}
    found = {workdir: model.logits_fn for workdir, model in models.items()}
    for path, workdir in fields.items():
        source, own = models[workdir], dataset
        if source.predicts == "real" and predicted_by(model_of(config["model"], found)) == "real":
            own = _real(dataset)
        ours = inputs.preprocessing_of(config.get("data", {}))
        theirs = source.about["preprocess"]
        apart = _apart(own, source.dataset) or (
            "" if ours == theirs else f"data.preprocess {ours} and {theirs}"
        )
        if apart:
            raise ConfigError(
                f"{path} must be a run on the same inputs, of the same classes, got {workdir!r}: "
                f"{apart}"
            )
    return found
