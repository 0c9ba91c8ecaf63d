"""Measures of generative models.

coverage, frechet, nearest, diversity, collapse   of samples
parzen                  the likelihood of rows under a density estimated from samples
log_partition           log Z of a small Boltzmann machine, exact
annealed_log_partition  log Z of a large one, by annealed importance sampling
matched_classes         the classes of clusters
"""

from adv_jax.generative.measures.clustering import matched_classes
from adv_jax.generative.measures.density import parzen, parzen_bandwidth
from adv_jax.generative.measures.generation import (
    Coverage,
    collapse,
    coverage,
    diversity,
    frechet,
    nearest,
)
from adv_jax.generative.measures.partition import (
    LogPartition,
    annealed_log_partition,
    log_partition,
)

__all__ = [
    "Coverage",
    "LogPartition",
    "annealed_log_partition",
    "collapse",
    "coverage",
    "diversity",
    "frechet",
    "log_partition",
    "matched_classes",
    "nearest",
    "parzen",
    "parzen_bandwidth",
]
