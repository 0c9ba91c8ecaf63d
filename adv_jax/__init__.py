"""adv_jax: adversarial perturbations and adversarial training as pure JAX functions."""

__version__ = "0.1.0"
