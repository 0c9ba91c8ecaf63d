"""Evaluation of a classifier under attack: curves, worst case, minimal sizes, transfer, audit.

    evaluate          accuracy and confidence against the size of attacks, with an audit
    evaluate_batches  the same for a stream of batches; resumes from a folder
    certify           a lower bound of the accuracy under any attack, from bounds of the margins
    certify_smoothed  randomized smoothing: a radius under l2 for each row, by sampling
    benchmark         clean and robust accuracy by AutoAttack, as a record for a leaderboard
    minimal_eps       the smallest size at which an attack succeeds, for each row
    transfer          accuracy of every model on the adversarial examples of every other
    substitute        a model like one of which only the classes are known, to craft examples on
    curves            `evaluate` inside a compiled program; `clean` without attacks

`adv_jax.generative.measures` is for models without classes.

Noise curves use `attacks.gaussian_noise` and `attacks.sign_noise`. The command line,
`python -m adv_jax.evaluate --workdir=RUN`, evaluates the model that a run has trained.
"""

from adv_jax.evaluate.auditing import Audit, AuditWarning
from adv_jax.evaluate.benchmarking import benchmark
from adv_jax.evaluate.certifying import Certificate, certify
from adv_jax.evaluate.evaluation import Evaluation, evaluate
from adv_jax.evaluate.measures import Clean, Curve, Curves, clean, curves
from adv_jax.evaluate.minimal import minimal_eps
from adv_jax.evaluate.smoothing import Smoothed, certify_smoothed
from adv_jax.evaluate.streaming import evaluate_batches
from adv_jax.evaluate.substitution import Substitute, substitute
from adv_jax.evaluate.traits import norm_of, scale_of
from adv_jax.evaluate.transferring import transfer

__all__ = [
    "Audit",
    "AuditWarning",
    "Certificate",
    "Clean",
    "Curve",
    "Curves",
    "Evaluation",
    "Smoothed",
    "Substitute",
    "benchmark",
    "certify",
    "certify_smoothed",
    "clean",
    "curves",
    "evaluate",
    "evaluate_batches",
    "minimal_eps",
    "norm_of",
    "scale_of",
    "substitute",
    "transfer",
]
