"""The benchmarks count what a step needs, and the page shows what the files hold.

Timings themselves are no test.
"""

import json
import re
import subprocess
import sys

import jax
import pytest
from marks import exhaustive_after

from adv_jax import attacks
from adv_jax.types import UserError
from benchmarks import backprop, hosts_worker, pages, robustness, tables, training
from benchmarks.tasks import TASKS
from benchmarks.timing import arguments, versions
from benchmarks.trainer import Trainer

# Of one row: the products of 784-400-400-10, of LeNet and its first layer, of a GAN's nets, and of
# 784-1000-500-250-250-250-10.
MLP = 784 * 400 + 400 * 400 + 400 * 10
FIRST, LENET = 24**2 * 25 * 20, 24**2 * 25 * 20 + 8**2 * 500 * 50 + 800 * 400 + 400 * 10
GENERATOR, DISCRIMINATOR = 100 * 256 + 256 * 512 + 512 * 784, 784 * 512 + 512 * 256 + 256
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
        # The generator's pass, those of both kinds of images, and one back to the generated ones.
        (
            "gan",
            100 * (3 * GENERATOR - 100 * 256)
            + 200 * (3 * DISCRIMINATOR - 784 * 512)
            + 100 * DISCRIMINATOR,
        ),
        ("ladder_sgn", 100 * (3 * (3 * LADDER - 784 * 1000) + 5 * LADDER)),
    ],
)
def test_a_step_has_as_many_operations_as_its_products(task, multiplications):
    assert TASKS[task].flops == 2 * multiplications


def test_the_operations_of_every_task_can_be_counted():
    assert all(task.flops > 0 for task in TASKS.values())


@pytest.mark.parametrize("task", exhaustive_after(1, sorted(TASKS, key="gan".__ne__)))
def test_the_step_of_a_task_takes_its_images(task):
    trainer = Trainer(TASKS[task])
    state = jax.eval_shape(trainer.init, 0)
    _, metrics = jax.eval_shape(trainer.step, state, trainer.rows(seed=0)[0], trainer.arrays)
    assert metrics["loss"].shape == ()


def training_report(seconds):
    """The report of blocks of ten ladder steps, which take these seconds in each round."""
    return {
        "benchmark": "training",
        "date": "2026-01-31",
        "machine": {"cpu": "Abacus", "cpus": 3, "python": "3.11.0"},
        "versions": {"jax": "0.10.2"},
        "rounds": 3,
        "workers": {side: {"threads": 2} for side in seconds},
        "peak": {"gflops": 100.0, "sides": {side: [50.0, 100.0] for side in seconds}},
        "tasks": {"ladder": training._summary("ladder", seconds, 100.0)},
    }


def page_of(folder, report):
    (folder / "mine.json").write_text(json.dumps(report))
    return pages.page(folder)


def test_the_readme_has_a_row_for_each_measured_attack_that_is_still_one():
    readme = pages.README.read_text("utf-8")
    table = readme.partition(pages.ATTACKS)[2].partition("Measure robust accuracy")[0]
    found = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    assert found == set(json.loads(robustness.OUT.read_text())["attacks"])
    gone = sorted(found - robustness.measured_attacks().keys())
    assert not gone, f"measure anew, python -m benchmarks.robustness: no attacks are {gone}"


@pytest.mark.slow
def test_the_norms_of_an_attack_are_those_that_it_accepts():
    norms = robustness.norms_of
    assert norms(attacks.pgd) == ["linf", "l2", "l1", "l0"]
    assert norms(attacks.fgsm) == ["linf", "l2", "l1"]
    assert norms(attacks.auto_attack) == ["linf", "l2"]
    assert norms(attacks.carlini_wagner) == ["l2"]
    assert norms(attacks.jsma) == ["l0"]


def test_every_result_file_has_its_section_and_the_guide_the_same_headings():
    page = pages.PAGE.read_text("utf-8")
    guide = (pages.ROOT / "benchmarks" / "README.md").read_text("utf-8")
    files = sorted(path.stem for path in pages.RESULTS.glob("*.json"))
    linked = re.findall(r"\[([\w.]+)\.json\]\(results/\1\.json\)", page)
    sections = re.findall(r"^### .+|^<details><summary>.+", page, re.MULTILINE)
    assert sorted(linked) == files and len(sections) == len(files)
    for heading in re.findall("^## (.+)$", page, re.MULTILINE):
        assert f"\n## {heading}\n" in guide


def test_the_guide_has_no_measured_number():
    guide = (pages.ROOT / "benchmarks" / "README.md").read_text("utf-8")
    assert re.findall(r"[\d.]+ (?:ms|s|GFLOP/s|MFLOP|MiB|/ s|hours)\b", guide) == []


def test_a_ratio_on_the_page_is_that_of_the_rounds(tmp_path):
    ours, theirs = [0.02, 0.03, 0.05], [0.04, 0.05, 0.04]
    page = page_of(tmp_path, training_report({"adv_jax": ours, "torch": theirs}))
    # Blocks of ten steps: medians 3 and 4 ms. Ratios .5, .6 and 1.25. 3,217.2 MFLOP take 32.2 ms
    # at 100 GFLOP/s, which is more than the 3 ms here.
    assert "| 3,217 | 3.00 | 4.00 | 0.60 (0.50-1.25) | 0.32 | no | 32.2 | 1072% |" in page
    facts = "Abacus, 2 threads, 3 rounds. Python 3.11.0, jax 0.10.2. [mine.json](results/mine.json)"
    assert f"### Abacus, 3 CPUs, 2026-01-31\n\n{facts}\n" in page


def test_the_newest_report_comes_first_and_an_older_one_of_the_same_steps_is_folded(tmp_path):
    sides = {"adv_jax": [0.02], "torch": [0.04]}
    reports = {"a": training_report(sides), "b": training_report(sides) | {"date": "2026-02-01"}}
    reports["c"] = training_report(sides) | {"date": "2025-01-01"}
    reports["c"]["tasks"] = {"mlp_10": training._summary("mlp_10", sides, 100.0)}  # another step
    for name, report in reports.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(report))
    found = re.findall(r"^### (.+)|<summary>(.+)</summary>", pages.page(tmp_path), re.MULTILINE)
    machine = "Abacus, 3 CPUs"
    assert found == [
        (f"{machine}, 2026-02-01: FC ladder, 100 + 100", ""),
        ("", f"{machine}, 2026-01-31: FC ladder, 100 + 100"),
        (f"{machine}, 2025-01-01: 784-400-400-10, batch 10", ""),
    ]


def test_a_step_beside_one_without_the_attack_has_a_table_of_its_own(tmp_path):
    report = training_report({"adv_jax": [0.02], "torch": [0.01]})
    sides = {"adv_jax": [0.03], training.NO_ATTACK: [0.02]}
    report["tasks"]["ladder_sgn"] = training._summary("ladder_sgn", sides, 100.0)
    page = page_of(tmp_path, report)
    assert "| adv_jax, ms | no attack, ms | adv_jax / no attack | goal, at most | met |" in page
    assert "| 3.00 | 2.00 | 1.50 (1.50-1.50) | 1.5 | yes |" in page


def test_the_page_of_backprop_has_its_goals_and_the_cost_of_the_attack(tmp_path):
    report = training_report({"adv_jax": [0.02], "torch": [0.01]}) | {"benchmark": "backprop"}
    plain = {"adv_jax": [0.1, 0.1], "torch": [0.5, 0.6]}  # five hundred steps
    adversarial = {"adv_jax": [0.1, 0.2], "torch": [0.3, 0.3]}  # half as many
    tasks = {"backprop": plain, "adversarial": adversarial}
    tasks = {name: training._summary(name, seconds, 100.0) for name, seconds in tasks.items()}
    report |= {
        "tasks": tasks,
        "times_as_fast": {name: backprop._times_as_fast(task) for name, task in tasks.items()},
        "adversarial_over_plain": backprop._over_plain(tasks),
        "goals": {
            "times_as_fast": {"backprop": 4, "adversarial": 3},
            "adversarial_over_plain": 1.7,
        },
    }
    page = page_of(tmp_path, report)
    assert "batch 10 | torch / adv_jax | 5.50 (5.00-6.00) | at least 4 | yes |" in page
    assert "back-propagation | torch / adv_jax | 2.25 (1.50-3.00) | at least 3 | no |" in page
    assert "|  | adversarial / plain, adv_jax | 3.00 (2.00-4.00) | at most 1.7 | no |" in page
    assert "|  | adversarial / plain, torch | 1.10 (1.00-1.20) |  |  |" in page


@pytest.mark.parametrize(
    ("unlocked", "noted"), [([0.015], True), ([0.03], False)], ids=["missed", "met"]
)
def test_a_goal_that_is_missed_beside_the_fair_peer_says_so(tmp_path, unlocked, noted):
    report = training_report({"adv_jax": [0.01], "torch": [0.03], "torch unlocked": unlocked})
    seconds = {"adv_jax": [0.01], "torch": [0.03], "torch unlocked": unlocked}
    report["tasks"] = {"gan": training._summary("gan", seconds, 100.0)}
    page = page_of(tmp_path, report)
    assert "| adv_jax / torch | adv_jax / torch unlocked | goal, at most | met |" in page
    assert f"| 0.5 / 0.5 | yes / {'no' if noted else 'yes'} |" in page
    assert (tables.UNFAIR in page) == noted


def test_an_attack_is_beside_each_peer_as_installed_and_unlocked(tmp_path):
    def times(median):
        return {"median": median, "min": 1.0, "max": 4.0, "target": 2.0}

    work = {
        "title": "FGSM",
        "net": "mlp",
        "sides": {
            "adv_jax": {
                "rows": 1000,
                "digits_per_second": {"median": 12345.6},
                "share_of_peak": 0.9,
            },
            **{side: {"rows": 50} for side in ("foolbox", "foolbox unlocked", "ten calls")},
        },
        "adv_jax_times_as_fast": {
            "foolbox": times(3.0),
            "foolbox unlocked": times(1.5),
            "ten calls": times(2.0),
        },
    }
    report = training_report({"adv_jax": [0.02], "torch": [0.01]}) | {
        "benchmark": "attacks",
        "workers": {"torch": {"threads": 2, "tuned": True}},
        "works": {"fgsm": work},
        "prepared": {"fgsm": {"adv_jax": {"layout": "2 x 500"}}},
        "jsma_bytes": 3 * 2**20,
    }
    page = page_of(tmp_path, report)
    first = "| FGSM, mlp, 1,000 digits | foolbox, 50 digits | 12,346 | 90% | 2 x 500 "
    assert first + "| 3.00 (1.00-4.00) | 1.50 (1.00-4.00) | 2.00 | yes / no |" in page
    assert "|  | ten calls, 50 digits |  |  |  | 2.00 (1.00-4.00) |  | 2.00 | yes |" in page
    assert "JSMA's program needs 3 MiB." in page


@pytest.mark.slow
def test_shards_reduce_their_gradients_once_a_step_and_replicas_never():
    def compiled(pattern):
        config = hosts_worker.config(pattern, devices=2)
        config["model"]["features"] = (8,)
        return hosts_worker.Training(config)

    alone, shared = compiled("seeds"), compiled("shards")
    assert (alone.collectives, alone.communicated) == ({}, 0)
    assert shared.collectives == {"all-reduce": 1}
    # Gradients of 784-8-10, and loss and error: 4 bytes each.
    assert shared.communicated == 4 * (785 * 8 + 9 * 10 + 2)
    assert alone.steps == 2 * shared.steps == 2 * (3500 // 160)


def test_the_memory_of_a_process_grows_by_the_largest_growth_of_the_processes(tmp_path):
    def speed(**collectives):
        median = {"median": 3.0, "min": 2.0, "max": 4.0}
        found = {"steps_per_second": median, "over_the_first": median}
        return found | {"collectives": collectives, "communicated": 2_544_048}

    mib = 2**20
    report = training_report({"adv_jax": [0.02]}) | {
        "benchmark": "hosts",
        "threads": 2,
        "peaks": {
            "1": {"4": [500 * mib], "64": [900 * mib]},
            "2": {"4": [490 * mib, 400 * mib], "64": [500 * mib, 510 * mib]},
        },
        "devices": {"8": {"seeds": speed(), "shards": speed(**{"all-reduce": 1})}},
    }
    page = page_of(tmp_path, report)
    assert "| 1 | 500 | 900 | 400 | 1.00 |" in page
    assert "| 2 | 490 | 510 | 110 | 0.28 |" in page
    assert "| 8 | 3.00 | 3.00 (2.00-4.00) | none | 2.54 |" in page
    assert "| 8 | 3.00 | 3.00 (2.00-4.00) | 1 all-reduce | 2.54 |" in page


def test_a_file_of_an_unknown_benchmark_is_refused(tmp_path):
    report = training_report({"adv_jax": [0.02], "torch": [0.01]}) | {"benchmark": "trainign"}
    with pytest.raises(UserError, match=r"benchmark of mine.json must be one of acc.*, got"):
        page_of(tmp_path, report)


def test_a_missing_peer_is_named_in_one_line():
    with pytest.raises(SystemExit, match="^error: needs the package no-such-peer; .*extras$"):
        versions("jax", "no-such-peer")


@pytest.mark.exhaustive
def test_each_process_and_device_of_a_run_is_measured(tmp_path):
    out = tmp_path / "hosts.json"
    command = "benchmarks.hosts --replicas 2 4 --processes 1 2 --devices 1 2 --rounds 1 --out"
    done = subprocess.run(
        [sys.executable, "-m", *command.split(), str(out)], cwd=pages.ROOT, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    peaks = report["peaks"]
    counts = [[len(peaks[p][r]) for r in ("2", "4")] for p in ("1", "2")]
    assert counts == [[1, 1], [2, 2]]
    # JAX alone takes more than 100 MiB.
    assert all(
        peak > 100 * 2**20 for found in peaks.values() for own in found.values() for peak in own
    )
    assert report["devices"]["2"]["shards"]["collectives"] == {"all-reduce": 1}
    assert report["devices"]["2"]["seeds"]["steps_per_second"]["median"] > 0


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--threads=0", "--threads: must be a whole number of at least 1, got '0'"),
        ("--rounds=-1", "--rounds: must be a whole number of at least 1, got '-1'"),
        ("--out=/dev/null/x.json", "--out: /dev/null must be a folder, got a file"),
    ],
)
def test_arguments_that_no_benchmark_can_use_are_refused_before_it_measures(flag, says, capsys):
    with pytest.raises(SystemExit):
        arguments("memory", None, rounds=3).parse_args([flag])
    assert says in capsys.readouterr().err
