"""The residual net of the benchmarks in PyTorch, and its attacks beside torchattacks, in small.

They need the extra `oracle`.
"""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from adv_jax import models
from benchmarks import accelerator, attacks, training
from benchmarks.tasks import CIFAR, TASKS

torch = pytest.importorskip("torch", reason="needs the extra oracle")
pytest.importorskip("torchattacks", reason="needs the extra oracle")

pytestmark = pytest.mark.slow
NARROW = models.preact_resnet(stem=8, stages=(8, 16), blocks=1)


def with_statistics(model, x):
    """Variables with drawn scales and biases, and the statistics of these images."""
    variables = models.init(model, jax.random.key(0), x)
    leaves, tree = jax.tree.flatten(variables["params"])
    keys = jax.random.split(jax.random.key(1), len(leaves))
    drawn = [a + 0.1 * jax.random.normal(key, a.shape) for a, key in zip(leaves, keys, strict=True)]
    variables = {**variables, "params": jax.tree.unflatten(tree, drawn)}
    return {**variables, **models.apply_fn(model)(variables, x, train=True).model_state}


@pytest.mark.parametrize("model", [NARROW, models.preact_resnet()], ids=["narrow", "resnet18"])
def test_the_residual_net_has_the_same_logits_in_pytorch(model):
    from benchmarks.torch_resnet import preact_resnet

    x = np.random.default_rng(0).random((4, *CIFAR), np.float32)
    variables = with_statistics(model, x)
    ours = models.apply_fn(model)(variables, x).logits
    leaves = {}
    for collection in variables.values():
        leaves |= flatten_dict(collection, sep="/")
    arrays = {key: torch.from_numpy(np.array(leaf)) for key, leaf in leaves.items()}
    with torch.no_grad():
        theirs = preact_resnet(arrays)(torch.from_numpy(x).movedim(-1, 1)).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * abs(theirs).max(), rtol=0)


class InProcess:
    """A worker without a process of its own."""

    def __init__(self, side):
        self.side = side

    def call(self, request, **arguments):
        return getattr(self.side, request)(**arguments)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.mark.parametrize(
    "name",
    ["pgd_resnet18", pytest.param("auto_attack_resnet18", marks=pytest.mark.exhaustive)],
)
def test_a_residual_net_is_attacked_beside_torchattacks(name, monkeypatch):
    pytest.importorskip("art", reason="needs the extra oracle")
    from benchmarks import attacks_torch_worker, attacks_worker

    logits = lambda variables, x: models.apply_fn(NARROW)(variables, x).logits
    monkeypatch.setitem(attacks_worker.NETS, "resnet18", NARROW)
    monkeypatch.setitem(attacks_worker.LOGITS, "resnet18", logits)
    sides = {attacks.OURS: attacks_worker, attacks.PLAIN: attacks_torch_worker}
    workers = {name: InProcess(module.Side()) for name, module in sides.items()}
    monkeypatch.setattr(attacks, "_workers", lambda *_: workers)
    monkeypatch.setattr(attacks, "use_cpus", lambda threads: threads)
    work = accelerator.WORKS[name]
    # A narrow net is not robust under the eps of the wide one.
    work = work._replace(rows=50, options={**work.options, "eps": 1 / 255})
    report = attacks.compare({name: work}, rounds=1, threads=2)
    assert 0 < report["equality"][name]["torchattacks"]["adv_jax"] < 1
    assert report["works"][name]["adv_jax_times_as_fast"]["torchattacks"]["median"] > 0


def test_a_narrow_conv_large_has_the_same_step_in_pytorch(monkeypatch, tmp_path):
    from benchmarks import adv_jax_worker, torch_worker

    task = TASKS["conv_large"]
    narrow = "-".join(task.features).replace("192", "6").replace("96", "4").split("-")
    monkeypatch.setitem(TASKS, "conv_large", task._replace(features=tuple(narrow), batch_size=4))
    side = torch_worker.Side()
    adv_jax_worker.export(["conv_large"], str(tmp_path))
    side.describe(threads=2, exchange=str(tmp_path), device="cpu")
    sides = {training.OURS: InProcess(adv_jax_worker), training.PLAIN: InProcess(side)}
    # Exits if losses or gradients differ.
    found = training._equality(sides, "conv_large", tmp_path)
    assert found["gamma"]["loss"] > 0
