"""The labels of clusters, for classifiers that were trained without labels."""

import numpy as np

from adv_jax.checks import checked_count
from adv_jax.types import UserError, described, host_array


def matched_classes(clusters: np.ndarray, labels: np.ndarray, *, num_classes: int) -> np.ndarray:
    """Returns the label of each cluster: the one-to-one matching with the most agreements.

    It is found by the labels of the rows that it is then tested on, so that an error after matching
    is that of a clustering, not of a classifier.

    Args:
      clusters: integers [N] in [0, K), predicted classes without names.
      labels: integers [N] in [0, K).
      num_classes: K.

    Returns:
      i64[K], a permutation.

    Raises:
      UserError: clusters and labels differ in number, or are no integers in [0, K).

    >>> matched_classes(np.array([1, 1, 0, 2]), np.array([0, 0, 2, 1]), num_classes=3)
    array([2, 0, 1])
    """
    from scipy.optimize import linear_sum_assignment  # Slow to import.

    num_classes = checked_count("num_classes", num_classes)
    for name, classes in (("clusters", clusters), ("labels", labels)):
        found = host_array(classes)
        if found is None or found.ndim != 1 or found.dtype.kind not in "iu" or not found.size:
            raise UserError(f"{name} must be integers [N], N >= 1, got {described(classes)}")
        if (other := found[(found < 0) | (found >= num_classes)]).size:
            raise UserError(f"{name} must be from 0 to {num_classes - 1}, got {other[0]}")
    if len(clusters) != len(labels):
        raise UserError(f"labels must be {len(clusters)}, as clusters are, got {len(labels)}")
    counts = np.zeros((num_classes, num_classes), int)
    np.add.at(counts, (clusters, labels), 1)
    return linear_sum_assignment(counts, maximize=True)[1]
