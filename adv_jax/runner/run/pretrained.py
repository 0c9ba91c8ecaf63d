"""Starts runs from the parameters of finished ones.

`config.pretrained` is {"workdir": RUN, "part": NAME}. The parameters of the part, such as
"encoder", replace those of equal names in the new model; "" is the whole model. The others stay
initialized. A replica takes the parameters of its own seed, or those of the only replica; with
"replica": INDEX, all take those of that replica of the run.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from adv_jax.runner.config.document import ConfigError
from adv_jax.runner.config.replicas import Replica
from adv_jax.runner.run import weights
from adv_jax.runner.run.sources import finished
from adv_jax.runner.run.trained import Trained, load_all
from adv_jax.types import not_one_of


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
    start = config["pretrained"]
    models = load_all(finished("pretrained.workdir", start["workdir"]))
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


def _part(params: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Returns the parameters of a submodule, or all for ""."""
    legal = {part: inner for part, inner in params.items() if isinstance(inner, Mapping)}
    if name and name not in legal:
        raise ConfigError(not_one_of("pretrained.part", name, legal))
    return legal[name] if name else params


def _listed(seeds: Any) -> str:
    return ", ".join(map(str, sorted(seeds)))
