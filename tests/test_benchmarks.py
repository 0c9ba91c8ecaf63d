"""What the benchmarks count is what a step needs; timings themselves are no test."""

import numpy as np
import pytest

from adv_jax import data
from benchmarks.targets import Seconds, few, measured, program
from benchmarks.tasks import TASKS
from papers.budget import BUDGETS
from papers.registry import TARGETS
from papers.trainings import plan

# Of one row: the products of 784-400-400-10, of LeNet and its first layer, and of
# 784-1000-500-250-250-250-10.
MLP = 784 * 400 + 400 * 400 + 400 * 10
FIRST, LENET = 24**2 * 25 * 20, 24**2 * 25 * 20 + 8**2 * 500 * 50 + 800 * 400 + 400 * 10
LADDER = 784 * 1000 + 1000 * 500 + 500 * 250 + 2 * 250 * 250 + 250 * 10


@pytest.mark.parametrize(
    ("task", "multiplications"),
    [
        # Forward, by the weights, and by the inputs but for those of the net.
        ("mlp_10", 10 * (3 * MLP - 784 * 400)),
        ("backprop", 10 * (3 * MLP - 784 * 400)),
        # And a pass forward and one back to the input.
        ("adversarial", 10 * (5 * MLP - 784 * 400)),
        ("lenet", 100 * (3 * LENET - FIRST)),
        ("lwa", 100 * (5 * LENET - FIRST)),
        # Three passes of a hundred rows up, and one down, whose input needs its gradient.
        ("ladder", 100 * (3 * (3 * LADDER - 784 * 1000) + 3 * LADDER)),
        ("ladder_sgn", 100 * (3 * (3 * LADDER - 784 * 1000) + 5 * LADDER)),
    ],
)
def test_a_step_has_as_many_operations_as_its_products(task, multiplications):
    assert TASKS[task].flops == 2 * multiplications


def test_the_operations_of_every_task_can_be_counted():
    assert all(task.flops > 0 for task in TASKS.values())


def test_the_hours_of_a_target_are_those_of_its_steps_and_of_the_errors_after_each_epoch():
    # Two trainings of five seeds, 150 epochs of 4,000 / 10 steps; errors on those and 1,000 digits.
    target, data = TARGETS["nokland2015.fig3"], {"data.source": "embedded"}
    keys = {
        program(t.config) for t in plan(target, BUDGETS["paper"], runs="runs", data=data).values()
    }
    assert len(keys) == 2  # by back-propagation and adversarial
    known = {key: Seconds("", step=0.1, image=0.01, has_statistics=False) for key in keys}
    found = measured(target, data, known, cpus=2)
    assert found["epochs"] == 2 * 5 * 150
    turns = 3  # of five seeds on two cores
    assert found["hours"] == pytest.approx(2 * turns * 150 * (400 * 0.1 + 5000 * 0.01) / 3600)


def test_tables_that_differ_in_numbers_have_one_program_and_other_widths_another():
    def programs(name):
        trainings = plan(TARGETS[name], BUDGETS["paper"], runs="runs", data={}).values()
        return {program(t.config) for t in trainings}

    assert (
        len(programs("maronas2016.table17") | programs("maronas2016.table18")) == 2
    )  # without SGN, with
    assert len(programs("shallow_thesis.fig3.2")) == 14


def test_few_images_have_the_labels_of_every_class():
    digits = data.load("mnist", source="embedded")
    order = np.argsort(digits.train.y, kind="stable")  # The first 200 are zeros.
    train = digits.train._replace(x=digits.train.x[order], y=digits.train.y[order])
    cut = few(digits._replace(train=train), 205)
    assert np.bincount(cut.train.y).min() == 20
    assert len(cut.train.x) == len(cut.train.y) == 205
