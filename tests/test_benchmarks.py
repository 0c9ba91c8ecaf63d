"""What the benchmarks count is what a step needs; timings themselves are no test."""

import pytest

from benchmarks.tasks import TASKS

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
