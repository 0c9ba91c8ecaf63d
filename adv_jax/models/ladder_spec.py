"""Ladder networks as strings, in the syntax of the reference program.  [rasmus2015]

An encoder is its layers 1..L joined by "-", as "convf:32:5:1:1-maxpool:2:2-globalmeanpool-fc:10":

    fc:UNITS, or UNITS        a dense layer
    convv:MAPS:K:1:1          a convolution with K x K kernels, stride 1, VALID padding
    convf:MAPS:K:1:1          the same with FULL padding
    maxpool:2:2               2 x 2 max-pooling; an odd last row or column is pooled alone
    globalmeanpool            the mean over all pixels; also :0, :0:0, or :H:W for H x W pixels

A decoder is the denoising functions of the layers 0..L, joined by "-": "gauss", "sig", or "0" for a
layer that is not reconstructed. A single word applies to all layers.
"""

import re
from itertools import pairwise
from typing import NamedTuple

from adv_jax.types import UserError


class LayerSpec(NamedTuple):
    """One layer of an encoder.

    kind: "fc", "convv", "convf", "maxpool" or "globalmeanpool".
    units: of a dense layer, or maps of a convolution; 0 for pooling, which keeps the maps.
    size: K of a convolution, else 0.
    height, width: of the image below globalmeanpool:H:W, else 0.
    """

    kind: str
    units: int = 0
    size: int = 0
    height: int = 0
    width: int = 0

    @property
    def pools(self) -> bool:
        return self.kind in ("maxpool", "globalmeanpool")


_FORMS = {
    "fc": r"(?:fc:)?(?P<units>[1-9]\d*)",
    "convv": r"convv:(?P<units>[1-9]\d*):(?P<size>[1-9]\d*):1:1",
    "convf": r"convf:(?P<units>[1-9]\d*):(?P<size>[1-9]\d*):1:1",
    "maxpool": r"maxpool:2:2",
    "globalmeanpool": r"globalmeanpool(?::0|:(?P<height>\d+):(?P<width>\d+))?",
}
_ALLOWED = "UNITS, fc:UNITS, convv:MAPS:K:1:1, convf:MAPS:K:1:1, maxpool:2:2 or globalmeanpool"
DENOISING = ("gauss", "sig")


def parse_layers(spec: str) -> tuple[LayerSpec, ...]:
    """Parses the layers 1..L of an encoder.

    Raises:
      UserError: a layer has another form, pools the input or needs an image above fc or
        globalmeanpool; or the last layer leaves an image.

    >>> parse_layers("convv:8:3:1:1-globalmeanpool-10")[0]
    LayerSpec(kind='convv', units=8, size=3, height=0, width=0)
    """
    layers: list[LayerSpec] = []
    for number, word in enumerate(spec.split("-"), start=1):
        field = f"layer {number} of model.layers"
        layer = _layer(word)
        if layer is None:
            raise UserError(f"{field} must be {_ALLOWED}, got {word!r}")
        if layer.pools and not layers:
            raise UserError(f"{field} must be a layer with weights, got {word!r}")
        if layer.kind != "fc" and layers and layers[-1].kind in ("fc", "globalmeanpool"):
            raise UserError(f"{field} must be fc:UNITS after {layers[-1].kind}, got {word!r}")
        layers.append(layer)
    if layers[-1].kind not in ("fc", "globalmeanpool"):
        raise UserError(f"{field}, the last, must be fc:UNITS or globalmeanpool, got {word!r}")
    return tuple(layers)


def _layer(word: str) -> LayerSpec | None:
    for kind, form in _FORMS.items():
        if match := re.fullmatch(form, word):
            return LayerSpec(kind, **{name: int(n or 0) for name, n in match.groupdict().items()})
    return None


def parse_denoising(spec: str, num_layers: int) -> tuple[str, ...]:
    """Parses the denoising functions of the layers 0..L = num_layers; "0" for layers without one.

    Raises:
      UserError: an unknown word; a number of words other than 1 or L + 1; "0" above a layer that
        is reconstructed.

    >>> parse_denoising("0-0-gauss", num_layers=2)
    ('0', '0', 'gauss')
    """
    words = spec.split("-")
    for layer, word in enumerate(words):
        if word not in (*DENOISING, "0"):
            raise UserError(
                f"model.denoising must be {', '.join(DENOISING)} or 0 for layer {layer}, "
                f"got {word!r}"
            )
    if len(words) not in (1, num_layers + 1):
        raise UserError(
            f"model.denoising must have 1 word, or {num_layers + 1}: one for the input and one for "
            f"each layer of model.layers, got {len(words)}"
        )
    if len(words) == 1:
        words *= num_layers + 1
    for layer, (word, above) in enumerate(pairwise(words)):
        if word != "0" and above == "0":
            raise UserError(
                f"model.denoising must be 0 for layer {layer}, as for the layer above, from which "
                f"it is reconstructed, got {word!r}"
            )
    return tuple(words)
