"""Models of other libraries as functions that attacks and evaluations take.

    logits_fn = bridges.from_torch(module)                             # with its gradients
    logits_fn = bridges.black_box(pipeline.predict, num_classes=10)    # without a derivative

    arrays = bridges.weights_from_torch(state_dict, layers)            # for a model of ours

The first two call the model on the host by `jax.pure_callback`, also inside `jit`, `vmap` and
`grad`; what vmap maps over becomes one larger batch. At the first call with a new shape of x they
call the model once on zeros of that shape, and once more at the first gradient, which gives the
number of classes and finds mistakes early. Make a bridge once, outside of loops: each new one
compiles the attack again.
"""

import functools
import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax.checks import callback_errors, check_function, checked_number
from adv_jax.types import Array, LogitsFn, UserError, described, host_array, install_hint, is_known

__all__ = ["black_box", "from_torch", "weights_from_torch"]

# Array of a torch layer -> collection and name in Flax; a weight of two or more axes is a kernel.
_LEAVES = {
    "weight": ("params", "scale"),
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}
# Types of PyTorch, which is imported on first use.
Module = Any  # torch.nn.Module
Tensor = Any  # torch.Tensor


def from_torch(module: Module) -> LogitsFn:
    """Returns a module of PyTorch as x f[B, *D] -> logits f[B, K], with torch's own gradients.

    x has the axes that the module takes; for images [B, H, W, C], write
    `lambda x: logits_fn(jnp.moveaxis(x, -1, 1))`. Arrays pass by DLPack, on a CPU without a copy,
    except that a forward pass whose gradient follows keeps its input. The module stays where it is,
    also on a GPU, and its weights are read in each call. Logits have the dtype of x, or float32 if
    x has integers. There is no forward-mode derivative and no second one.

    Args:
      module: in evaluation mode, with logits f[B, K] as its only output.

    Raises:
      UserError: torch is not installed, or no such module; when called, the module is in training
        mode, cannot take x, changes it in place, or returns something else; in an attack that needs
        a gradient, its logits have none.

    >>> import torch  # doctest: +SKIP
    >>> logits_fn = from_torch(torch.nn.Linear(784, 10).eval())  # doctest: +SKIP
    """
    torch = _torch()
    if not isinstance(module, torch.nn.Module):
        raise UserError(f"module must be a torch.nn.Module, got a {type(module).__name__}")

    @functools.cache  # The same callbacks for the same shape: compiled programs are reused.
    def bridged(shape: tuple[int, ...], dtype: Any) -> Callable[[Array], Array]:
        passes = _Passes(module, shape, dtype)
        like = jax.ShapeDtypeStruct((shape[0], passes.classes), passes.dtype)

        def kept_logits(x: Array) -> tuple[Array, Array]:
            passes.check_gradient()
            return _called_back(passes.kept_logits, like, x), x

        called = jax.custom_vjp(lambda x: _called_back(passes.logits, like, x))
        called.defvjp(kept_logits, lambda x, g: (_called_back(passes.gradient, x, x, g),))
        return called

    def logits_fn(x: Array) -> Array:
        _check_evaluates(module)
        x = jnp.asarray(x)
        with callback_errors():
            return bridged(x.shape, x.dtype)(x)

    return logits_fn


def black_box(predict: Callable[[np.ndarray], Any], num_classes: int | None = None) -> LogitsFn:
    """Returns a function of NumPy arrays as x f[B, *D] -> logits f32[B, K], without a derivative.

    Attacks by forward passes alone take it: `hop_skip_jump`, `boundary`, `square`, noise. Beside
    the queries of the attack, predict is called once on zeros and once on x, whose logits are
    checked (`square` starts from these; `hop_skip_jump` and `boundary` ask once more for x).
    Labels become 1 for the predicted class and -1 for the others, which is what decision-based
    attacks read. Scores are taken as logits; for probabilities, write
    `lambda x: jnp.log(logits_fn(x).clip(1e-6))`.

    Args:
      predict: x f[B, *D] -> labels i[B] from 0 to K - 1, or scores f[B, K], for any B: `predict` of
        scikit-learn, a session of ONNX Runtime, a request to a server.
      num_classes: K, which labels need; the width of the scores if None.

    Raises:
      UserError: predict is no function, or num_classes is below 2; when called, as predict returns
        another shape, other labels, or labels without num_classes. In a program of your own under
        `jit` JAX raises its own error, which contains this one.

    >>> w = np.array([[1., -1.], [-1., 1.]])
    >>> logits_fn = black_box(lambda x: np.argmax(x @ w, axis=1), num_classes=2)
    >>> logits_fn(jnp.array([[.2, .1], [.3, .4]]))
    Array([[ 1., -1.],
           [-1.,  1.]], dtype=float32)
    """
    check_function(
        predict,
        name="predict",
        allowed="a function of NumPy arrays",
        instead="pass the method model.predict",
    )
    num_classes = checked_number("num_classes", num_classes, "{2, 3, ...}", optional=True)

    @functools.cache  # The same callback for the same shape: compiled programs are reused.
    def bridged(shape: tuple[int, ...], dtype: Any) -> tuple[Callable[..., np.ndarray], int]:
        classes = _scores(predict, np.zeros(shape, dtype), num_classes).shape[1]

        def answers(x: Array) -> np.ndarray:
            rows = np.array(x).reshape(-1, *shape[1:])  # A copy, which predict may write into.
            return _scores(predict, rows, classes).reshape(
                *x.shape[: x.ndim + 1 - len(shape)], classes
            )

        return answers, classes

    def logits_fn(x: Array) -> Array:
        x = jnp.asarray(x)
        answers, classes = bridged(x.shape, x.dtype)
        if is_known(x):
            return jnp.asarray(answers(x))
        return _called_back(answers, jax.ShapeDtypeStruct((x.shape[0], classes), jnp.float32), x)

    return logits_fn


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


def _called_back(callback: Callable[..., Any], like: Any, *inputs: Array) -> Array:
    like = jax.ShapeDtypeStruct(like.shape, like.dtype)
    return jax.pure_callback(callback, like, *inputs, vmap_method="expand_dims")


def _scores(
    predict: Callable[[np.ndarray], Any], x: np.ndarray, num_classes: int | None
) -> np.ndarray:
    """Returns the predictions for x f[B, *D] as f32[B, K]."""
    returned = predict(x)
    if getattr(returned, "requires_grad", False):
        instead = "call .detach(), or use from_torch, which gives attacks the gradient"
        raise UserError(f"predict must return numbers, got a tensor with a gradient: {instead}")
    found = host_array(returned)
    if (
        found is None
        or found.shape[:1] != x.shape[:1]
        or found.ndim not in (1, 2)
        or (found.ndim == 2 and found.dtype.kind not in "iufV")
    ):
        raise UserError(
            f"predict must return labels i[B] or scores f[B, K] with B = {len(x)}, got "
            f"{described(returned)}"
        )
    if found.ndim == 1:
        return _one_hot(found, num_classes)
    if found.shape[1] != (num_classes or found.shape[1]):
        raise UserError(
            f"predict must return scores of num_classes = {num_classes} classes, got "
            f"{described(found)}"
        )
    return found.astype(np.float32)


def _one_hot(labels: np.ndarray, num_classes: int | None) -> np.ndarray:
    """Returns 1 for the label and -1 for the other classes: unlike 0 and 1, no probabilities."""
    if num_classes is None:
        raise UserError("num_classes must be the number of classes for labels, got None")
    legal = np.arange(num_classes)
    wrong = labels if labels.dtype.kind not in "iu" else labels[~np.isin(labels, legal)]
    if len(wrong):
        raise UserError(
            f"predict must return integers from 0 to {num_classes - 1} as labels, got "
            f"{wrong.tolist()[0]!r}"
        )
    return np.where(labels[:, None] == legal, np.float32(1), np.float32(-1))


class _Passes:
    """The passes of a torch module over batches of one shape, as callbacks of JAX.

    Inputs may have further leading axes, as vmap adds them; those of x are merged into its rows.
    """

    def __init__(self, module: Module, shape: tuple[int, ...], dtype: Any):
        """shape, dtype: of x. The logits have the same dtype, or float32 if x has integers."""
        self._module, self._shape, self._torch = module, shape, _torch()
        self._name, self._of_x = type(module).__name__, dtype
        self.dtype = dtype if jnp.issubdtype(dtype, jnp.floating) else np.dtype(np.float32)
        # What `_graph` returned for the last forward pass whose gradient may follow.
        self._kept: deque[tuple[Any, ...]] = deque(maxlen=1)

    @property
    def _device(self) -> Any:
        """The module's device; None if it has no tensors."""
        return next((tensor.device for tensor in self._tensors()), None)

    @property
    def _batch(self) -> str:
        """The inputs in words, for messages."""
        return f"x {self._of_x}{[*self._shape]}"

    def _tensors(self) -> Iterator[Tensor]:
        return itertools.chain(self._module.parameters(), self._module.buffers())

    @functools.cached_property
    def classes(self) -> int:
        """K, by a forward pass of zeros.

        Raises:
          UserError: as the function of `from_torch`.
        """
        name, x = self._name, self._zeros()
        with self._torch.no_grad():
            found = self._passed(x)
        if not isinstance(found, self._torch.Tensor):
            hint = ": wrap it in a module that returns .logits" if hasattr(found, "logits") else ""
            raise UserError(f"{name} must return logits, got {type(found).__name__}{hint}")
        if found.ndim != 2 or len(found) != len(x) or found.is_complex():
            kind = f"{found.dtype}".removeprefix("torch.")
            got = f"{kind}{[*found.shape]}"
            raise UserError(f"{name} must return logits f[B, K] of {self._batch}, got {got}")
        if x._version:  # It would write into arrays of JAX.
            raise UserError(f"{name} must leave x as it is, got an operation in place on it")
        return found.shape[1]

    @functools.cached_property
    def _has_gradient(self) -> bool:
        """Whether the logits have a gradient by x, by one more forward pass of zeros."""
        return self._graph(self._zeros())[1].requires_grad

    def check_gradient(self) -> None:
        """Raises UserError unless the logits have a gradient by x."""
        if any(tensor.is_inference() for tensor in self._tensors()):
            raise UserError(
                f"{self._name} must be made outside torch.inference_mode to have gradients, got "
                "tensors that were made inside"
            )
        if not self._has_gradient:
            raise UserError(
                f"{self._name} must return logits with a gradient by x, got logits without one"
            )

    def _zeros(self) -> Tensor:
        of_torch = getattr(self._torch, str(self._of_x))  # NumPy has no bfloat16.
        with self._torch.inference_mode(False):  # Else torch does not count changes of it.
            return self._torch.zeros(self._shape, dtype=of_torch, device=self._device)

    def logits(self, x: Array) -> np.ndarray:
        """Returns the logits f[..., B, K] of x f[..., B, *D]."""
        with self._torch.no_grad():
            return self._returned(x, self._passed(self._rows(x)))

    def kept_logits(self, x: Array) -> np.ndarray:
        """Returns `logits` and keeps torch's graph, so that `gradient` need not repeat the pass."""
        graph = self._graph(self._rows(x))
        self._kept.append(graph)
        return self._returned(x, graph[1].detach())

    def _passed(self, x: Tensor) -> Any:
        """Returns module(x); a UserError names the error that it raises."""
        try:
            return self._module(x)
        except Exception as error:  # Any: each layer raises its own.
            said = (str(error).splitlines() or [""])[0]
            raise UserError(
                f"{self._name} must take {self._batch}, got {type(error).__name__}: {said}"
            ) from error

    def _returned(self, x: Array, logits: Tensor) -> np.ndarray:
        """Returns logits f[N, K] as an array f[..., B, K], as x f[..., B, *D] has leading axes."""
        if logits.shape[1] != self.classes:
            raise UserError(
                f"{self._name} must return logits of {self.classes} classes, as in its first call, "
                f"got {logits.shape[1]}: call from_torch again"
            )
        return _as_numpy(logits, self.dtype, (*self._lead(x), self._shape[0], self.classes))

    def gradient(self, x: Array, g: Array) -> np.ndarray:
        """Returns the gradient of the sum of g f[..., B, K] times the logits by x f[..., B, *D]."""
        with self._torch.inference_mode(False):
            return self._gradient(x, g)

    def _gradient(self, x: Array, g: Array) -> np.ndarray:
        lead = np.broadcast_shapes(self._lead(x), g.shape[:-2])
        rows = self._rows(x, () if set(self._lead(x)) <= {1} else lead)
        leaf, logits = self._kept_graph(rows)
        weights = self._torch.from_dlpack(g).expand(*lead, *g.shape[-2:]).to(logits)
        # Where vmap maps over g alone, as for a Jacobian, its parts share one forward pass.
        parts = weights.reshape(-1, *logits.shape)
        pull = functools.partial(self._torch.autograd.grad, logits, leaf, materialize_grads=True)
        found = [pull(part, retain_graph=i + 1 < len(parts))[0] for i, part in enumerate(parts)]
        return _as_numpy(self._torch.stack(found), x.dtype, (*lead, *self._shape))

    def _lead(self, x: Any) -> tuple[int, ...]:
        return tuple(x.shape[: x.ndim - len(self._shape)])

    def _rows(self, x: Any, lead: tuple[int, ...] = ()) -> Tensor:
        """Returns x f[..., B, *D], broadcast to the leading axes given, as a tensor f[N, *D]."""
        found = self._torch.from_dlpack(x)
        found = found.expand(*lead, *self._shape) if lead else found
        return found.reshape(-1, *self._shape[1:]).to(self._device)

    def _graph(self, rows: Tensor) -> tuple[Any, ...]:
        """Returns (a copy of the rows, as JAX reuses their memory, logits, versions of weights)."""
        with self._torch.inference_mode(False), self._torch.enable_grad():
            leaf = rows.clone().requires_grad_()
            return leaf, self._passed(leaf), self._versions()

    def _kept_graph(self, rows: Tensor) -> tuple[Any, ...]:
        """Returns (leaf, logits) of the last forward pass if it is that of these rows, or anew."""
        try:
            leaf, logits, versions = self._kept.pop()  # Atomic: devices call in threads.
        except IndexError:
            return self._graph(rows)[:2]
        if versions == self._versions() and self._torch.equal(leaf, rows):
            return leaf, logits
        return self._graph(rows)[:2]

    def _versions(self) -> list[tuple[int, int]]:
        """Returns what changes when a weight is replaced, or written to."""
        return [(tensor.data_ptr(), tensor._version) for tensor in self._tensors()]


def _as_numpy(tensor: Tensor, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    wide = tensor.double() if dtype == np.float64 else tensor.float()
    return wide.cpu().numpy().reshape(shape).astype(dtype, copy=False)  # NumPy has no bfloat16.


def _check_evaluates(module: Module) -> None:
    """Raises UserError for a module that is in training mode, or has a part that is."""
    for name, part in module.named_modules():
        if part.training:
            whose = f"{name} ({type(part).__name__})" if name else type(part).__name__
            raise UserError(
                f"module must be in evaluation mode, got {whose} in training mode: call "
                "module.eval()"
            )


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"from_torch must have PyTorch ({install_hint('torch')}), got an environment without it"
        ) from error
    return torch
