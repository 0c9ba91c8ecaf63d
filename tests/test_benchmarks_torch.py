"""The residual net of the benchmarks in PyTorch, and its attacks beside torchattacks, in small.

They need the extra `oracle`.
"""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from adv_jax import models
from benchmarks import accelerator, accelerator_worker, training
from benchmarks.accelerator_tables import comparable
from benchmarks.tasks import CIFAR, TASKS

torch = pytest.importorskip("torch", reason="needs the extra oracle")
pytest.importorskip("torchattacks", reason="needs the extra oracle")
accelerator_torch_worker = pytest.importorskip("benchmarks.accelerator_torch_worker")

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


class TwoSides:
    """The workers of `benchmarks.accelerator`, both in this process."""

    def __init__(self):
        programs, theirs = accelerator_worker.Programs(), accelerator_torch_worker.Side()
        theirs.describe(threads=2, device="cpu")
        self.ours = {"prepare": programs.prepare, "run": programs.run}
        self.ours |= {"export": accelerator_worker.export}
        self.theirs = {"prepare": theirs.prepare, "run": theirs.run}

    def call(self, side, request, *, within=None, **arguments):
        handlers = self.ours if side == accelerator.OURS else self.theirs
        return handlers[request](**arguments)


@pytest.mark.parametrize(
    ("stage", "forms"),
    [
        ("ladder", ("eager",)),
        ("training_tf32", ("eager",)),
        ("pgd_lenet_float32", ("eager", "torchattacks")),
        pytest.param("pgd_resnet18_float32", ("torchattacks",), marks=pytest.mark.exhaustive),
        pytest.param("auto_attack_resnet18", ("torchattacks",), marks=pytest.mark.exhaustive),
    ],
)
def test_both_sides_of_a_stage_compute_the_same(stage, forms):
    stage = accelerator.STAGES[stage]
    work = stage.work._replace(**stage.small)
    always = {"known": {}, "rounds": 1, "left": lambda: float("inf")}
    *_, found = accelerator.compare(TwoSides(), work, forms, **always)
    assert found["left_out"] == {}
    assert set(comparable(found)) == set(forms)


@pytest.mark.parametrize("kind", ["task", "training"])
def test_a_training_that_is_rewound_repeats_its_losses(kind, tmp_path):
    stage = accelerator.STAGES[{"task": "ladder", "training": "training_tf32"}[kind]]
    work = stage.work._replace(**stage.small)._asdict()
    accelerator_worker.export(work, str(tmp_path))
    side = accelerator_torch_worker.Side()
    side.describe(threads=2, device="cpu")
    form = {"task": side._task, "training": side._training}[kind](work, "eager", tmp_path)

    def losses():
        torch.manual_seed(0)
        for index in range(work["steps"]):
            form.prepare(index)
            yield form.step().item()

    first = list(losses())
    assert list(losses()) != first
    form.rewind()
    assert list(losses()) == pytest.approx(first, rel=1e-6)


def test_a_narrow_conv_large_has_the_same_step_in_pytorch(monkeypatch, tmp_path):
    from benchmarks import adv_jax_worker, torch_worker

    task = TASKS["conv_large"]
    narrow = "-".join(task.features).replace("192", "6").replace("96", "4").split("-")
    monkeypatch.setitem(TASKS, "conv_large", task._replace(features=tuple(narrow), batch_size=4))
    side = torch_worker.Side()
    adv_jax_worker.export(["conv_large"], str(tmp_path))
    side.describe(threads=2, exchange=str(tmp_path))
    sides = {training.OURS: InProcess(adv_jax_worker), training.PLAIN: InProcess(side)}
    # Exits if losses or gradients differ.
    found = training._equality(sides, "conv_large", tmp_path)
    assert found["gamma"]["loss"] > 0
