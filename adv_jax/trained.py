"""The model that a run has trained, from its workdir; nothing there is locked or changed."""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax

from adv_jax import data
from adv_jax.checkpoint import Checkpoints, Restored
from adv_jax.config import replicas
from adv_jax.data import Dataset
from adv_jax.experiment import Experiment, initial, rows_of
from adv_jax.result import data_document
from adv_jax.step import over_replicas
from adv_jax.types import Array, LogitsFn, UserError
from adv_jax.workdir import WorkdirError, read_config, read_json


class Trained(NamedTuple):
    """A replica of a run.

    logits_fn: f32[B, *D] -> f32[B, K], the model that the run's own evaluation takes: of the
      lowest validation error if there is a validation set, else the last; in float32.
    dataset: what it was trained and is tested on.
    about: for documents: the experiment, the data, the seed, the overrides and the epochs.
    """

    logits_fn: LogitsFn
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
    config = read_config(path)
    runs = replicas(config)
    if not 0 <= replica < len(runs):
        allowed = f"allowed are 0 to {len(runs) - 1}, the replicas of {path}"
        raise UserError(f"replica is {replica}; {allowed}")
    source = config["data"]
    dataset = data.load(source["name"], source=source["source"], dir=source["dir"])
    rows = rows_of(config, dataset, runs)
    about_data = data_document(dataset, rows)
    if (path / "data.json").is_file() and read_json(path / "data.json") != about_data:
        raise WorkdirError(f"workdir {path} holds a run on other data than {dataset.source} gives")
    experiment = Experiment(config, dataset)
    like = jax.eval_shape(over_replicas(experiment.init), *initial(runs))
    restored = _restored(path / "checkpoints", like)
    run = jax.tree.map(lambda leaf: leaf[replica], restored.tree)
    mine = {name: of_replicas[replica] for name, of_replicas in rows.items()}
    # As in training: accelerators would round a float32 product to 10 bits or less.
    arrays = jax.tree.map(jax.numpy.asarray, dataset.arrays())
    with jax.default_matmul_precision("float32"):
        model = experiment.logits_fn(run, arrays, mine)

    def logits_fn(x: Array) -> Array:
        with jax.default_matmul_precision("float32"):
            return model(x)

    about = {
        "experiment": config["experiment"],
        "data": about_data,
        "replica": replica,
        "seed": runs[replica].seed,
        "overrides": runs[replica].overrides,
        "epochs": restored.epoch,
        "best_epoch": int(run.best_epoch) or None,
    }
    return Trained(logits_fn, dataset, about)


def _restored(checkpoints: Path, like: Any) -> Restored:
    """The newest intact checkpoint, read through links: a damaged one is set aside among them.

    Raises:
      UserError: there is none, or it holds another tree.
    """
    with tempfile.TemporaryDirectory() as links:
        for epoch in checkpoints.glob("[0-9]*"):
            if epoch.name.isdigit():
                (Path(links) / epoch.name).symlink_to(epoch.absolute())
        try:
            with Checkpoints(Path(links), kept=1) as manager:
                restored = manager.restore(like)
        except UserError as error:
            raise UserError(str(error).replace(links, str(checkpoints))) from error
    if restored.tree is None:
        raise UserError(f"{checkpoints} has no intact checkpoint; allowed is a run that saved one")
    return restored
