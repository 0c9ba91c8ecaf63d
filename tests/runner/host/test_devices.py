"""Devices: how many a CPU offers, which of them a run uses, and how trees are spread on them."""

import os

import jax
import numpy as np
import pytest

from adv_jax.runner.host.devices import Layout, layout, use_cores


@pytest.fixture
def devices():
    """Returns four devices, which conftest.py requests."""
    if jax.local_device_count() < 4:
        pytest.skip("XLA_FLAGS gives fewer than four devices")
    return jax.local_devices()[:4]


@pytest.mark.parametrize(
    ("replicas", "shards", "used"),
    [
        *[(1, 1, 1), (2, 1, 2), (3, 1, 3), (4, 1, 4), (5, 1, 1), (6, 1, 3), (7, 1, 1), (10, 1, 2)],
        *[(12, 1, 4), (1, 2, 2), (2, 2, 4), (3, 2, 2), (10, 2, 4), (1, 3, 3), (2, 3, 3), (9, 4, 4)],
    ],
)
def test_layout_uses_as_many_of_four_devices_as_divide_the_replicas(
    replicas, shards, used, devices, monkeypatch
):
    monkeypatch.setattr(jax, "devices", lambda: devices[:4])
    assert layout(replicas, shards=shards) == (devices[:used], shards)


@pytest.mark.parametrize(
    ("programs", "cores", "offered"),
    [
        *[([], 2, 2), ([], 64, 64), ([(1, 1)], 2, 1), ([(2, 1)], 2, 2), ([(3, 1)], 64, 3)],
        *[([(10, 1)], 2, 2), ([(3, 1)], 2, 3), ([(5, 1)], 2, 5), ([(9, 1)], 2, 3)],
        *[([(6, 1)], 4, 6), ([(65, 1)], 64, 65), ([(11, 1)], 2, 2), ([(0, 1)], 2, 1)],
        *[([(1, 3)], 2, 2), ([(3, 2)], 2, 2), ([(1, 2)], 8, 2), ([(5, 2)], 64, 10)],
        *[([(3, 1), (10, 1)], 2, 3), ([(1, 1), (2, 2)], 8, 4)],
    ],
)
def test_use_cores_asks_for_devices_that_share_the_work_evenly(
    programs, cores, offered, monkeypatch
):
    asked = {}
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    monkeypatch.setattr(jax.config, "update", asked.__setitem__)
    use_cores(*programs)
    assert asked == {"jax_num_cpu_devices": offered}


def test_use_cores_keeps_the_number_of_devices_in_xla_flags(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
    monkeypatch.setattr(jax.config, "update", None)
    use_cores((5, 1))


def test_layout_of_more_shards_than_devices_is_refused_in_words():
    here = jax.local_device_count()
    message = f"replicas.shards must be 1 to {here}, the number of devices, got {here + 1}"
    with pytest.raises(ValueError, match=f"^{message}$"):
        layout(2, shards=here + 1)


@pytest.mark.slow
@pytest.mark.parametrize(("replicas", "shards"), [(1, 1), (4, 1), (6, 1), (1, 2), (6, 2), (5, 4)])
def test_gather_is_the_inverse_of_spread(replicas, shards, devices):
    place = layout(replicas, shards=shards)
    tree = {
        "a": np.arange(replicas * 6, dtype=np.float32).reshape(replicas, 2, 3),
        "b": (np.arange(replicas, dtype=np.int32),),
    }
    spread = place.spread(tree)
    groups = len(place.devices) // shards
    each = replicas // groups
    for d in range(len(place.devices)):
        group = d // shards  # Neighbors share a group's replicas.
        np.testing.assert_array_equal(
            spread["b"][0][d], np.arange(group * each, (group + 1) * each)
        )
    back = place.gather(spread)
    assert back["b"][0].dtype == np.int32
    jax.tree.map(np.testing.assert_array_equal, back, tree)


@pytest.mark.parametrize(
    ("shards", "own", "held", "saved"),
    [
        (1, 0, range(6), [range(6), range(6, 12)]),
        (2, 1, range(6, 12), [range(6), range(6, 12)]),
        (4, 1, range(12), [range(12), range(12, 12)]),
    ],
)
def test_replicas_of_two_processes_are_saved_once(devices, monkeypatch, shards, own, held, saved):
    """With four shards both processes have all replicas, and the first one saves them."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: own)
    place = Layout(devices, shards)
    assert (place.held(12), place.saved(12)) == (held, saved)


@pytest.mark.parametrize("shards", [1, 2])
def test_fetch_saved_inverts_place_as_fetch_does(devices, shards):
    place = layout(4, shards=shards)
    tree = {"a": np.arange(24, dtype=np.float32).reshape(4, 2, 3), "b": np.array([0, 1, 0, 1])}
    placed = place.place(tree)
    jax.tree.map(np.testing.assert_array_equal, place.fetch_saved(placed), place.fetch(placed))
    jax.tree.map(np.testing.assert_array_equal, place.fetch_saved(placed), tree)
    assert [leaf.shape for leaf in jax.tree.leaves(place.shapes(placed))] == [(4, 2, 3), (4,)]


def test_copies_put_the_whole_tree_on_every_device_of_the_layout(devices):
    place = Layout(devices[1:3], 1)
    copies = place.copies()({"x": np.arange(6.0, dtype=np.float32).reshape(2, 3)})["x"]
    assert copies.shape == (2, 2, 3)
    assert copies.devices() == set(devices[1:3])
    for copy in copies:
        np.testing.assert_array_equal(copy, np.arange(6.0).reshape(2, 3))
