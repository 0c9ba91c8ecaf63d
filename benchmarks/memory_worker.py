"""Worker that evaluates a LeNet with initial weights on some rows, once."""

import resource
import sys
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax import attacks, data, evaluate, models
from benchmarks.timing import serve


def evaluated(rows: int) -> dict[str, int]:
    """Returns the bytes of the inputs, and the peak of the process before and after."""
    jax.config.update("jax_num_cpu_devices", 2)  # As the command `adv_jax.evaluate` does here.
    digits, labels = data.load("mnist", source="embedded").train
    x, y = (np.resize(part, (rows, *part.shape[1:])) for part in (digits, labels))
    model = models.lenet()
    apply, variables = models.apply_fn(model), models.init(model, jax.random.key(0), x[:2])
    logits_fn = lambda x: apply(variables, x).logits
    suite = {"pgd": partial(attacks.pgd, num_steps=2, bounds=(0.0, 1.0))}
    before = _peak()
    evaluate.evaluate(logits_fn, jnp.asarray(x), y, suite, eps=[0.1], batch_size=100)
    return {"inputs": x.nbytes, "before": before, "after": _peak()}


def _peak() -> int:
    """Returns the peak resident memory of the process in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    serve(SimpleNamespace(evaluated=evaluated))
