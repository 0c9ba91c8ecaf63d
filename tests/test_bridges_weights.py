"""Weights of PyTorch in models of ours, beside the torch module itself."""

from functools import partial

import numpy as np
import pytest
from recipes import recipe

from adv_jax import bridges
from adv_jax.types import UserError

BATCH_NORM = {f"bn.{name}": np.full(3, i) for i, name in enumerate(["weight", "running_var"])}


def test_kernels_are_transposed_and_statistics_are_sorted_out():
    weight = np.arange(120).reshape(2, 3, 4, 5)
    given = {"conv.weight": weight, **BATCH_NORM, "bn.num_batches_tracked": np.array(7)}
    found = bridges.weights_from_torch(given, {"conv": "a/b", "bn": "norm"})
    assert found.keys() == {"params/a/b/kernel", "params/norm/scale", "batch_stats/norm/var"}
    for o, i, row, column in [(0, 0, 0, 1), (1, 2, 3, 4)]:
        assert found["params/a/b/kernel"][row, column, i, o] == weight[o, i, row, column]
    np.testing.assert_array_equal(found["batch_stats/norm/var"], [1, 1, 1])


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ({}, "layers must have each layer of state_dict, got none for 'bn' of 'bn.weight'"),
        (
            {"bn": "norm", "fc": "norm"},
            "layers must have one path for each layer, got 'norm' twice",
        ),
        ({"bn": ""}, "layers must have one path for each layer, got ''"),
        ({"bn": ["norm"]}, r"layers must have one path for each layer, got \['norm'\]"),
        ({3: "norm"}, "layers must have texts as names, got 3"),
        ({"bn": "norm", "fc": "logits"}, "layers must be layers of state_dict, got 'fc'"),
    ],
)
def test_layers_that_do_not_fit_are_refused(layers, says):
    with pytest.raises(UserError, match=f"^{says}$"):
        bridges.weights_from_torch(BATCH_NORM, layers)


def test_what_is_no_dict_is_refused():
    with pytest.raises(UserError, match="^state_dict must be a dict, got a function"):
        bridges.weights_from_torch(preact_resnet18, {})


def test_an_array_of_another_kind_of_layer_is_refused():
    with pytest.raises(UserError, match="must have the arrays weight, .*, got 'rnn.weight_ih_l0'$"):
        bridges.weights_from_torch({"rnn.weight_ih_l0": np.ones((2, 2))}, {"rnn": "rnn"})


@pytest.mark.parametrize("value", [None, [[1.0], [1.0, 2.0]], "kernel", np.ones(2) * 1j])
def test_what_is_no_array_of_numbers_is_refused(value):
    words = "state_dict must have arrays of numbers, got .* for 'fc.bias'"
    with pytest.raises(UserError, match=f"^{words}$"):
        bridges.weights_from_torch({"fc.bias": value}, {"fc": "logits"})


@pytest.mark.parametrize("value", [1e300, np.nan])
def test_numbers_that_float32_does_not_hold_are_refused(value):
    words = "state_dict must have numbers that are finite in float32, got others in 'fc.bias'"
    with pytest.raises(UserError, match=f"^{words}$"):
        bridges.weights_from_torch({"fc.bias": np.full(2, value)}, {"fc": "logits"})


def preact_resnet18(torch):
    """The module of the usual PyTorch code, with random weights and statistics."""
    nn, functional = torch.nn, torch.nn.functional
    conv = partial(nn.Conv2d, bias=False)

    class Block(nn.Module):
        def __init__(self, maps_in, maps, stride):
            super().__init__()
            self.bn1, self.bn2 = nn.BatchNorm2d(maps_in), nn.BatchNorm2d(maps)
            self.conv1 = conv(maps_in, maps, 3, stride=stride, padding=1)
            self.conv2 = conv(maps, maps, 3, padding=1)
            if stride != 1 or maps_in != maps:
                self.shortcut = nn.Sequential(conv(maps_in, maps, 1, stride=stride))

        def forward(self, x):
            out = functional.relu(self.bn1(x))
            shortcut = self.shortcut(out) if hasattr(self, "shortcut") else x
            return self.conv2(functional.relu(self.bn2(self.conv1(out)))) + shortcut

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn = conv(3, 64, 3, padding=1), nn.BatchNorm2d(512)
            self.linear = nn.Linear(512, 10)
            widths = [64, 64, 128, 256, 512]
            for stage in (1, 2, 3, 4):
                first = Block(widths[stage - 1], widths[stage], 1 if stage == 1 else 2)
                stages = nn.Sequential(first, Block(widths[stage], widths[stage], 1))
                setattr(self, f"layer{stage}", stages)

        def forward(self, x):
            out = self.conv1(x)
            for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
                out = stage(out)
            return self.linear(functional.relu(self.bn(out)).mean((2, 3)))

    torch.manual_seed(0)
    net = Net()
    for name, tensor in net.state_dict().items():
        if "bn" in name and tensor.ndim:
            tensor.uniform_(0.5, 1.5)
    return net.eval()


@pytest.mark.slow
def test_the_recipe_gives_the_logits_of_the_torch_module(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch", reason="needs the extra torch")
    net, names = preact_resnet18(torch), {}
    monkeypatch.chdir(tmp_path)
    torch.save(net.state_dict(), "resnet18.pt")
    exec(recipe("Weights of PyTorch in a model of ours"), names)
    x = np.random.default_rng(0).uniform(size=(2, 32, 32, 3)).astype(np.float32)
    with torch.no_grad():
        expected = net(torch.tensor(np.moveaxis(x, -1, 1))).numpy()
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(names["logits_fn"](x), expected, rtol=1e-4, atol=1e-5)
    with np.load("resnet18.npz") as saved:
        assert saved.keys() == names["arrays"].keys() and len(saved) == 20 + 4 * 17 + 2
