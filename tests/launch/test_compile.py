"""launch.compile: programs for TPUs on a machine without one; some need the extra `tpu`."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import jax
import pytest
import short_run
from ml_collections import ConfigDict
from short_run import serve

from adv_jax.runner.config import catalog
from adv_jax.runner.config.document import with_values
from adv_jax.runner.run import training
from adv_jax.types import UserError
from launch import compile as command
from launch.compiling import programs, topologies, tpus
from launch.compiling.cells import memory
from launch.compiling.collectives import _bytes, collectives
from launch.compiling.programs import _does_not_fit, _remedies
from launch.compiling.target import Target, TooLarge
from launch.compiling.tpu_cases import Case
from launch.tpu import compile_case

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs pip install -e '.[tpu]'"
)


def compiled(tmp_path, *args):
    """Returns the document that the command writes."""
    out = tmp_path / "compiled.json"
    command = [sys.executable, "-m", "launch.compile", *args, f"--out={out}"]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    found = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert found.returncode == 0, found.stderr
    return json.loads(out.read_text())


def tpu(devices):
    """Returns a v5e with other devices in place of its own."""
    return Target("v5e:2x2", tpus.CHIPS["v5e"], devices, tpus.compiled, ())


@pytest.mark.parametrize(
    ("given", "nearest"),
    [("v5e:3x4", "v5e:4x4"), ("v6:2x2", "v6e:2x2"), ("h10:8", "h100:8"), ("h100:4x0", "h100:4x8")],
)
def test_an_unknown_topology_is_refused_with_the_nearest(given, nearest):
    with pytest.raises(UserError, match=f"--topology must be .* did you mean '{nearest}'"):
        topologies.target(given)


def test_an_unknown_shape_of_a_known_chip_is_refused_with_those_of_the_chip():
    line = "^--topology must be one of h100:1, h100:8, h100:4x8, got 'h100:0'$"
    with pytest.raises(UserError, match=line):
        topologies.target("h100:0")


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is there")
def test_a_missing_libtpu_is_named():
    with pytest.raises(
        UserError, match=r"^topology v5e:2x2 must have libtpu \(pip install -e '\.\[tpu\]'"
    ):
        tpus.devices("v5e:2x2")


def test_the_needed_memory_is_read_from_the_errors_of_xla():
    too_large = "RESOURCE_EXHAUSTED: E1000: the total memory required for HLO temporaries (145.69T)"
    assert tpus.needed(RuntimeError(too_large)) == 145.69 * 2**40
    used = "RESOURCE_EXHAUSTED: Ran out of memory. Used 20.25G of 15.75G hbm."
    assert tpus.needed(RuntimeError(used)) == 20.25 * 2**30
    assert tpus.needed(RuntimeError("INTERNAL: Used 3G")) is None


@pytest.mark.parametrize(
    ("name", "needed", "replicas", "advice"),
    [
        # 1 GB of data leaves 15 of 16 GB; 10 replicas need 30, 5 of them 15.
        ("epoch", 31e9, 10, "got 31 GB .* epoch, 1.9 times as much; about 5 of 10 replicas a chip"),
        # 100 / 16 = 6.25 parts, and so 8.
        ("epoch", 100e9, 1, "6.2 times .*; one replica does not: in 8 parts"),
        ("init", 100e9, 1, "one replica does not: the model must be smaller"),
    ],
)
def test_a_program_that_is_too_large_says_by_how_much_and_what_fits(name, needed, replicas, advice):
    remedies = "in {} parts".format
    target = tpu([])
    error = _does_not_fit(name, TooLarge(needed), target, replicas, int(1e9), remedies)
    assert re.search(f"must fit the 16 GB of one v5e, .*{advice}", str(error))


@pytest.mark.parametrize(
    ("model", "variables", "advice"),
    [
        ({}, {}, "set microbatches or replicas.shards to about 8, or "),
        ({"recompute": False}, {"batch_stats": {}}, "set model.recompute, or "),
        ({"recompute": True}, {"batch_stats": {}}, ""),
    ],
)
def test_what_saves_memory_is_what_the_model_may_have(model, variables, advice):
    experiment = SimpleNamespace(model=SimpleNamespace(**model))
    state = SimpleNamespace(state=SimpleNamespace(variables=variables))
    config = {"objective": {"name": "cross_entropy"}}
    assert _remedies(config, experiment, state, 8) == f"{advice}divide batch_size by about 8"


@pytest.fixture
def digits(monkeypatch):
    found = short_run.few_digits(400, 200)
    serve(monkeypatch, found)


@pytest.mark.parametrize(
    "changes",
    [{"replicas.shards": 3}, {"replicas.shards": 8}, {"microbatches": 3}, {"batch_size": 401}],
)
def test_sizes_are_refused_in_the_words_of_a_run(changes, digits, tmp_path):
    config = with_values(short_run.document(), changes)
    with pytest.raises(UserError) as of_a_run:
        training.run(config, tmp_path / "run")
    with pytest.raises(UserError) as found:
        programs.compile_config(config, tpu(jax.devices()))
    assert str(found.value) == str(of_a_run.value)


def test_an_attack_that_the_config_lacks_has_the_norm_and_bounds_of_its_first():
    first = {"name": "fgsm", "norm": "l2", "bounds": (0.0, 1.0), "targeted": False}
    given = {"fgsm": first, "raw": {"name": "raw_gradient"}}
    config = with_values(short_run.document(), {"evaluation.attacks": given})
    specs = lambda name: programs.attacked(config, name)["evaluation"]["attacks"]
    assert specs("apgd") == {"apgd": {"name": "apgd", "norm": "l2", "bounds": (0.0, 1.0)}}
    assert specs("fgsm") == {"fgsm": first}


@pytest.mark.slow
def test_an_unknown_attack_is_refused_with_the_nearest(digits):
    with pytest.raises(UserError, match="attacks.pdg.name must be .* did you mean 'pgd'"):
        programs.compile_config(short_run.document(), tpu(jax.devices()), attacks=["pdg"])


def test_an_unknown_attack_is_refused_before_the_topology(monkeypatch):
    flag = lambda value: SimpleNamespace(value=value)
    monkeypatch.setattr(command, "CONFIG", flag(ConfigDict(short_run.document())))
    monkeypatch.setattr(command, "_OUT", flag(None))
    monkeypatch.setattr(command, "_ATTACK", flag(["fgsm", "pdg"]))
    monkeypatch.setattr(command, "target", None)
    with pytest.raises(UserError, match="attacks.pdg.name must be .* did you mean 'pgd'"):
        command.main([])


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ("folder/" + 255 * "x", "cannot be written: File name too long"),
        ("folder", "must be a file, got a folder"),
    ],
)
def test_a_wrong_out_is_refused_before_anything_is_compiled(out, reason, tmp_path, monkeypatch):
    path = tmp_path / out
    (tmp_path / "folder").mkdir()
    flag = lambda value: SimpleNamespace(value=value)
    monkeypatch.setattr(command, "CONFIG", flag(ConfigDict(short_run.document())))
    monkeypatch.setattr(command, "_OUT", flag(str(path)))
    monkeypatch.setattr(command, "_ATTACK", flag([]))
    monkeypatch.setattr(command, "compile_config", None)
    with pytest.raises(UserError, match=f"{path} {reason}"):
        command.main([])
    assert [file.name for file in tmp_path.rglob("*")] == ["folder"]


@pytest.mark.slow
def test_each_function_is_named_before_it_is_compiled(digits, monkeypatch, capsys):
    def compiled(lowered, target):
        printed.append(capsys.readouterr().out)
        return programs.Compiled(0, 0, 0, 0, 0.0, {}, 0, 0.0, 0.0)

    printed = []
    monkeypatch.setattr(programs, "compiled", compiled)
    found = programs.compile_config(short_run.document(), tpu(jax.devices()))
    names = ("init", "epoch", "monitor", "evaluate")
    assert printed == [f"compiling {name} for v5e:2x2\n" for name in names]
    command.print_report(found)
    assert "10 steps an epoch" in capsys.readouterr().out  # 400 rows in batches of 40


def test_the_bytes_of_a_collective_are_those_of_its_shapes():
    assert _bytes("(f32[784,500]{1,0:T(8,128)}, bf16[3]{0}, f32[])") == 784 * 500 * 4 + 3 * 2 + 4


def test_a_collective_counts_once_by_its_kind_and_its_uses_do_not():
    text = """
      %all-reduce.1 = (f32[3]{0}, f32[]) all-reduce(%dot, %sum), replica_groups={{0,1}}
      %start = f32[2,5]{1,0} all-gather-start(%all-reduce.1), dimensions={0}
      %done = f32[2,5]{1,0} all-gather-done(%start)
      %all-reduce.2 = bf16[4]{0} all-reduce(%x), replica_groups={{0,1}}
    """
    counts = {"all-reduce": 2, "all-gather": 1}
    assert collectives(text) == (counts, 4 * (3 + 1) + 4 * 10 + 2 * 4)


@needs_libtpu
@pytest.mark.slow
def test_a_signal_ends_the_process_without_the_stack_trace_of_libtpu():
    program = (
        "import os, signal; from launch.compiling import tpus; tpus.devices('v5e:2x2'); "
        "os.kill(os.getpid(), signal.SIGTERM)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")


@needs_libtpu
@pytest.mark.slow
def test_shards_reduce_once_a_step_and_replicas_never(tmp_path):
    quick = ("--config=huang_mlp_mnist:quick", "--config.evaluation.attacks={}")
    more = ("--topology=v5e:2x4", "--config.replicas.seeds=2", "--config.replicas.shards=4")
    shared = compiled(tmp_path, *quick, *more)
    assert (shared["chips"], shared["functions"]["epoch"]["collectives"]) == (8, {"all-reduce": 1})
    # Gradients of 784-500-500-10, and loss and error: 4 bytes each.
    weights = 785 * 500 + 501 * 500 + 501 * 10
    assert shared["functions"]["epoch"]["communicated"] == 4 * (weights + 2)
    alone = compiled(tmp_path, *quick, "--topology=v5e:2x2", "--config.replicas.seeds=4")
    assert alone["chips"] == 4
    assert not any(fn["collectives"] for fn in alone["functions"].values())
    # 100 rows through 784-500-500-10: the attack needs the values and the gradient by the inputs of
    # each layer; the update values, the gradient by the weights, and by the inputs of two layers.
    first, *others = 784 * 500, 500 * 500, 500 * 10
    assert alone["step"]["count"] == pytest.approx(2 * 100 * (4 * first + 5 * sum(others)))
    assert shared["step"]["count"] == pytest.approx(alone["step"]["count"] / 4, rel=0.01)


@needs_libtpu
def test_no_case_is_compiled_that_a_run_refuses():
    with pytest.raises(UserError, match=r"replicas.shards must be 1 .* batch normalization"):
        compile_case(Case("resnet_cifar10:quick", 4, 1, 4))


# Exhaustive, as it takes many minutes and libtpu, which is not in the extra `test`: CI skips it.
@needs_libtpu
@pytest.mark.exhaustive
@pytest.mark.parametrize("config", catalog.names())
def test_the_epoch_of_every_config_compiles_for_four_chips(config):
    document = compile_case(Case(f"{config}:quick"))
    assert document["same_program"] == [4, 16, 64, 256]
    assert document["epoch"]["collectives"] == {}
    assert 0 < memory(document["epoch"]) < tpus.CHIPS["v5e"].memory
