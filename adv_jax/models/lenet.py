"""LeNet: two convolutions, each followed by max-pooling, and a hidden layer."""

from typing import Literal

from adv_jax.convolution import max_pool_2x2
from adv_jax.models.layered import Activated, LayerFn
from adv_jax.ranges import COUNT, ranged
from adv_jax.types import Array, UserError


@ranged(features=COUNT)
class LeNet(Activated):
    """Two 5 x 5 convolutions with 2 x 2 max-pooling, a dense layer, `num_classes` logits.

    Takes f[B, H, W, C] or f[B, H, W]. extras are taken after the activation; on MNIST they are
    f[B, 12, 12, 20], f[B, 4, 4, 50] and f[B, 500].

    features: maps of both convolutions and units of the dense layer; (20, 50, 500) is Caffe's.
    padding: of the convolutions; "SAME" keeps the size of the image.
    num_classes, activation, dropout, dropconnect, hidden_init, output_init, dtype: as in
      `layered.Activated`.

    Raises:
      UserError: x is not a batch of images of at least 16 x 16.

    Source: [lecun1998], in the form that Caffe made the standard one.
    """

    features: tuple[int, int, int] = (20, 50, 500)
    padding: Literal["SAME", "VALID"] = "VALID"

    def _hidden_layers(self) -> list[LayerFn]:
        first, second = (
            self._convolution(number, maps, 5, self.padding, max_pool_2x2)
            for number, maps in enumerate(self.features[:2], start=1)
        )
        images_first = lambda x, *, train: first(_images(x), train=train)
        return [images_first, second, self._full(3, self.features[2])]


def _images(x: Array) -> Array:
    """f[B, H, W] or f[B, H, W, C] -> f[B, H, W, C]."""
    images = x[..., None] if x.ndim == 3 else x
    if images.ndim != 4 or min(images.shape[1:3]) < 16:
        raise UserError(
            "x must be images f[B, H, W, C] or f[B, H, W] of at least 16 x 16, "
            f"got the shape {x.shape}"
        )
    return images
