"""Evaluation of a classifier under attack: curves, worst case, minimal sizes, transfer, audit.

    evaluate          accuracy and confidence against the size of attacks, with an audit
    evaluate_batches  the same for a stream of batches; resumes from a folder
    certify           a lower bound of the accuracy under any attack, from bounds of the margins
    certify_smoothed  randomized smoothing: a radius under l2 for each row, by sampling
    benchmark         clean and robust accuracy by AutoAttack, as a record for a leaderboard
    minimal_eps       the smallest size at which an attack succeeds, for each row
    transfer          accuracy of every model on the adversarial examples of every other
    substitute        a model like one of which only the classes are known, to craft examples on
    coverage, frechet, nearest, diversity, collapse, parzen    measures of a generator's samples
    curves            `evaluate` inside a compiled program; `clean` without attacks

A model without classes has a likelihood: `parzen` at samples; `log_partition`, exact for a small
Boltzmann machine, and `annealed_log_partition` for a large one.

Noise curves use `attacks.gaussian_noise` and `attacks.sign_noise`. The command line,
`python -m adv_jax.evaluate --workdir=RUN`, evaluates the model that a run has trained.
"""

from adv_jax.evaluate.auditing import Audit, AuditWarning
from adv_jax.evaluate.benchmarking import benchmark
from adv_jax.evaluate.budget import SCALES, is_targeted, norm_of, scale_of
from adv_jax.evaluate.certifying import Certificate, certify
from adv_jax.evaluate.clustering import matched_classes
from adv_jax.evaluate.density import parzen, parzen_bandwidth
from adv_jax.evaluate.evaluation import Evaluation, evaluate
from adv_jax.evaluate.generation import (
    Coverage,
    collapse,
    coverage,
    diversity,
    frechet,
    nearest,
)
from adv_jax.evaluate.measures import Clean, Curve, Curves, clean, curves
from adv_jax.evaluate.minimal import minimal_eps
from adv_jax.evaluate.partition import LogPartition, annealed_log_partition, log_partition
from adv_jax.evaluate.smoothing import Smoothed, certify_smoothed
from adv_jax.evaluate.streaming import evaluate_batches
from adv_jax.evaluate.substitution import Substitute, substitute
from adv_jax.evaluate.transferring import transfer

__all__ = [
    "SCALES",
    "Audit",
    "AuditWarning",
    "Certificate",
    "Clean",
    "Coverage",
    "Curve",
    "Curves",
    "Evaluation",
    "LogPartition",
    "Smoothed",
    "Substitute",
    "annealed_log_partition",
    "benchmark",
    "certify",
    "certify_smoothed",
    "clean",
    "collapse",
    "coverage",
    "curves",
    "diversity",
    "evaluate",
    "evaluate_batches",
    "frechet",
    "is_targeted",
    "log_partition",
    "matched_classes",
    "minimal_eps",
    "nearest",
    "norm_of",
    "parzen",
    "parzen_bandwidth",
    "scale_of",
    "substitute",
    "transfer",
]
