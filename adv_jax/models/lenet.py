"""LeNet: two convolutions, each followed by max-pooling, and a hidden layer."""

import flax.linen as nn
from flax.linen.initializers import Initializer

from adv_jax.models.activations import activation_fn
from adv_jax.models.convolution import Conv, max_pool_2x2
from adv_jax.models.initializers import fan_in
from adv_jax.types import Array


class LeNet(nn.Module):
    """Maps of 5 x 5 weights and 2 x 2 max-pooling, twice, a full layer, `num_classes` logits.

    features: maps of both convolutions and units of the full layer; (20, 50, 500) is Caffe's.
    num_classes: K.
    activation: after each pooling and in the full layer, a name of `activations.ACTIVATIONS`.
    hidden_init, output_init: of the weights; biases begin at 0.

    Source: LeCun et al. 1998, in the form that Caffe made the standard one.
    """

    features: tuple[int, int, int] = (20, 50, 500)
    num_classes: int = 10
    activation: str = "relu"
    hidden_init: Initializer = fan_in()
    output_init: Initializer = fan_in()

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> tuple[Array, dict[str, Array]]:
        """f[B, H, W, C] or f[B, H, W] -> logits f[B, K], {"hidden1", "hidden2", "hidden3"}.

        extras are taken after the activation; those of MNIST are f[B, 12, 12, 20],
        f[B, 4, 4, 50] and f[B, 500].

        Raises:
          ValueError: x is no batch of images of at least 16 x 16; not three features.
        """
        del train  # Both modes are the same.
        if len(self.features) != 3:
            raise ValueError(f"features is {self.features}; LeNet has two convolutions and a layer")
        h = x[..., None] if x.ndim == 3 else x
        if h.ndim != 4 or min(h.shape[1:3]) < 16:
            raise ValueError(
                "x must be images f[B, H, W, C] or f[B, H, W] of at least 16 x 16, "
                f"got the shape {x.shape}"
            )
        act, extras = activation_fn(self.activation), {}
        for layer, maps in enumerate(self.features[:2], start=1):
            a = Conv(maps, (5, 5), kernel_init=self.hidden_init, name=f"hidden{layer}")(h)
            # Activations grow with their input, so pooling may come first, and they have less work.
            h = extras[f"hidden{layer}"] = act(max_pool_2x2(a))
        a = nn.Dense(self.features[2], kernel_init=self.hidden_init, name="hidden3")(
            h.reshape(h.shape[0], -1)
        )
        h = extras["hidden3"] = act(a)
        return nn.Dense(self.num_classes, kernel_init=self.output_init, name="logits")(h), extras
