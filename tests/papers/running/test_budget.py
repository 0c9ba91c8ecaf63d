"""Budgets: the configs that they give, and the shortened epochs and schedules."""

import pytest
from absl import flags
from ml_collections import config_flags

from adv_jax.runner.config import catalog
from adv_jax.runner.config.fields import validate
from adv_jax.runner.config.replicas import replicas
from adv_jax.types import UserError
from papers.running.budget import BUDGETS, changes, config_of, options
from papers.running.target import Run
from papers.running.works import TARGETS

RUNS = {run.key: run for target in TARGETS.values() for run in target.runs}


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
@pytest.mark.parametrize("config", sorted({run.config for run in RUNS.values()}))
def test_every_budget_gives_a_config_that_can_run_and_the_command_gives_the_same(config, budget):
    data = {"data.source": "files", "data.dir": "/some where"}
    for run in [run for run in RUNS.values() if run.config == config][:4]:
        made = config_of(run, budget, data)
        validate(made)
        mode = options(run, budget)
        line = ["main", f"--config={run.config}{':' if mode else ''}{mode}"]
        line += [f"--config.{path}={value}" for path, value in changes(run, budget, data).items()]
        line = catalog.located(line)
        values = flags.FlagValues()
        flag = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=line)
        values(line)
        assert flag.value.to_dict() == made


def test_an_unknown_option_of_a_config_is_reported_in_one_line():
    with pytest.raises(
        UserError, match="configs/huang_mlp_mnist.py: mode must be paper or quick, got 'b'"
    ):
        config_of(Run("huang_mlp_mnist", "fixed=a,b"), BUDGETS["paper"], {})


def test_budgets_shorten_epochs_patience_seeds_and_grids():
    run = Run("ladder_mnist", "table=13")
    by_name = {name: config_of(run, BUDGETS[name], {}) for name in BUDGETS}
    paper, short, quick = by_name["paper"], by_name["short"], by_name["quick"]
    assert [len(replicas(config)) for config in (paper, short, quick)] == [28, 28, 4]
    assert [config["epochs"] for config in (paper, short, quick)] == [150, 30, 20]
    rate = short["optimizer"]["learning_rate"]
    assert (rate["transition_begin"], rate["transition_steps"]) == pytest.approx((20.1, 9.9))
    assert (paper["data"]["source"], quick["data"]["source"]) == ("tfds", "embedded")
    ten = Run("ladder_mnist", "table=20")
    seeds = [
        config_of(ten, BUDGETS[n], {})["replicas"]["seeds"] for n in ("paper", "short", "quick")
    ]
    assert seeds == [10, 3, 2]
    few = [BUDGETS[n].limited(seeds=2, epochs=None) for n in ("paper", "short", "quick")]
    assert [config_of(ten, budget, {})["replicas"]["seeds"] for budget in few] == [2, 2, 2]
    assert config_of(ten, few[0], {})["epochs"] == 150
    assert (
        config_of(ten, BUDGETS["quick"].limited(seeds=5, epochs=None), {})["replicas"]["seeds"] == 2
    )
    shallow = config_of(Run("shallow_mnist", "model=A"), BUDGETS["short"], {})
    assert (shallow["epochs"], shallow["patience"], shallow["replicas"]["seeds"]) == (300, 20, 1)
    assert shallow["optimizer"]["momentum"]["transition_steps"] == 2  # a fifth of 9


def test_only_budgets_below_the_papers_take_fewer_epochs():
    run = Run("ladder_mnist", "table=20")
    for name, epochs, expected in (("short", 10, 10), ("short", 40, 30), ("quick", 5, 5)):
        config = config_of(run, BUDGETS[name].limited(seeds=None, epochs=epochs), {})
        rate = config["optimizer"]["learning_rate"]
        assert config["epochs"] == expected
        assert rate["transition_begin"] == pytest.approx(0.67 * expected)
        assert rate["transition_begin"] + rate["transition_steps"] == pytest.approx(expected)
    with pytest.raises(
        UserError, match="epochs must be unset with the budget paper.*quick or short.*got 10"
    ):
        BUDGETS["paper"].limited(seeds=None, epochs=10)


def test_schedules_are_shortened_as_the_epochs_are():
    run = Run("goodfellow_mnist", "method=plain")
    paper, short = (config_of(run, BUDGETS[name], {})["optimizer"] for name in ("paper", "short"))

    def rate(spec, epoch):
        start, steps, decay = (
            spec["learning_rate"][k] for k in ("init_value", "transition_steps", "decay_rate")
        )
        return start * decay ** (epoch / steps)

    def momentum(spec, epoch):
        return 0.5 + 0.2 * min(1, epoch / spec["momentum"]["transition_steps"])

    for epoch in (0, 7, 40, 99):
        assert rate(short, epoch) == pytest.approx(rate(paper, 5 * epoch))
        # 249 epochs become 50, as they are whole.
        assert momentum(short, epoch) == pytest.approx(momentum(paper, 5 * epoch), rel=1e-3)
    assert rate(short, 99) < 0.4 * rate(short, 0)  # 1.000004^-247,500 is .37
    plateau = config_of(Run("backprop_cifar10", "net=fc"), BUDGETS["short"], {})["optimizer"]
    assert plateau["plateau"]["patience"] == 1  # of 3
