"""Starts runs from the parameters of finished ones.

`config.pretrained` is {"workdir": RUN, "part": NAME}. The parameters of the part, such as
"encoder", replace those of equal names in the new model; "" is the whole model. The others stay
initialized. A replica takes the parameters of its own seed, or those of the only replica; with
"replica": INDEX, all take those of that replica of the run.

A run records the SHA-256 of the other's result.json, and is not resumed if it has changed.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from adv_jax.runner.config.document import ConfigError, unknown
from adv_jax.runner.config.replicas import Replica
from adv_jax.runner.run import weights
from adv_jax.runner.run.trained import Trained, load_all
from adv_jax.runner.store.workdir import is_finished, json_bytes, read_json
from adv_jax.runner.store.writing import WorkdirError, replace

_RECORD = "pretrained.json"


def checked_sha256(config: Mapping[str, Any], workdir: Path) -> str:
    """Returns the SHA-256 of the result.json of the run to start from, or "".

    Raises:
      UserError: that run is not finished, or the run in `workdir` has started from another.
    """
    if not config.get("pretrained"):
        return ""
    file = _finished(config) / "result.json"
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    record = workdir / _RECORD
    if record.exists() and read_json(record) != {"sha256": found}:
        raise WorkdirError(f"{file} must be the one that {record} names, got SHA-256 {found}")
    return found


def record(workdir: Path, sha256: str) -> None:
    """Records the output of `checked_sha256`."""
    if sha256:
        replace(workdir / _RECORD, json_bytes({"sha256": sha256}))


def starts(
    config: Mapping[str, Any], replicas: Sequence[Replica], workdir: Path | None = None
) -> dict[str, Any]:
    """Returns the pre-trained parameters of each replica, with leaves f32[R, ...], or {}.

    With `model.weights`, they are the arrays of that file by name: see `weights`.

    Args:
      workdir: of the run that starts, for its copy of the weights.

    Raises:
      UserError: the source holds no finished run, or no such part or seed; the file of weights
        cannot be read.
    """
    if file := config["model"].get("weights"):
        arrays = weights.read(file, workdir)
        return {name: np.broadcast_to(a, (len(replicas), *a.shape)) for name, a in arrays.items()}
    if not config.get("pretrained"):
        return {}
    models = load_all(_finished(config))
    start = config["pretrained"]
    chosen = _chosen(models, [replica.seed for replica in replicas], start.get("replica"))
    params = [_part(model.variables["params"], start["part"]) for model in chosen]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *params)


def _chosen(models: Sequence[Trained], seeds: Sequence[int], index: int | None) -> list[Trained]:
    """Returns the model that each seed starts from."""
    if index is not None or len(models) == 1:
        index = index or 0
        if index >= len(models):
            legal = f"0 to {len(models) - 1}, the replicas of pretrained.workdir"
            raise ConfigError(f"pretrained.replica must be {legal}, got {index}")
        return [models[index]] * len(seeds)
    found = [model.about["seed"] for model in models]
    if len({*found}) < len(found) or not {*seeds} <= {*found}:
        raise ConfigError(
            f"pretrained.workdir must have one replica, or one of each seed {_listed({*seeds})}, "
            f"got seeds {_listed(found)}; pretrained.replica chooses one by its index"
        )
    return [models[found.index(seed)] for seed in seeds]


def _finished(config: Mapping[str, Any]) -> Path:
    workdir = Path(config["pretrained"]["workdir"])
    if not is_finished(workdir):
        raise ConfigError(f"pretrained.workdir must be a finished run, got {str(workdir)!r}")
    return workdir


def _part(params: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Returns the parameters of a submodule, or all for ""."""
    legal = {part: inner for part, inner in params.items() if isinstance(inner, Mapping)}
    if name and name not in legal:
        raise ConfigError(unknown("pretrained.part", name, legal))
    return legal[name] if name else params


def _listed(seeds: Any) -> str:
    return ", ".join(map(str, sorted(seeds)))
