"""Linen modules `(x, *, train) -> (logits, extras)`, and the functions that run them.

extras are named intermediates, as each module's docstring lists them. A config may name what
`__all__` has.
"""

from adv_jax.models.apply import apply_fn as apply_fn
from adv_jax.models.apply import init as init
from adv_jax.models.convnet import ConvNet as convnet
from adv_jax.models.ladder import Ladder as ladder
from adv_jax.models.lenet import LeNet as lenet
from adv_jax.models.mlp import MLP as mlp

__all__ = ["convnet", "ladder", "lenet", "mlp"]
