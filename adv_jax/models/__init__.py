"""Linen modules `(x, *, train) -> (logits, extras)`, and the functions that run them.

extras are named intermediates, listed in each module's docstring. A config may use the names in
`__all__`. The nearest-neighbor classifiers are functions `(x, train_x, train_y) -> logits`.

The class variable `predicts` of a module names its task:

    "labels"  the default: logits f[B, K] of the K classes
    "real"    logits f[B, 2] of a generated (0) and a real image (1)
    "loss"    no classes; its method `row_loss(x) -> f[B]` measures how badly it models each row

A module may have a static method `converted(params)`, which returns the parameters of a pre-trained
model, named and shaped as its own, and `input_bounds`, (lo, hi) or None, to which its inputs are
restricted: those of probabilities, or the range of the images that it generates.
"""

from adv_jax.models.apply import apply_fn as apply_fn
from adv_jax.models.apply import init as init
from adv_jax.models.convnet import ConvNet as convnet
from adv_jax.models.denoised import Denoised as denoised
from adv_jax.models.ladder import Ladder as ladder
from adv_jax.models.lenet import LeNet as lenet
from adv_jax.models.maxout import Maxout as maxout
from adv_jax.models.maxout import MaxoutConvNet as maxout_conv
from adv_jax.models.mlp import MLP as mlp
from adv_jax.models.nearest_neighbor import nearest_neighbor as nearest_neighbor
from adv_jax.models.nearest_neighbor import (
    smoothed_nearest_neighbor as smoothed_nearest_neighbor,
)
from adv_jax.models.residual import PreActResNet as preact_resnet

__all__ = [
    "convnet",
    "denoised",
    "ladder",
    "lenet",
    "maxout",
    "maxout_conv",
    "mlp",
    "preact_resnet",
]
