"""Training methods: `objective(apply, variables, batch, *, key, attack, ...) -> (loss, aux)`.

loss is f32[], aux is (model_state, metrics). An objective says which loss is taken at which
perturbed points; what perturbs them is an argument.
"""

from adv_jax.objectives.adversarial_backprop import adversarial_backprop
from adv_jax.objectives.adversarial_mix import adversarial_mix
from adv_jax.objectives.cross_entropy import cross_entropy
from adv_jax.objectives.ladder import ladder
from adv_jax.objectives.lwa import lwa, lwa_rep

__all__ = [
    "adversarial_backprop",
    "adversarial_mix",
    "cross_entropy",
    "ladder",
    "lwa",
    "lwa_rep",
]
