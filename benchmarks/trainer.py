"""Builds a task from adv_jax's parts, and the parts of its training step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from adv_jax import attacks, data, generative, models, objectives
from adv_jax.random import normal
from adv_jax.runner.config.optimizer import optimizer
from adv_jax.step import TrainState, init_state, make_step, over_steps
from adv_jax.types import Array, Batch, Objective
from benchmarks.tasks import (
    ALPHA,
    BACKPROP_EPS,
    CIFAR,
    CLASSES,
    DROPOUT,
    EPS,
    LADDER_EPS,
    LADDER_NOISE,
    LATENT,
    LWA_EPS,
    SIDE,
    Product,
    Task,
    batch_rows,
    cifar_shaped,
)

# Some gradients of the ladder are exactly zero at its initial values.
PERTURBATION = 0.01

# (carry, rows i32[2, B], the data {"x", "y"}) -> (carry, output)
Step = Callable[[Any, Array, Batch], tuple[Any, Any]]


class Trainer:
    """A task on the embedded digits.

    task: the task.
    optimizer: its optimizer.
    arrays: {"x": f32[N, D] or images f32[N, H, W, C], "y": i32[N]}; arguments, not constants, of
      the compiled program.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        train = data.load("mnist", source="embedded").train
        images = task.is_lenet or task.objective in ("gamma", "gan")
        x = cifar_shaped(train.x) if task.image == CIFAR else train.x
        x = x if images else x.reshape(len(train.y), -1)
        self.arrays = {"x": jnp.asarray(x), "y": jnp.asarray(train.y)}
        self._model = _model(task)
        self._objective = _objective(task, models.apply_fn(self._model))
        self.optimizer = optimizer(_optimizer(task), steps_per_epoch=task.steps)

    def init(self, seed: Array | int) -> TrainState:
        key = jax.random.key(seed)
        variables = models.init(self._model, key, self.arrays["x"][:2])
        leaves, tree = jax.tree.flatten(variables["params"])
        moved = [
            leaf + PERTURBATION * jax.random.normal(key, leaf.shape)
            for leaf, key in zip(leaves, jax.random.split(key, len(leaves)), strict=True)
        ]
        variables = {**variables, "params": jax.tree.unflatten(tree, moved)}
        return init_state(variables, self.optimizer, seed=seed)

    def batch(self, rows: Array, arrays: Batch) -> Batch:
        labeled, unlabeled = rows
        x, y = arrays["x"], arrays["y"]
        return {"x": x[labeled], "y": y[labeled], "unlabeled": x[unlabeled]}

    def step(self, state: TrainState, rows: Array, arrays: Batch) -> tuple[TrainState, Any]:
        return make_step(self._objective, self.optimizer)(state, self.batch(rows, arrays))

    def loss(self, params: Any, state: TrainState, rows: Array, arrays: Batch) -> Array:
        variables = {**state.variables, "params": params}
        return self._objective(variables, self.batch(rows, arrays), key=state.key)[0]

    def rows(self, *, seed: int) -> np.ndarray:
        """Returns the rows of one block: i32[steps, 2, B]."""
        return batch_rows(self.task, len(self.arrays["y"]), seed=seed)

    def noise_shapes(self) -> list[tuple[int, ...]]:
        """Returns the shapes of a ladder's noise by layer: (2, B, *S)."""
        x = self.arrays["x"][: self.task.batch_size]
        run = lambda variables: models.apply_fn(self._model)(variables, x).extras["z"]
        z = jax.eval_shape(run, jax.eval_shape(self.init, 0).variables)
        return [(2, *layer.shape) for layer in z]


def scanned(step: Step) -> Step:
    """Scans the step over a leading axis of rows, as adv_jax does in an epoch."""

    def block(carry: Any, rows: Array, arrays: Batch) -> tuple[Any, Any]:
        return over_steps(lambda carry, rows: step(carry, rows, arrays))(carry, rows)

    return block


@contextmanager
def without_drawing(noise: Callable[[tuple[int, ...]], Array]) -> Iterator[None]:
    """Makes ladders and GANs call `noise` instead of drawing random numbers."""
    with (
        mock.patch("adv_jax.models.ladder.draws", lambda key, shape, **of: noise(shape)),
        mock.patch("adv_jax.models.layered.bernoulli", lambda key, p, shape: noise(shape)),
        mock.patch("jax.random.uniform", lambda key, shape, *options: noise(shape)),
    ):
        yield


def _optimizer(task: Task) -> dict[str, Any]:
    if task.objective != "gan":
        return task.optimizer
    return {"name": "players", "generator": task.optimizer, "discriminator": task.optimizer}


def _model(task: Task) -> nn.Module:
    if task.objective == "gan":
        return generative.models.gan(
            shape=(SIDE, SIDE, 1),
            latent=LATENT,
            generator_features=task.features,
            discriminator_features=task.features[::-1],
            activation="leaky_relu",
            dropout=DROPOUT,
        )
    if task.is_lenet:
        return models.lenet(features=task.features, num_classes=CLASSES, activation="tanh")
    if not task.is_ladder:
        return models.mlp(features=task.features, num_classes=CLASSES)
    return models.ladder(
        "-".join(map(str, task.features)),
        activation=task.activation,
        noise_std=(LADDER_NOISE,) * len(task.weights),
        denoising="-".join("gauss" if weight else "0" for weight in task.weights),
        scale_softmax=task.scale_softmax,
    )


def _objective(task: Task, apply: Callable) -> Objective:
    if task.objective == "gan":
        return partial(generative.objectives.gan, apply)
    if task.is_ladder:
        attack = partial(attacks.fgsm, eps=LADDER_EPS) if task.plain else None
        return partial(objectives.ladder, apply, weights=task.weights, attack=attack)
    if task.objective in {"cross_entropy", "lenet"}:
        return partial(objectives.cross_entropy, apply)
    if task.objective == "lwa":
        attack = partial(attacks.fgsm, norm="l2", eps=LWA_EPS)
        return partial(objectives.lwa, apply, attack=attack)
    logistic = {"loss": "binary_cross_entropy"}
    if task.objective == "backprop":
        return partial(objectives.cross_entropy, apply, **logistic)
    if task.objective == "adversarial_backprop":
        attack = partial(attacks.fgsm, eps=BACKPROP_EPS, **logistic)
        return partial(objectives.adversarial_backprop, apply, attack=attack, **logistic)
    attack = partial(attacks.fgsm, eps=EPS)
    return partial(objectives.adversarial_mix, apply, attack=attack, alpha=ALPHA)


# Each part of a step returns (step, first carry). The carry changes in each step, so that XLA can
# neither move the work out of the loop nor skip it.


def _whole(trainer: Trainer) -> tuple[Step, Any]:
    return trainer.step, jax.jit(trainer.init)(0)


def _forward(trainer: Trainer) -> tuple[Step, Any]:
    state = jax.jit(trainer.init)(0)

    def step(count, rows, arrays):
        now = state.replace(step=count)
        return count + 1, trainer.loss(state.params, now, rows, arrays)

    return step, jnp.array(state.step)


def _forward_backward(trainer: Trainer) -> tuple[Step, Any]:
    state = jax.jit(trainer.init)(0)

    def step(carry, rows, arrays):
        count, _ = carry
        now = state.replace(step=count)
        loss, gradients = jax.value_and_grad(trainer.loss)(state.params, now, rows, arrays)
        return (count + 1, gradients), loss

    return step, (jnp.int32(0), jax.tree.map(jnp.zeros_like, state.params))


def _without_noise(trainer: Trainer) -> tuple[Step, Any]:
    def step(state, rows, arrays):
        with without_drawing(jnp.zeros):
            return trainer.step(state, rows, arrays)

    return step, jax.jit(trainer.init)(0)


def _noise_alone(trainer: Trainer) -> tuple[Step, Any]:
    shapes = trainer.noise_shapes()

    def step(carry, rows, arrays):
        del rows, arrays
        count, _ = carry
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), count), len(shapes))
        noise = [normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]
        return (count + 1, noise), None

    return step, (jnp.int32(0), [jnp.zeros(shape) for shape in shapes])


def _optimizer_alone(trainer: Trainer) -> tuple[Step, Any]:
    state = jax.jit(trainer.init)(0)

    def step(carry, rows, arrays):
        del rows, arrays
        params, opt_state = carry
        # The time does not depend on the gradient; the parameters change in each step.
        updates, opt_state = trainer.optimizer.update(params, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    return step, (state.params, state.opt_state)


def _gathering_alone(trainer: Trainer) -> tuple[Step, Any]:
    def step(_, rows, arrays):
        return trainer.batch(rows, arrays), None

    return step, trainer.batch(trainer.rows(seed=0)[0], trainer.arrays)


def _products_alone(trainer: Trainer) -> tuple[Step, Any]:
    """Computes only the matrix products of the step."""

    def step(factors, rows, arrays):
        del rows, arrays
        return [(_after(a, jax.lax.optimization_barrier(a @ b)), b) for a, b in factors], None

    return step, [_factors(product) for product in trainer.task.products]


def _after(a: Array, product: Array) -> Array:
    """Changes one entry of `a`, so that the next step's product depends on this one."""
    return a.at[0, 0].add(1e-9 * product[0, 0])


def _factors(product: Product) -> tuple[Array, Array]:
    key_a, key_b = jax.random.split(jax.random.key(0))
    a = jax.random.normal(key_a, (product.rows, product.inner))
    return a, jax.random.normal(key_b, (product.inner, product.columns))


WHOLE = "whole step"
PARTS = {
    WHOLE: _whole,
    "forward": _forward,
    "forward and backward": _forward_backward,
    "whole step, no noise drawn": _without_noise,
    "noise alone": _noise_alone,
    "optimizer alone": _optimizer_alone,
    "gathering the batch alone": _gathering_alone,
    "matrix products alone": _products_alone,
}
