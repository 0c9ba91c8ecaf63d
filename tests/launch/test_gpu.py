"""launch.gpu: the page shows what the file holds, and programs launch no more than it says."""

import importlib.util
import json

import jax
import jax.numpy as jnp
import pytest

from adv_jax.runner.config.replicas import replicas
from adv_jax.types import UserError
from launch import gpu, tpu
from launch.compiling import gpus, programs
from launch.compiling.gpu_cases import LADDER, PGD, cases, config_of
from launch.compiling.gpu_page import RESULT, kernels_of_step, kernels_of_turn
from launch.compiling.target import TooLarge
from launch.compiling.topologies import target

has_plugin = importlib.util.find_spec("jax_cuda13_plugin") is not None
needs_plugin = pytest.mark.skipif(not has_plugin, reason="needs pip install -e '.[cuda]', 5 GB")
# XLA's heuristics differ between versions; a change of ours that costs launches costs more.
ROOM = 1.1


def stored():
    return json.loads(RESULT.read_text("utf-8"))


def test_the_result_file_names_no_folder_of_a_machine():
    text = RESULT.read_text("utf-8")
    assert not any(root in text for root in ("/tmp", "/work", "/home", "/root"))


def test_what_is_stored_is_a_case():
    assert stored().keys() <= {case.name for case in cases()}


@pytest.mark.parametrize("command", [gpu, tpu])
def test_an_unknown_config_is_refused_and_nothing_is_compiled(command, monkeypatch):
    monkeypatch.setattr(command, "document_of", lambda *_: pytest.fail("a case is compiled"))
    line = "^an argument must be .*, got 'dcgan_mnits'; did you mean 'dcgan_mnist'\\?$"
    with pytest.raises(UserError, match=line):
        command.main(["prog", "dcgan_mnits"])


@pytest.mark.slow
@pytest.mark.parametrize("module", ["launch.gpu", "launch.tpu"])
def test_an_unknown_flag_is_refused_in_one_line(commands, module):
    done = commands.run("--config=3", module=module)
    assert (done.status, done.out) == (1, "")
    assert done.err == "error: Unknown command line flag 'config'\n"


@pytest.mark.slow
def test_every_case_is_a_config_that_a_run_accepts():
    for case in cases():
        assert len(replicas(config_of(case))) == case.fields.get("replicas.seeds", 1)


def test_a_card_has_the_peak_and_the_memory_of_its_data_sheet():
    # TFLOP/s in float32, and GB, as NVIDIA prints them.
    printed = {"h100": (67, 80), "a100": (19.5, 80), "rtx4090": (82.6, 24)}
    for name, (peak, memory) in printed.items():
        card = gpus.CARDS[name]
        assert card.flops / 1e12 == pytest.approx(peak, rel=0.002)
        assert card.memory == memory * 1e9


@pytest.mark.skipif(has_plugin, reason="the plugin is there")
def test_a_missing_plugin_is_named():
    with pytest.raises(UserError, match=r"pip install -e '\.\[cuda\]'"):
        target("h100:1")


def test_a_jax_that_cannot_compile_without_a_gpu_is_refused_in_one_line(monkeypatch):
    def lacking(**_):
        raise RuntimeError("No visible GPU devices.\nAnd a second line")

    monkeypatch.setattr(gpus, "_PLUGIN", "jax")
    monkeypatch.setattr("jax.experimental.topologies.get_topology_desc", lacking)
    with pytest.raises(UserError, match="h100:1 must .* No visible GPU devices.$") as found:
        target("h100:1")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("name", ["XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"])
def test_jax_takes_the_share_of_a_gpu_that_its_variable_names(name, monkeypatch):
    assert gpus._share() == 0.75
    monkeypatch.setenv(name, ".9")
    assert gpus._share() == 0.9
    monkeypatch.setenv(name, "most")
    with pytest.raises(UserError, match=f"{name} must be a number, got 'most'"):
        gpus._share()


def test_a_program_that_is_too_large_for_what_jax_takes_of_a_gpu_says_so():
    chip = gpus.Chip(80e9, 60e9, 3352e9, 67e12)
    gpu = gpus.Target("h100:1", chip, [], lambda lowered: None, ())
    error = programs._does_not_fit("epoch", TooLarge(90e9), gpu, 3, 0, "in {} parts".format)
    taken = "must fit the 60 GB that JAX takes of the 80 GB of one h100, got 90 GB or more"
    assert taken in str(error) and "about 2 of 3 replicas a chip fit" in str(error)


@needs_plugin
def test_several_hosts_have_their_processes_and_each_its_gpus():
    devices = target("h100:4x8").devices
    assert [device.process_index for device in devices] == [i // 8 for i in range(32)]


@needs_plugin
@pytest.mark.slow
def test_a_program_for_eight_gpus_has_its_collective_and_its_launches():
    gpu = target("h100:8")
    mean = jax.pmap(lambda x: jax.lax.pmean(x @ x, "i"), "i", devices=list(gpu.devices))
    lowered = mean.lower(jax.ShapeDtypeStruct((8, 64, 64), jnp.float32))
    found = programs.compiled(lowered, gpu)
    assert found.collectives == {"all-reduce": 1} and found.communicated == 4 * 64 * 64
    assert found.launched["call"]["kinds"]["collective"] == 1
    assert found.launched["call"]["kinds"]["product"] == 1


@needs_plugin
@pytest.mark.slow
def test_a_step_of_a_scan_is_counted_in_each_turn():
    gpu = target("rtx4090:1")
    place = jax.sharding.SingleDeviceSharding(gpu.devices[0])
    x = jax.ShapeDtypeStruct((64, 64), jnp.float32, sharding=place)
    steps = lambda x: jax.lax.scan(lambda c, _: (jnp.sin(c @ x), None), x, length=50)[0]
    found = programs.compiled(jax.jit(steps).lower(x), gpu)
    assert found.launched["turn"]["kinds"]["product"] == 1
    assert found.launched["call"]["kinds"]["product"] == 50
    assert found.kernels == pytest.approx(50 * sum(found.launched["turn"]["kinds"].values()), abs=5)


@needs_plugin
@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "kernels"), [(LADDER, kernels_of_step), (PGD, kernels_of_turn)], ids=["ladder", "pgd"]
)
def test_a_step_launches_no_more_kernels_than_the_page_says(case, kernels):
    config, gpu = config_of(case), target(case.topology)
    found = programs.compile_config(config, gpu, names=["epoch"], attacks=case.attacks)
    assert kernels(found) <= ROOM * kernels(stored()[case.name])
