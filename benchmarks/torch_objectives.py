"""The losses of `benchmarks.tasks` in PyTorch, optimized for eager mode.

Parameters have adv_jax's names, so that gradients can be compared; weights are f32[in, out]. The
fastest variants were chosen by timing: one fused batch norm for both halves of the ladder's batch,
interleaved so that each half has its own columns; for convolutional nets one half after the other,
with channels last in memory, also for noise; and the form of the mix.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.tasks import (
    ALPHA,
    BACKPROP_EPS,
    DROPOUT,
    EPS,
    INPUTS,
    LADDER_NOISE,
    LATENT,
    LWA_EPS,
    SIDE,
    Task,
)

BATCH_NORM_EPS = 1e-10
# In place; the slope is adv_jax's.
ACTIVATIONS = {"relu": torch.relu_, "leaky_relu": partial(F.leaky_relu_, negative_slope=0.1)}

Params = dict[str, Tensor]
Draw = Callable[..., Tensor]  # shape -> Tensor; of a GAN's dropout (shape, share that is kept)


def mlp(params: Params, x: Tensor, layers: int) -> Tensor:
    h = x
    for layer in range(1, layers + 1):
        h = torch.addmm(params[f"hidden{layer}/bias"], h, params[f"hidden{layer}/kernel"]).relu()
    return torch.addmm(params["logits/bias"], h, params["logits/kernel"])


def cross_entropy(task: Task, params: Params, batch: dict[str, Tensor], draw: Draw) -> Tensor:
    del draw
    return F.cross_entropy(mlp(params, batch["x"], len(task.features)), batch["y"])


def mix_of_passes(task: Task, params: Params, batch: dict[str, Tensor], draw: Draw) -> Tensor:
    """Computes the mix; the clean term reuses the attack's forward pass."""
    del draw
    x, y = batch["x"].requires_grad_(), batch["y"]
    clean = F.cross_entropy(mlp(params, x, len(task.features)), y)
    x_adv = _fgsm(clean, x, retain_graph=True)
    adversarial = F.cross_entropy(mlp(params, x_adv, len(task.features)), y)
    return ALPHA * clean + (1 - ALPHA) * adversarial


def mix_in_one_pass(task: Task, params: Params, batch: dict[str, Tensor], draw: Draw) -> Tensor:
    """Computes the mix with clean and adversarial rows in one batch, faster for small batches."""
    del draw
    x, y = batch["x"].requires_grad_(), batch["y"]
    x_adv = _fgsm(F.cross_entropy(mlp(params, x, len(task.features)), y), x)
    logits = mlp(params, torch.cat([x.detach(), x_adv]), len(task.features))
    clean, adversarial = F.cross_entropy(logits, y.repeat(2), reduction="none").view(2, -1).mean(1)
    return ALPHA * clean + (1 - ALPHA) * adversarial


def backprop(task: Task, params: Params, batch: dict[str, Tensor], draw: Draw) -> Tensor:
    del draw
    return _logistic_loss(task, params, batch["x"], batch["targets"])


def adversarial_backprop(
    task: Task, params: Params, batch: dict[str, Tensor], draw: Draw
) -> Tensor:
    del draw
    x, targets = batch["x"].requires_grad_(), batch["targets"]
    x_adv = _fgsm(_logistic_loss(task, params, x, targets), x, eps=BACKPROP_EPS)
    return _logistic_loss(task, params, x_adv, targets)


def _logistic_loss(task: Task, params: Params, x: Tensor, targets: Tensor) -> Tensor:
    logits = mlp(params, x, len(task.features))
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(x)


def _fgsm(loss: Tensor, x: Tensor, *, eps: float = EPS, retain_graph: bool = False) -> Tensor:
    # Only with respect to x, so that no weight gradients are computed.
    (gradient,) = torch.autograd.grad(loss, x, retain_graph=retain_graph)
    return torch.add(x.detach(), gradient.sign_(), alpha=eps)


def lenet(task: Task, params: Params, batch: dict[str, Tensor], draw: Draw) -> Tensor:
    del task, draw
    return F.cross_entropy(_lenet(params, batch["x"]), batch["y"])


def lwa(task: Task, params: Params, batch: dict[str, Tensor], draw: Draw) -> Tensor:
    del task, draw
    x, y = batch["x"].requires_grad_(), batch["y"]
    # Only with respect to x, so that no weight gradients are computed.
    (gradient,) = torch.autograd.grad(F.cross_entropy(_lenet(params, x), y), x)
    x_adv = torch.add(x.detach(), F.normalize(gradient), alpha=LWA_EPS)
    return F.cross_entropy(_lenet(params, x_adv), y)


def _lenet(params: Params, x: Tensor) -> Tensor:
    h = x.view(-1, 1, SIDE, SIDE)
    for layer in ("hidden1", "hidden2"):
        kernel = _channels_last(params[f"{layer}/kernel"])
        h = F.max_pool2d(F.conv2d(h, kernel, params[f"{layer}/bias"]), 2).tanh()
    h = h.permute(0, 2, 3, 1).flatten(1)
    h = torch.addmm(params["hidden3/bias"], h, params["hidden3/kernel"]).tanh()
    return torch.addmm(params["logits/bias"], h, params["logits/kernel"])


def ladder(task: Task, params: Params, batch: dict[str, Tensor], draw: Draw) -> Tensor:
    unlabeled, top = batch["unlabeled"], len(task.features)
    noisy, logits = _corrupted(params, torch.stack([batch["x"], unlabeled], 1), top, draw)
    clean, moments = _clean(params, unlabeled, top)
    loss = F.cross_entropy(logits[:, 0], batch["y"])
    u = logits[:, 1].softmax(1)
    for layer in range(top, -1, -1):
        z_hat = _combine(params, f"decoder/g{layer}/", noisy[layer][:, 1], _batch_norm(u))
        if layer:
            u = z_hat @ params[f"decoder/V{layer}/kernel"]
            mean, inverse_deviation = moments[layer]
            z_hat = (z_hat - mean) * inverse_deviation
        loss = loss + task.weights[layer] * F.mse_loss(z_hat, clean[layer])
    return loss


def _corrupted(params: Params, x: Tensor, top: int, draw: Draw) -> tuple[list[Tensor], Tensor]:
    """Encodes x f32[B, 2, D], both halves interleaved -> noisy z(0..L), logits f32[B, 2, K]."""
    h = torch.add(x, draw(x.shape), alpha=LADDER_NOISE)
    z = [h]
    for layer in range(1, top + 1):
        a = h.flatten(0, 1) @ params[f"encoder/W{layer}/kernel"]
        normal = _batch_norm(a.view(len(x), -1)).view(len(x), 2, -1)
        z.append(torch.add(normal, draw(normal.shape), alpha=LADDER_NOISE))
        shifted = z[-1] + params[f"encoder/beta{layer}"]
        h = shifted.relu()
    return z, shifted * params["encoder/gamma"]


def _clean(params: Params, x: Tensor, top: int) -> tuple[list[Tensor], list[tuple]]:
    """Returns clean z(0..L), and mean and inverse std of the pre-activations, () at layer 0."""
    h, z, moments = x, [x], [()]
    for layer in range(1, top + 1):
        a = h @ params[f"encoder/W{layer}/kernel"]
        # The fused batch norm passes no gradient through its statistics.
        var, mean = torch.var_mean(a, 0, correction=0, keepdim=True)
        moments.append((mean, torch.rsqrt(var + BATCH_NORM_EPS)))
        z.append((a - mean) * moments[-1][1])
        if layer < top:
            h = (z[-1] + params[f"encoder/beta{layer}"]).relu()
    return z, moments


def gamma(task: Task, params: Params, batch: dict[str, Tensor], draw: Draw) -> Tensor:
    noisy = partial(_noisy, draw)
    _, _, logits = _convolutional(task, params, batch["x"], noisy)
    _, z, above = _convolutional(task, params, batch["unlabeled"], noisy)
    a, clean, _ = _convolutional(task, params, batch["unlabeled"], lambda a: a)
    top = len(task.features)
    z_hat = _combine(params, f"decoder/g{top}/", z, _batch_norm(above.softmax(1)))
    var, mean = torch.var_mean(a, 0, correction=0, keepdim=True)
    z_hat = (z_hat - mean) * torch.rsqrt(var + BATCH_NORM_EPS)
    return F.cross_entropy(logits, batch["y"]) + task.weights[top] * F.mse_loss(z_hat, clean)


def _noisy(draw: Draw, a: Tensor) -> Tensor:
    """Adds noise in place, with channels last in memory."""
    if a.ndim == 2:
        return a.add_(draw(a.shape), alpha=LADDER_NOISE)
    return a.add_(draw(a.movedim(1, -1).shape).movedim(-1, 1), alpha=LADDER_NOISE)


def _convolutional(
    task: Task, params: Params, x: Tensor, corrupted: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Encodes one half f32[B, D] -> the top layer's pre-activation, z and logits, f32[B, K]."""
    h = corrupted(x.view(-1, *task.image).clone().movedim(-1, 1))
    *below, top = enumerate(task.features, start=1)
    for layer, word in below:
        a = _up(word, h, params.get(f"encoder/W{layer}/kernel"))
        # The batch norm adds beta before the noise, as only the top layer's z is used.
        h = corrupted(_batch_norm(a, params.get(f"encoder/beta{layer}")))
        h = h if "pool" in word else ACTIVATIONS[task.activation](h)
    layer, word = top
    a = _up(word, h, params.get(f"encoder/W{layer}/kernel"))
    z = corrupted(_batch_norm(a))
    logits = z + params[f"encoder/beta{layer}"]
    return a, z, logits * params["encoder/gamma"] if task.scale_softmax else logits


def _up(word: str, h: Tensor, kernel: Tensor | None) -> Tensor:
    """Applies a layer before normalization; kernel f32[k, k, in, out] or f32[in, out]."""
    kind, *_ = word.split(":")
    if kind == "maxpool":
        return F.max_pool2d(h, 2, ceil_mode=True)
    if kind == "globalmeanpool":
        return h.mean((2, 3)) * (math.sqrt(3) * h.shape[3])
    if kind == "fc":
        return h @ kernel
    kernel = _channels_last(kernel)
    return F.conv2d(h, kernel, padding=kernel.shape[2] - 1 if kind == "convf" else 0)


def _channels_last(kernel: Tensor) -> Tensor:
    """Converts f32[H, W, in, out] -> f32[out, in, H, W] with channels last in memory."""
    return kernel.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)


def _batch_norm(a: Tensor, beta: Tensor | None = None) -> Tensor:
    return F.batch_norm(a, None, None, bias=beta, training=True, eps=BATCH_NORM_EPS)


def _combine(params: Params, prefix: str, z: Tensor, u: Tensor) -> Tensor:
    a = [params[f"{prefix}a{i}"] for i in range(1, 11)]
    mu = torch.addcmul(torch.addcmul(a[4], a[3], u), a[0], torch.addcmul(a[2], a[1], u).sigmoid())
    v = torch.addcmul(torch.addcmul(a[9], a[8], u), a[5], torch.addcmul(a[7], a[6], u).sigmoid())
    return torch.lerp(mu, z, v)  # (z - mu) v + mu


def gan_of_passes(task: Task, params: Params, batch: dict[str, Tensor], draw: Draw) -> Tensor:
    """Computes both players' losses; the discriminator has a pass for each kind of image."""
    images, kept = _played(task, params, draw)
    real, generated = zip(*(mask.chunk(2) for mask in kept), strict=True)
    of_real = _discriminated(params, batch["x"], real)
    of_generated = _discriminated(params, images.detach(), generated)
    return _sum_of_losses(of_real, of_generated, _judged(params, images, generated))


def gan_joined(task: Task, params: Params, batch: dict[str, Tensor], draw: Draw) -> Tensor:
    """Computes both players' losses; the discriminator learns from both kinds in one batch."""
    images, kept = _played(task, params, draw)
    logits = _discriminated(params, torch.cat([batch["x"], images.detach()]), kept)
    generated = [mask.chunk(2)[1] for mask in kept]
    return _sum_of_losses(*logits.chunk(2), _judged(params, images, generated))


def _played(task: Task, params: Params, draw: Draw) -> tuple[Tensor, list[Tensor]]:
    """Returns generated images f[B, D], and dropout's factors of real and generated rows."""
    rows, widths = task.batch_size, (INPUTS, *task.features[::-1])
    h = _leaky(params, "generator/", draw((rows, LATENT)), ())
    kept = [
        draw((2 * rows, width), 1 - rate).div_(1 - rate)
        for width, rate in zip(widths, DROPOUT, strict=True)
    ]
    return h.sigmoid(), kept


def _judged(params: Params, images: Tensor, kept: Sequence[Tensor]) -> Tensor:
    """Returns the logits for the generator's loss, which has no gradient by the discriminator."""
    return _discriminated({key: leaf.detach() for key, leaf in params.items()}, images, kept)


def _discriminated(params: Params, images: Tensor, kept: Sequence[Tensor]) -> Tensor:
    return _leaky(params, "discriminator/", 2 * images - 1, kept)


def _leaky(params: Params, prefix: str, h: Tensor, kept: Sequence[Tensor]) -> Tensor:
    """Returns the outputs of a net with two hidden layers of leaky units."""
    for i, layer in enumerate(("hidden1", "hidden2", "logits")):
        h = h * kept[i] if kept else h
        h = torch.addmm(params[f"{prefix}{layer}/bias"], h, params[f"{prefix}{layer}/kernel"])
        h = h if layer == "logits" else F.leaky_relu(h, 0.1)
    return h


def _sum_of_losses(real: Tensor, generated: Tensor, judged: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(generated).mean() + F.softplus(-judged).mean()


def drawn_by_players(shape: tuple[int, ...], kept: float | None = None) -> Tensor:
    """Draws z, uniform in [-1, 1], or what dropout keeps."""
    values = torch.empty(shape)
    return values.uniform_(-1, 1) if kept is None else values.bernoulli_(kept)


# `choose` takes the fastest variant of each loss.
OBJECTIVES: dict[str, list[Callable[..., Tensor]]] = {
    "cross_entropy": [cross_entropy],
    "adversarial_mix": [mix_of_passes, mix_in_one_pass],
    "backprop": [backprop],
    "adversarial_backprop": [adversarial_backprop],
    "lenet": [lenet],
    "lwa": [lwa],
    "ladder": [ladder],
    "gamma": [gamma],
    "gan": [gan_of_passes, gan_joined],
}
