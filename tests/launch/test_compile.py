"""launch.compile: TPU programs on a machine without a TPU; needs the extra `tpu`."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from adv_jax.types import UserError
from launch import _topology

CONFIGS = sorted(file.stem for file in Path("configs").glob("*_*.py"))
needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs pip install 'adv_jax[tpu]'"
)


def compiled(tmp_path, *args):
    """Returns the document that the command writes."""
    out = tmp_path / "compiled.json"
    command = [sys.executable, "-m", "launch.compile", *args, f"--out={out}"]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    found = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert found.returncode == 0, found.stderr
    return json.loads(out.read_text())


@pytest.mark.parametrize(("given", "nearest"), [("v5e:3x4", "v5e:4x4"), ("v6:2x2", "v6e:2x2")])
def test_an_unknown_topology_is_refused_with_the_nearest(given, nearest):
    with pytest.raises(UserError, match=f"--topology must be .* did you mean '{nearest}'"):
        _topology.chip_of(given)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is there")
def test_a_missing_libtpu_is_named():
    with pytest.raises(UserError, match=r"pip install 'adv_jax\[tpu\]'"):
        _topology.devices("v5e:2x2")


def test_the_needed_memory_is_read_from_the_errors_of_xla():
    too_large = "RESOURCE_EXHAUSTED: E1000: the total memory required for HLO temporaries (145.69T)"
    assert _topology.needed(RuntimeError(too_large)) == "145.69T"
    assert _topology.needed(RuntimeError("INTERNAL: Used 3G")) is None


@needs_libtpu
@pytest.mark.slow
def test_shards_reduce_once_a_step_and_replicas_never(tmp_path):
    quick = ("--config=huang_mlp_mnist:quick", "--config.evaluation.attacks={}")
    more = ("--topology=v5e:2x4", "--config.replicas.seeds=2", "--config.replicas.shards=4")
    shared = compiled(tmp_path, *quick, *more)
    assert (shared["chips"], shared["functions"]["epoch"]["collectives"]) == (8, {"all-reduce": 1})
    alone = compiled(tmp_path, *quick, "--topology=v5e:2x2", "--config.replicas.seeds=4")
    assert alone["chips"] == 4
    assert not any(fn["collectives"] for fn in alone["functions"].values())
    # 100 rows through 784-500-500-10: the attack needs the values and the gradient by the inputs of
    # each layer; the update values, the gradient by the weights, and by the inputs of two layers.
    first, *others = 784 * 500, 500 * 500, 500 * 10
    assert alone["step"]["count"] == pytest.approx(2 * 100 * (4 * first + 5 * sum(others)))
    assert shared["step"]["count"] == pytest.approx(alone["step"]["count"] / 4, rel=0.01)


@needs_libtpu
@pytest.mark.exhaustive
@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_compiles_for_four_chips(config, tmp_path):
    found = compiled(tmp_path, f"--config={config}:quick", "--topology=v5e:2x2")
    for fn in found["functions"].values():
        assert fn["arguments"] + fn["temporaries"] < found["memory_of_a_chip"]
