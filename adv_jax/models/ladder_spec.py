"""Ladder networks as strings, in the words of the reference program.  [rasmus2015]

An encoder is its layers 1..L joined by "-", as "convf:32:5:1:1-maxpool:2:2-globalmeanpool-fc:10":

    fc:UNITS, or UNITS        a matrix
    convv:MAPS:K:1:1          K x K weights for each map, only where they fit ("valid"); stride 1
    convf:MAPS:K:1:1          wherever they overlap the image ("full")
    maxpool:2:2               the largest of 2 x 2 pixels; the last ones may be fewer
    globalmeanpool            the mean over all pixels, or :0, or :0:0; with :H:W of H x W pixels

A decoder is the denoising function of each of the layers 0..L, joined by "-": "gauss", "sig", or
"0" for a layer that is not reconstructed; one word stands for all layers.
"""

import re
from itertools import pairwise
from typing import NamedTuple


class LayerSpec(NamedTuple):
    """One layer of an encoder.

    kind: "fc", "convv", "convf", "maxpool" or "globalmeanpool".
    units: of a matrix, or maps of a convolution; 0 for pooling, which keeps the maps.
    size: K of a convolution, else 0.
    height, width: of the image that a globalmeanpool:H:W pools; 0 of all others.
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
_ALLOWED = "UNITS, fc:UNITS, convv:MAPS:K:1:1, convf:MAPS:K:1:1, maxpool:2:2 and globalmeanpool"
DENOISING = ("gauss", "sig")


def parse_layers(spec: str) -> tuple[LayerSpec, ...]:
    """The layers 1..L of an encoder.

    Raises:
      ValueError: names the first layer that is none of the forms above, that pools the input,
        that needs an image where a matrix or the mean over all pixels has left none, or that is
        the last and leaves an image.

    >>> parse_layers("convv:8:3:1:1-globalmeanpool-10")[0]
    LayerSpec(kind='convv', units=8, size=3, height=0, width=0)
    """
    layers: list[LayerSpec] = []
    for number, word in enumerate(spec.split("-"), start=1):
        where = f"model.layers has {word!r} as layer {number}"
        layer = _layer(word)
        if layer is None:
            raise ValueError(f"{where}; allowed are {_ALLOWED}")
        if layer.pools and not layers:
            raise ValueError(f"{where}; allowed as the first is one with weights")
        if layer.kind != "fc" and layers and layers[-1].kind in ("fc", "globalmeanpool"):
            raise ValueError(f"{where}, after {layers[-1].kind}; allowed is fc:UNITS")
        layers.append(layer)
    if layers[-1].kind not in ("fc", "globalmeanpool"):
        raise ValueError(f"{where}; allowed as the last are fc:UNITS and globalmeanpool")
    return tuple(layers)


def _layer(word: str) -> LayerSpec | None:
    for kind, form in _FORMS.items():
        if match := re.fullmatch(form, word):
            return LayerSpec(kind, **{name: int(n or 0) for name, n in match.groupdict().items()})
    return None


def parse_denoising(spec: str, num_layers: int) -> tuple[str, ...]:
    """The denoising functions of the layers 0..L = num_layers; "0" where there is none.

    Raises:
      ValueError: an unknown word; another number of words than 1 or L + 1; "0" above a layer
        that is reconstructed, which is done from above.

    >>> parse_denoising("0-0-gauss", num_layers=2)
    ('0', '0', 'gauss')
    """
    words = spec.split("-")
    for layer, word in enumerate(words):
        if word not in (*DENOISING, "0"):
            raise ValueError(
                f"model.denoising has {word!r} for layer {layer}; allowed are "
                f"{', '.join(DENOISING)} and 0"
            )
    if len(words) not in (1, num_layers + 1):
        raise ValueError(
            f"model.denoising has {len(words)} words; allowed are 1, or {num_layers + 1}: one for "
            "the input and for each layer of model.layers"
        )
    if len(words) == 1:
        words *= num_layers + 1
    for layer, (word, above) in enumerate(pairwise(words)):
        if word != "0" and above == "0":
            raise ValueError(
                f"model.denoising has {word!r} for layer {layer} and '0' above it; a layer is "
                "reconstructed from the one above"
            )
    return tuple(words)
