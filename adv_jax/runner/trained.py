"""The model that a run has trained, from its workdir; nothing there is locked or changed."""

import tempfile
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import jax

from adv_jax.data import Dataset
from adv_jax.runner import inputs
from adv_jax.runner.checkpoint import Checkpoints, Restored
from adv_jax.runner.config import ConfigError, Replica, check, leaves, replicas, with_values
from adv_jax.runner.experiment import Experiment, initial
from adv_jax.runner.workdir import is_finished, read_config, read_result
from adv_jax.step import over_replicas
from adv_jax.types import Apply, Array, LogitsFn, UserError, Variables


class Trained(NamedTuple):
    """A replica of a run.

    logits_fn: f32[B, *D] -> f32[B, K], the model that the run's own evaluation takes: of the
      lowest validation error if there is a validation set, else the last; in float32.
    apply: that model; variables: its own.
    dataset: what it was trained and is tested on, preprocessed.
    about: for documents: the experiment, its model and objective, the data and their
      preprocessing, the seed, the overrides and the epochs.
    """

    logits_fn: LogitsFn
    apply: Apply
    variables: Variables
    dataset: Dataset
    about: dict[str, Any]


def load(workdir: str | Path, *, replica: int = 0) -> Trained:
    """Rebuilds a trained model from the newest intact checkpoint of a run.

    Args:
      workdir: the directory of a run that has saved at least one epoch, finished or not.
      replica: its index, in the order of result.json.

    Raises:
      UserError: there is no such run, replica or checkpoint, or its data are not here.
    """
    path = Path(workdir)
    config = checked_config(path)
    count = len(replicas(config))
    if not isinstance(replica, Integral) or not 0 <= replica < count:
        allowed = f"allowed are 0 to {count - 1}, the replicas of {path}"
        raise UserError(f"replica is {replica!r}; {allowed}")
    return _load(path, config, [int(replica)])[0]


def load_all(workdir: str | Path) -> list[Trained]:
    """`load` of each replica; data and checkpoint are read once, and the data are shared."""
    path = Path(workdir)
    config = checked_config(path)
    return _load(path, config, range(len(replicas(config))))


def _load(path: Path, config: Mapping[str, Any], wanted: Sequence[int]) -> list[Trained]:
    runs = replicas(config)
    dataset, rows, about_data, _ = inputs.load(config, runs, path)
    program = experiment(config, dataset)
    saved = restored(path, program, runs)
    arrays = jax.tree.map(jax.numpy.asarray, dataset.arrays())

    def of_replica(replica: int) -> Trained:
        run = jax.tree.map(lambda leaf: leaf[replica], saved.tree)
        mine = {name: of_replicas[replica] for name, of_replicas in rows.items()}
        # As in training: accelerators would round a float32 product to 10 bits or less.
        with jax.default_matmul_precision("float32"):
            variables = program.final_variables(run, arrays, mine)

        def logits_fn(x: Array) -> Array:
            with jax.default_matmul_precision("float32"):
                return program.apply(variables, x).logits

        about = {
            "experiment": config["experiment"],
            "model": config["model"],
            "objective": config["objective"],
            "data": about_data,
            "preprocess": list(config["data"].get("preprocess", ())),
            "replica": replica,
            "seed": runs[replica].seed,
            "overrides": runs[replica].overrides,
            "epochs": saved.epoch,
            "best_epoch": int(run.best_epoch) or None,
        }
        return Trained(logits_fn, program.apply, variables, dataset, about)

    return [of_replica(replica) for replica in wanted]


def checked_config(workdir: Path) -> dict[str, Any]:
    """The config of the run in a directory, in which nothing is out of order.

    Raises:
      UserError: it holds no run, or a config that no run can have, which is named by its file.
    """
    config = read_config(workdir)
    try:
        check(config)
    except ConfigError as error:
        raise ConfigError(f"{workdir / 'config.json'}: {error}") from error
    return config


def experiment(config: Mapping[str, Any], dataset: Dataset) -> Experiment:
    """The program of a run, as far as its model goes.

    What the run was trained with and is attacked with is not asked for, and may need further runs.

    Args:
      config: the whole.
      dataset: as `inputs.load` gives it.

    Raises:
      UserError: what `sources` refuses.
    """
    needed = sources({"data": config["data"], "model": config["model"]}, dataset)
    return Experiment(with_values(config, {"evaluation.attacks": {}}), dataset, needed)


def restored(workdir: Path, program: Experiment, runs: Sequence[Replica]) -> Restored:
    """The newest intact checkpoint of a run; its tree has leading axes of replicas.

    Read through links: a damaged checkpoint is set aside among them. Of a finished run only the
    last one counts: its result.json is not of an earlier one.

    Args:
      program: `experiment` of the run's config.
      runs: its replicas.

    Raises:
      UserError: there is none, it is of another version, or the run is finished and the last one is
        missing or damaged.
    """
    like = jax.eval_shape(over_replicas(program.init), *initial(runs))
    checkpoints = workdir / "checkpoints"
    with tempfile.TemporaryDirectory() as links:
        for epoch in checkpoints.glob("[0-9]*"):
            if epoch.name.isdigit():
                (Path(links) / epoch.name).symlink_to(epoch.absolute())
        try:
            with Checkpoints(Path(links), kept=1) as manager:
                found = manager.restore(like)
        except UserError as error:
            raise UserError(str(error).replace(links, str(checkpoints))) from error
    if found.tree is None:
        raise UserError(f"{checkpoints} has no intact checkpoint; allowed is a run that saved one")
    if is_finished(workdir):
        epochs = [replica.get("epochs") for replica in read_result(workdir)["replicas"]]
        last = max((count for count in epochs if isinstance(count, int)), default=0)
        if found.epoch < last:
            raise UserError(
                f"{checkpoints} has no intact checkpoint of epoch {last}, the last of the finished "
                "run; without result.json the run goes on from what is intact"
            )
    return found


def sources(config: Mapping[str, Any], dataset: Dataset) -> dict[str, LogitsFn]:
    """The trained models that a config names in fields `..._fn`, by workdir.

    Args:
      config: the whole, or `data` and the parts to search.
      dataset: what they are to be used on.

    Raises:
      UserError: there is no such run, it is not finished, or its model takes other inputs.
    """

    def inputs_of(data: Dataset, preprocess: Any) -> tuple[Any, ...]:
        return data.name, data.test.x.shape[1:], data.bounds, list(preprocess)

    needed = inputs_of(dataset, config.get("data", {}).get("preprocess", ()))

    found: dict[str, LogitsFn] = {}
    for path, workdir in leaves(config):
        if not path.endswith("_fn"):
            continue
        if not isinstance(workdir, str):
            raise ConfigError(f"{path} is {workdir!r}; allowed is the workdir of a run")
        if workdir in found:
            continue
        source = load(workdir)
        if not is_finished(Path(workdir)):
            # Trained on, it would be another model when this run is resumed.
            raise ConfigError(f"{path} is {workdir!r}; allowed is a run that is finished")
        its = inputs_of(source.dataset, source.about["preprocess"])
        if its != needed:
            raise ConfigError(
                f"{path} is {workdir!r}, a run on {its}; allowed is one on the same inputs, "
                f"{needed}"
            )
        found[workdir] = source.logits_fn
    return found
