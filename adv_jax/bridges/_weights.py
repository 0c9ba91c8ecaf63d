"""The weights of a torch model under the names and in the layout of Flax."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from adv_jax.types import UserError, described, host_array

# Array of a torch layer -> collection and name in Flax; a weight of two or more axes is a kernel.
_LEAVES = {
    "weight": ("params", "scale"),
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}


def weights_from_torch(
    state_dict: Mapping[str, Any], layers: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Returns the arrays f32 of a torch model under the names and in the layout of Flax.

    The names are those of `flax.traverse_util.flatten_dict(variables, sep="/")`, which
    `config.model.weights` reads from a file and `unflatten_dict(arrays, sep="/")` turns into
    variables. Kernels [O, I, ...] become [..., I, O]; `num_batches_tracked` is dropped. Torch
    flattens maps as channel, row, column and Flax as row, column, channel: permute the kernel's
    rows of a dense layer above such maps yourself. Embeddings and transposed convolutions, which a
    state_dict does not tell apart from the others, have another layout.

    Args:
      state_dict: {name: tensor or array} of dense, convolutional (not transposed) and batch
        normalization layers.
      layers: {layer of state_dict: path in the Flax model}, such as
        {"layer1.0.bn1": "hidden2/norm1"}.

    Raises:
      UserError: a layer is not in both, or has an array of another name, or of what is no finite
        number in float32; two have one path; no dicts of texts.

    >>> state_dict = {"fc.weight": np.zeros((10, 784)), "fc.bias": np.zeros(10)}
    >>> arrays = weights_from_torch(state_dict, {"fc": "logits"})
    >>> {name: array.shape for name, array in arrays.items()}
    {'params/logits/kernel': (784, 10), 'params/logits/bias': (10,)}
    """
    for argument, given in {"state_dict": state_dict, "layers": layers}.items():
        if not isinstance(given, Mapping):
            raise UserError(f"{argument} must be a dict, got a {type(given).__name__}")
        if other := [name for name in given if not isinstance(name, str)]:
            raise UserError(f"{argument} must have texts as names, got {other[0]!r}")
    for path in layers.values():
        if not isinstance(path, str) or not path:
            raise UserError(f"layers must have one path for each layer, got {path!r}")
    for path, count in Counter(layers.values()).items():
        if count > 1:
            raise UserError(f"layers must have one path for each layer, got {path!r} twice")
    found = {}
    for name, value in state_dict.items():
        layer, _, leaf = name.rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        if layer not in layers:
            has = f"got none for {layer!r} of {name!r}"
            raise UserError(f"layers must have each layer of state_dict, {has}")
        array = host_array(_on_host(value))
        # V is bfloat16, which NumPy's files do not know.
        if array is None or array.dtype.kind not in "iufV":
            raise UserError(
                f"state_dict must have arrays of numbers, got {described(value)} for {name!r}"
            )
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise UserError(
                f"state_dict must have numbers that are finite in float32, got others in {name!r}"
            )
        if leaf not in _LEAVES:
            legal = f"the arrays {', '.join(_LEAVES)} in each layer"
            raise UserError(f"state_dict must have {legal}, got {name!r}")
        collection, ours = _LEAVES[leaf]
        if leaf == "weight" and array.ndim > 1:
            ours, array = "kernel", np.moveaxis(array, (1, 0), (-2, -1))
        found[f"{collection}/{layers[layer]}/{ours}"] = np.ascontiguousarray(array)
    used = {name.rpartition(".")[0] for name in state_dict}
    if unused := [layer for layer in layers if layer not in used]:
        raise UserError(f"layers must be layers of state_dict, got {unused[0]!r}")
    return found


def _on_host(value: Any) -> Any:
    """Returns a tensor on the host, floats as float32: NumPy may not know those of 16 bits."""
    if not hasattr(value, "detach"):
        return value
    value = value.detach().cpu()
    return value.float() if value.is_floating_point() else value
