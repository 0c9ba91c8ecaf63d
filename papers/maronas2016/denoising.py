"""The optimal denoising of a bimodal variable.  [maronas2016, sec. 5.3.1, Fig. 18]

The figure is that of [rasmus2015], Fig. 2, without numbers in print; ours are chosen.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

from adv_jax.style import canvas
from adv_jax.types import Array
from papers.running.drawing import Drawing, rounded


class Bimodal(NamedTuple):
    """z, an equal mixture of Gaussians at -mode and mode, observed with Gaussian noise.

    mode: the mean of the positive mode.
    std: standard deviation of each mode.
    noise_std: standard deviation of the noise.
    """

    mode: float = 1.0
    std: float = 0.25
    noise_std: float = 0.5

    def density(self, z: Array, *, std: float) -> Array:
        """Returns the density of both modes with deviation `std`: `self.std` or `noisy_std`."""
        return (norm.pdf(z, -self.mode, std) + norm.pdf(z, self.mode, std)) / 2

    @property
    def noisy_std(self) -> float:
        """The standard deviation of each mode of the noisy value."""
        return float(np.hypot(self.std, self.noise_std))


def posterior_mean(z_noisy: Array, prior: Bimodal) -> Array:
    """Returns E[z | z_noisy], the function of z_noisy with the least squared error.

    The posterior is a mixture of two Gaussians with means between their mode and z_noisy; the
    weights are sigmoids of z_noisy.
    """
    variance, noise = prior.std**2, prior.noise_std**2
    odds = jnp.tanh(prior.mode * z_noisy / (variance + noise))  # P(+mode) - P(-mode)
    return (variance * z_noisy + noise * prior.mode * odds) / (variance + noise)


def gauss(z_noisy: Array, prior: Bimodal) -> Array:
    """Returns (z_noisy - mu) v + mu, optimal for a Gaussian with the prior's mean and variance.

    The top layer of a ladder network with `gauss` denoising can learn this function.
    """
    variance = prior.mode**2 + prior.std**2
    return z_noisy * variance / (variance + prior.noise_std**2)  # mu = 0


def squared_error(denoise: Callable[[Array, Bimodal], Array], prior: Bimodal) -> float:
    """Returns E (z - denoise(z + noise))^2 by the trapezoidal rule over the noisy value.

    It equals Var(z) - E[2 z_hat m - z_hat^2] with the posterior mean m.
    """
    edge = prior.mode + 8 * prior.noisy_std
    z_noisy = jnp.linspace(-edge, edge, 4001)
    z_hat, mean = denoise(z_noisy, prior), posterior_mean(z_noisy, prior)
    gain = (2 * mean - z_hat) * z_hat * prior.density(z_noisy, std=prior.noisy_std)
    return float(prior.mode**2 + prior.std**2 - jnp.trapezoid(gain, z_noisy))


def bimodal() -> Drawing:
    """Fig. 18: the optimal denoising of a bimodal variable and the optimal linear one."""
    prior = Bimodal()
    z_noisy = jnp.linspace(-2.5, 2.5, 101)
    best, linear = posterior_mean(z_noisy, prior), gauss(z_noisy, prior)
    errors = {f.__name__: squared_error(f, prior) for f in (posterior_mean, gauss)}
    figure, panels = canvas(
        2,
        1,
        title="Maronas 2016, Fig. 18: denoising a variable with two modes",
        width=6.4,
        height=3.1,
        sharex=True,
        height_ratios=(3, 1),
    )
    upper, lower = panels[:, 0]
    upper.plot(z_noisy, z_noisy, ":", color="0.5", label=r"no denoising, $\hat{z} = \tilde{z}$")
    upper.plot(z_noisy, linear, "--C0", label=r"gauss, $(\tilde{z} - \mu)\,v + \mu$")
    upper.plot(z_noisy, best, "C4", linewidth=2, label=r"best, $E[z \mid \tilde{z}]$")
    for z, z_hat in zip(z_noisy[5:-5:10], best[5:-5:10], strict=True):
        style = {"arrowstyle": "->", "color": "C2"}
        upper.annotate("", xy=(z, z_hat), xytext=(z, z), arrowprops=style)
    upper.set(ylabel=r"denoised value $\hat{z}$")
    upper.legend()
    lower.fill_between(z_noisy, prior.density(z_noisy, std=prior.std), alpha=0.3, label="$z$")
    lower.plot(z_noisy, prior.density(z_noisy, std=prior.noisy_std), "k", label=r"$\tilde{z}$")
    lower.set(xlabel=r"noisy value $\tilde{z}$", ylabel="density")
    lower.legend()
    caption = (
        f"The best denoising moves a value towards the nearer mode (arrows); its squared error is "
        f"{errors['posterior_mean']:.4f}, that of the best linear one {errors['gauss']:.4f}, and "
        f"{prior.noise_std**2:g} without denoising."
    )
    return Drawing(
        figure,
        {
            "caption": caption,
            "settings": {**prior._asdict(), "chosen": list(prior._fields)},
            "squared_error": {name: rounded(error) for name, error in errors.items()},
            "z_noisy": rounded(z_noisy),
            "z_hat": {"posterior_mean": rounded(best), "gauss": rounded(linear)},
        },
    )
