"""launch.tpu: the page shows what the file holds, and one program serves all sizes."""

import json

import jax
import jax.numpy as jnp

from adv_jax.runner.config import catalog
from adv_jax.runner.config.replicas import replicas
from adv_jax.step import DEVICES
from launch.compiling.tpu_cases import Case, cases, config_of
from launch.compiling.tpu_page import RESULT
from launch.tpu import of_one_chip


def lowered(fn, chips: int) -> str:
    mapped = jax.pmap(fn, axis_name=DEVICES, devices=jax.devices()[:chips])
    return mapped.lower(jax.ShapeDtypeStruct((chips, 3, 2), "float32")).as_text()


def test_the_result_file_names_no_folder_of_a_machine():
    text = RESULT.read_text("utf-8")
    assert not any(root in text for root in ("/tmp", "/work", "/home", "/root"))


def test_every_config_has_a_case_of_one_replica_a_chip():
    assert {Case(config).name for config in catalog.names()} <= {case.name for case in cases()}


def test_what_is_stored_stands_under_the_name_of_its_case():
    for name, found in json.loads(RESULT.read_text("utf-8")).items():
        case = Case(*(found[field] for field in ("config", "chips", "replicas", "shards")))
        assert name.startswith(case.name)
        assert ("epoch" in found) != ("needs" in found)


def test_a_case_has_its_replicas_and_fields():
    config = config_of(Case("huang_mlp_mnist:quick", 16, 2, 8, {"batch_size": 64}))
    assert (len(replicas(config)), config["replicas"]["shards"], config["batch_size"]) == (2, 8, 64)


def test_modules_of_two_sizes_are_equal_if_the_chips_do_not_communicate():
    # 3 is an axis of the data, and of the chips.
    alone, other = (lambda x: jnp.sin(x @ x.T)), (lambda x: jnp.cos(x @ x.T))
    together = lambda x: jax.lax.psum(x, DEVICES)
    sizes = {n: of_one_chip(lowered(alone, n), n) for n in (2, 3, 4)}
    assert len({*sizes.values()}) == 1
    assert of_one_chip(lowered(other, 2), 2) != sizes[2]
    assert of_one_chip(lowered(together, 2), 2) != of_one_chip(lowered(together, 4), 4)
