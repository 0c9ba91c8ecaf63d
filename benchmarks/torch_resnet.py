"""`models.preact_resnet` in PyTorch, with adv_jax's weights.

`arrays` of this module are the leaves of adv_jax's "params" and "batch_stats" by their paths, as
"hidden2/conv1/kernel"; `prefix` is the beginning of a layer's paths.
"""

from collections.abc import Mapping

from torch import Tensor, nn

EPS = 1e-5  # of `batch_norm.BatchNorm`

Arrays = Mapping[str, Tensor]


class Block(nn.Module):
    """h + C2 relu(N2 C1 relu(N1 h)); a 1x1 convolution replaces h if the size changes."""

    def __init__(self, arrays: Arrays, prefix: str, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (_norm(arrays, f"{prefix}norm{number}/") for number in (1, 2))
        self.conv1 = _conv(arrays, f"{prefix}conv1/", stride)
        self.conv2 = _conv(arrays, f"{prefix}conv2/")
        has_shortcut = f"{prefix}shortcut/kernel" in arrays
        self.shortcut = _conv(arrays, f"{prefix}shortcut/", stride) if has_shortcut else None

    def forward(self, h: Tensor) -> Tensor:
        a = self.norm1(h).relu()
        h = h if self.shortcut is None else self.shortcut(a)
        return h + self.conv2(self.norm2(self.conv1(a)).relu())


class Top(nn.Module):
    """The logits of the mean of the normalized, activated last maps."""

    def __init__(self, arrays: Arrays, prefix: str) -> None:
        super().__init__()
        self.norm = _norm(arrays, f"{prefix}norm/")
        kernel = arrays["logits/kernel"]
        self.logits = nn.Linear(*kernel.shape)
        self.logits.weight.data, self.logits.bias.data = (
            kernel.T.contiguous(),
            arrays["logits/bias"],
        )

    def forward(self, h: Tensor) -> Tensor:
        return self.logits(self.norm(h).relu().mean((2, 3)))


def preact_resnet(arrays: Arrays) -> nn.Sequential:
    """Returns the net f32[B, C, H, W] -> logits f32[B, K], which uses the stored statistics.

    The first block of each stage after the first has stride 2. It is recognized by its number of
    maps, so that these must differ between stages.
    """
    layers: list[nn.Module] = [_conv(arrays, "hidden1/")]
    number, widths = 2, set[int]()
    while f"hidden{number}/conv1/kernel" in arrays:
        maps = arrays[f"hidden{number}/conv1/kernel"].shape[3]
        begins = bool(widths) and maps not in widths
        widths.add(maps)
        layers.append(Block(arrays, f"hidden{number}/", stride=2 if begins else 1))
        number += 1
    return nn.Sequential(*layers, Top(arrays, f"hidden{number}/")).eval()


def _conv(arrays: Arrays, prefix: str, stride: int = 1) -> nn.Conv2d:
    """Returns an odd-sized convolution that keeps the size, or divides it by the stride."""
    kernel = arrays[f"{prefix}kernel"].permute(3, 2, 0, 1)
    maps, channels, size, _ = kernel.shape
    layer = nn.Conv2d(channels, maps, size, stride, padding=size // 2, bias=False)
    layer.weight.data = kernel.contiguous()
    return layer


def _norm(arrays: Arrays, prefix: str) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(len(arrays[f"{prefix}scale"]), eps=EPS)
    layer.weight.data, layer.bias.data = arrays[f"{prefix}scale"], arrays[f"{prefix}bias"]
    layer.running_mean, layer.running_var = arrays[f"{prefix}mean"], arrays[f"{prefix}var"]
    return layer
