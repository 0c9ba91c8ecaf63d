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

from adv_jax.bridges._black_box import black_box
from adv_jax.bridges._torch import from_torch
from adv_jax.bridges._weights import weights_from_torch

__all__ = ["black_box", "from_torch", "weights_from_torch"]
