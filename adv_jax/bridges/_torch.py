"""A module of PyTorch as logits_fn, with torch's own gradients."""

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax.checks import callback_errors
from adv_jax.types import Array, LogitsFn, UserError, install_hint

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


def _called_back(callback: Callable[..., Any], like: Any, *inputs: Array) -> Array:
    like = jax.ShapeDtypeStruct(like.shape, like.dtype)
    return jax.pure_callback(callback, like, *inputs, vmap_method="expand_dims")


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
