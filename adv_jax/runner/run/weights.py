"""Starts a model from a file of arrays, or from the parameters of another run.

`config.model.weights` is a file .npz or .safetensors that has each variable of the model, and
nothing else, under the names of `flax.traverse_util.flatten_dict(variables, sep="/")`, such as
"params/hidden1/kernel" and "batch_stats/hidden2/norm1/mean". All replicas start from them.

A run keeps a copy in its workdir, and does not read the file again when it resumes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from adv_jax.data import files
from adv_jax.runner.config.document import ConfigError
from adv_jax.runner.store.workdir import read_weights
from adv_jax.types import Variables, install_hint

_SUFFIXES = (".npz", ".safetensors")
_SHOWN = 3  # of the arrays that do not fit


def read(file: str, workdir: Path | None = None) -> dict[str, np.ndarray]:
    """Returns {name: array} of the workdir's copy, or else of the file; floats as float32.

    Raises:
      UserError: the file or the copy is missing or damaged, or holds something else than numbers.
    """
    if workdir and (found := read_weights(workdir)):
        return found
    path = Path(file)
    if path.suffix not in _SUFFIXES:
        raise ConfigError(f"model.weights must be a file {' or '.join(_SUFFIXES)}, got {file!r}")
    try:
        found = _safetensors(path) if path.suffix == ".safetensors" else _npz(path)
    except OSError as error:
        why = error.strerror or error
        raise ConfigError(f"model.weights must be a readable file, got {file!r} ({why})") from error
    except ConfigError:
        raise
    except Exception as error:  # Readers raise errors of many types for damaged files.
        why = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        legal = f"an intact {path.suffix} file of numbers"
        raise ConfigError(f"model.weights must be {legal}, got {file!r} ({why})") from error
    return {name: _of_32_bits(name, array) for name, array in found.items()}


def fitted(variables: Variables, given: Mapping[str, Any], file: str) -> Variables:
    """Returns variables like those of a new model, with the arrays given.

    Raises:
      ConfigError: a name is missing or unknown, or an array has another shape.
    """
    own: dict[str, Any] = flatten_dict(variables, sep="/")
    missing = [name for name in own if name not in given]
    others = [name for name in given if name not in own]
    if missing or others:
        found = [f"without {_listed(missing)}"] * bool(missing)
        found += [f"with {_listed(others)}"] * bool(others)
        raise ConfigError(
            f"model.weights must have the arrays of the model, got {file!r} {' and '.join(found)}"
        )
    wrong = [name for name, array in own.items() if given[name].shape != array.shape]
    if wrong:
        raise ConfigError(
            f"model.weights must have {_listed(f'{name} {[*own[name].shape]}' for name in wrong)}, "
            f"got {file!r} with {_listed(str([*given[name].shape]) for name in wrong)}"
        )
    return unflatten_dict(
        {name: jnp.asarray(given[name], array.dtype) for name, array in own.items()}, sep="/"
    )


def replaced(params: Mapping[str, Any], start: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameters with those of `start` in place of the ones of equal names.

    Raises:
      ConfigError: there are none, or one has another shape or form, such as an array where the
        model has a layer.
    """
    old: dict[Any, Any] = flatten_dict(params)
    new: dict[Any, Any] = flatten_dict(start)
    common = [path for path in old if path in new]
    if not common:
        raise ConfigError(
            f"pretrained.part must share a layer with the model, which has {', '.join(params)}, "
            f"got {', '.join(start)}"
        )
    for path in new:
        for other in old:
            if path != other and path[: len(other)] == other[: len(path)]:
                allowed, found = ".".join(other), ".".join(path)
                raise ConfigError(
                    f"pretrained.part must have {allowed} as the model has, got {found}"
                )
    for path in common:
        if old[path].shape != new[path].shape:
            raise ConfigError(
                f"pretrained.part must have {'.'.join(path)} of the model's shape, "
                f"{old[path].shape}, got {new[path].shape}"
            )
    return unflatten_dict({**old, **{path: new[path] for path in common}})


def _npz(path: Path) -> dict[str, np.ndarray]:
    with files.npz(path) as arrays:
        return dict(arrays)


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        from safetensors import safe_open
    except ImportError as error:
        legal = f"a file .npz without safetensors ({install_hint('safetensors')})"
        raise ConfigError(f"model.weights must be {legal}, got {str(path)!r}") from error
    with safe_open(path, framework="np") as arrays:
        return {name: arrays.get_tensor(name) for name in arrays.keys()}  # noqa: SIM118


def _of_32_bits(name: str, array: np.ndarray) -> np.ndarray:
    if jnp.issubdtype(array.dtype, jnp.floating):
        return array.astype(np.float32)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise ConfigError(f"model.weights must be arrays of numbers, got {name} {array.dtype}")
    return array


def _listed(names: Any) -> str:
    names = [*names]
    rest = [f"{len(names) - _SHOWN} more"] * (len(names) > _SHOWN)
    return ", ".join([*names[:_SHOWN], *rest])
