"""The table of single runs, and the pages that show them."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from papers.judging import numbers
from papers.pages import chapters, printed, summary
from papers.running import single_runs, stored

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "papers"


@pytest.fixture(scope="module")
def documents(by_work):
    """Of all papers."""
    return [document for one in by_work.values() for document in one.of_runs]


@pytest.fixture(scope="module")
def rows(documents):
    """Label -> row, of all documents."""
    return {row["label"]: row for one in documents for row in one["rows"]}


def errors(*names):
    replicas = [
        json.loads(path.read_text())["replicas"]
        for n in names
        for path in RESULTS.glob(f"*/results/runs/{n}.json")
    ]
    return {r["seed"]: 100 * r["test_error"] for of_run in replicas for r in of_run}


def test_the_table_names_numbers_of_the_papers_and_files_that_are_there(found):
    targets = found.targets.values()
    for paper in numbers.load().values():
        results, table = f"{paper.name}/results", paper.single_runs
        for spec in table.get("documents", ()):
            for row in spec["rows"]:
                assert "id" not in row or row["id"] in paper.entries
                if "target" in row:
                    (stored,) = [one for one in targets if one["target"] == row["target"]]
                    assert row["row"] in {one["label"] for one in stored["rows"]}
                else:
                    assert all(f"{results}/runs/{run}.json" in found.files for run in row["runs"])
            for claim in spec.get("claims", ()):
                assert "id" not in claim or paper.entries[claim["id"]]["kind"] == "claim"
        for name, place in table.get("one_seed", {}).items():
            assert name in paper.entries and f"{results}/{place['file']}" in found.files
            assert single_runs.one_seed(paper, name, found.files) is not None, name


def test_the_seeds_of_several_files_make_one_row(rows):
    ours = errors("ladder_mnist_100_none", "ladder_mnist_100_none_seed3")
    row = rows["Table 20: 100 labels, no adversarial noise"]
    assert row["values"] == pytest.approx({str(seed): error for seed, error in ours.items()})
    assert (row["paper"], row["paper_sd"], row["paper_n"]) == (1.108, 0.3967, 10)
    printed = list(numbers.entry("maronas2016.table20.row1")["per_seed"].values())
    test = stats.ttest_ind(list(ours.values()), printed, equal_var=False)
    assert row["interval"] == pytest.approx(test.confidence_interval(0.95), abs=2e-3)
    # Three seeds that agree predict the mean of ten more closely than it was printed.
    assert row["verdict"] == "unclear"


def test_further_seeds_of_a_targets_training_join_its_row_and_a_rerun_does_not(found, by_work):
    """Table 5, without noise: seed 1 has 1.23 % in the target, seeds 2 and 3 were run alone."""
    line = line_of("maronas2016", "maronas2016.table5.row1.col2", by_work)
    ours = {"1": 1.23} | errors("ladder_mnist_table5_none_seed2", "ladder_mnist_table5_none_seed3")
    assert {int(seed) for seed in line.row["values"]} == {1, 2, 3}
    assert sorted(line.row["values"].values()) == pytest.approx(sorted(ours.values()))
    assert (line.row["n"], line.verdict.word) == (3, "unclear")
    target = found.files["maronas2016/results/table5.json"]
    label = target["rows"][1]["label"]
    again = {"replicas": [{"seed": s, "test_error": 0.5, "epochs": 150} for s in (1, 7)]}
    row = {"label": "", "target": "maronas2016.table5", "row": label, "runs": ["again"]}
    spec = {"title": "", "budget": "paper", "paper_epochs": 150, "rows": [row]}
    paper = numbers.load()["maronas2016"]._replace(single_runs={"documents": [spec]})
    runs, targets = {Path("again.json"): again | {"data": {}}}, {"maronas2016.table5": target}
    (document,) = single_runs.documents(paper, runs, targets)
    assert document["rows"][0]["values"] == {"1": 1.23, "7": 50.0}


def test_a_number_by_which_we_chose_a_setting_is_shown_and_not_counted(by_work):
    """Table 7, 28N .25: the pass of the gradient was chosen by it."""
    paper = numbers.load()["maronas2016"]
    chapter = by_work[paper.name]
    (line,) = [one for one in chapter.lines if one.key == "maronas2016.table7.row3.col1"]
    assert (line.ours, line.verdict.word) == ("1.47 % (n = 1)", "")
    assert line.verdict.extent == "without a test"
    (grid,) = [one for one in printed.grids(paper, chapter.lines) if line in one.lines]
    assert "gray" in printed.table(grid).partition("1.47")[0].rpartition("|")[2]
    assert f"T 0.09, n 1; {line.verdict.why}" in printed.details(grid)
    assert "Shorter" not in printed.caption(grid.lines)
    assert line.verdict.why == "no evidence, as we chose the pass of the gradient by this number"
    assert line.key not in {one.key for one in summary.judged_numbers(chapter)}


def test_a_claim_of_cifar_10_compares_narrow_nets_and_names_them(by_work):
    chapter = by_work["huang2015"]
    lines = [line for line in chapter.claims if line.key == "huang2015.table3.claim"]
    assert {line.verdict.extent for line in lines} == {"quick"} and len(lines) == 4
    by_text = {line.label: line.ours for line in lines}
    words = "accuracy, Normal: 9.03 % against LWA: 19 %"  # errors of .9097 and .8104
    assert by_text["on CIFAR-10 LWA is more accurate than Normal under Adv_Loss"] == words
    assert all("8 and 16 maps" in line.where and "r of .1 for LWA" in line.where for line in lines)


def test_a_claim_is_tested_on_the_seeds_that_both_runs_have(documents):
    a, b = (errors(f"shallow_mnist_{model}") for model in "AB")
    claims = [c for one in documents for c in one["claims"]]
    (claim,) = [c for c in claims if "800 units" in c["text"]]
    test = stats.ttest_rel(list(a.values()), list(b.values()))
    assert claim["p"] == pytest.approx(test.pvalue, rel=1e-3)
    assert claim["difference"] == pytest.approx(np.mean(list(a.values())) - 1.3075)
    assert claim["verdict"] == "reproduced"


def test_an_error_under_attack_is_read_at_its_eps(found):
    clean = {"label": "clean", "runs": ["ladder_mnist_100_none_seed3"]}
    attacked = {**clean, "label": "FGSM .25", "attack": "fgsm", "eps": 0.25}
    attacked["id"] = "maronas2016.claim.fgsm_tau025"
    spec = {"title": "", "budget": "paper", "paper_epochs": 150, "rows": [clean, attacked]}
    paper = numbers.load()["maronas2016"]._replace(single_runs={"documents": [spec]})
    (document,) = single_runs.documents(paper, found.runs)
    of_clean, of_attacked = document["rows"]
    assert of_clean["values"] == pytest.approx({"3": 1.04})
    assert of_attacked["values"] == pytest.approx({"3": 47.42})
    assert of_attacked["paper"] == 6.87


def test_a_row_reads_its_point_of_a_grid():
    """Two sizes of noise, each with two seeds, in one run."""
    errors = {(seed, eps): seed / 100 + eps for eps in (0.25, 0.5) for seed in (1, 2)}
    path = "objective.attack.eps"
    replicas = [
        {"seed": seed, "overrides": {path: eps}, "test_error": error, "epochs": 150}
        for (seed, eps), error in errors.items()
    ]
    row = {"label": "eps .5", "runs": ["grid"], "at": {path: 0.5}}
    spec = {"title": "", "budget": "paper", "paper_epochs": 150, "rows": [row]}
    paper = numbers.load()["maronas2016"]._replace(single_runs={"documents": [spec]})
    run = {"replicas": replicas, "data": {}}
    (document,) = single_runs.documents(paper, {Path("grid.json"): run})
    assert document["rows"][0]["values"] == pytest.approx({"1": 51, "2": 52})
    assert document["trainings"]["eps .5"]["epochs"] == [150, 150]


def test_the_errors_of_maronas_sec_5_4_are_of_one_net():
    places = numbers.load()["maronas2016"].single_runs["one_seed"]
    names = ("fgsm_tau025", "gauss_sign_tau025", "clean_reference", "not_robust")
    (file,) = {places[f"maronas2016.claim.{name}"]["file"] for name in names}
    net = json.loads((RESULTS / "maronas2016/results" / file).read_text())["runs"]
    assert [run["seed"] for run in net] == [1] and "attack" not in net[0]["objective"]


def test_a_folder_without_results_gives_no_verdicts(found):
    paper = numbers.load()["maronas2016"]
    assert list(single_runs.documents(paper, {})) == []
    empty = chapters.of_all(stored.Results({}, {}, {}))[paper.name]
    assert {line.verdict.word for line in empty.claims} == {"not run", ""}


def test_a_number_without_a_test_is_not_judged(by_work):
    lines = by_work["nokland2015"].lines
    (line,) = [line for line in lines if line.label.startswith("2x1200 relu, adversarial")]
    stored = json.loads((RESULTS / "nokland2015/results/figures/table2.json").read_text())
    assert line.verdict.word == ""
    assert line.ours == f"{100 * stored['rows'][14]['error']:.4g} %"
    (line,) = [line for line in lines if line.key == "nokland2015.table3.conv.zca.adversarial"]
    assert line.runs.startswith("seed 1; 1 of 300 epochs; the JPEG copy of CIFAR-10; ")


def test_a_claim_names_the_seeds_that_its_rows_share(by_work):
    """The nets of plain back-propagation are attacked with examples of the one of seed 1."""
    claims = by_work["nokland2015"].claims
    (line,) = [line for line in claims if "another net's examples of .50" in line.label]
    assert "over 4 seeds" in line.verdict.why
    assert line.runs.startswith("seeds 2 to 5; ")


def test_a_number_without_a_net_has_no_seeds(by_work):
    """63.43 % in float32 by log-sum-exp; the source prints 47.2 %."""
    lines = by_work["wardefarley2016"].lines
    (line,) = [line for line in lines if line.key.endswith("smoothed_nn_to_nn")]
    assert (line.ours, line.verdict.word) == ("63.43 %", "")
    assert "no net" in line.verdict.why
    assert line.runs == "wardefarley2016/results/figures/table1.1_gradients.json"


def test_a_claim_that_is_a_measured_number_has_its_verdict_in_both_places(by_work):
    chapter = by_work["shallow_thesis"]
    (claim,) = [line for line in chapter.claims if line.key == "shallow_thesis.fig3_6.B.clean"]
    (cell,) = [line for line in chapter.lines if line.key == "shallow_thesis.fig3_6.B.clean"]
    assert claim.verdict == cell.verdict and claim.verdict.word == "reproduced"


def test_no_error_under_attack_is_from_before_the_corrected_loss(found):
    """The loss that 59aeea9 completed; its commit is in the history of a clone."""
    git = ["git", "-C", str(ROOT), "merge-base", "--is-ancestor", "59aeea9"]
    if subprocess.run([*git, "HEAD"], capture_output=True, check=False).returncode:
        pytest.skip("no history")
    for path, run in found.runs.items():
        commit = str(run.get("git")).removesuffix("-dirty")
        attacked = any(eps for curve in run["evaluation"].values() for eps in curve["eps"])
        before = subprocess.run([*git, commit], capture_output=True, check=False).returncode
        assert not (attacked and before), path


def line_of(paper, key, by_work):
    chapter = by_work[paper]
    (line,) = [line for line in (*chapter.claims, *chapter.lines) if line.key == key]
    return line


def test_the_stored_seeds_of_two_targets_answer_a_claim(by_work):
    """Seed 1 has .79 % in Table 5 and .60 % in Table 17: 19 of 10,000, where the paper has 29."""
    line = line_of("maronas2016", "maronas2016.claim.unsup_minus_29", by_work)
    assert line.ours == "error, the ladder: 0.6 % against without unlabeled costs: 0.79 %"
    assert line.runs.startswith("seed 1; 150 epochs")
    assert line.verdict.word == "unclear" and "difference 0.19 points" in line.verdict.why


def test_the_first_seed_of_a_table_of_ten_is_the_cell_of_a_search(found, by_work):
    line = line_of("maronas2016", "maronas2016.table8.row1.col4", by_work)
    stored = found.files["maronas2016/results/table18.json"]["rows"][0]["values"]["1"]
    assert line.ours == f"{stored} % (n = 1)" and line.paper == "0.49 % (n = 1)"


def test_a_number_that_is_printed_twice_is_measured_once(by_work):
    """Table 10 repeats the mean of Table 18."""
    first, again = (line_of("maronas2016", f"maronas2016.table{n}.row1", by_work) for n in (10, 18))
    assert (again.ours, again.runs) == (first.ours, first.runs) and first.ours
    assert "Table 10" in first.where


def test_a_number_of_a_target_of_another_place_is_shown(by_work):
    """The LeNet of sec. 7.1 is that of Table 2: .9911, .9915 and .9913."""
    line = line_of("huang2015", "huang2015.lenet_fig1.val_accuracy", by_work)
    assert line.ours == "99.13 %" and line.runs.startswith("seeds 1 to 3; 50 epochs; full MNIST")
    line = line_of("huang2015", "huang2015.lenet_fig1.train_accuracy", by_work)
    assert line.ours == "100 %" and line.verdict.word == ""


def test_the_training_error_of_nokland_is_answered_by_five_full_runs(by_work):
    """Of 60,000 digits: 0 with logistic and ReLU units; 22 of 5 x 60,000 with tanh."""
    line = line_of("nokland2015", "nokland2015.fig1.train_zero", by_work)
    assert line.ours == "logistic: 0 %, tanh: 0.007333 %, ReLU: 0 %" and line.paper == "0 %"
    assert line.runs.startswith(
        "seeds 1 to 5; 150 epochs; full MNIST; nokland2015/results/table2.800"
    )
    assert line.verdict.word == ""


def test_a_figure_of_the_first_seed_names_that_seed_alone(by_work):
    """Fig. 3.8 draws the first of three seeds."""
    line = line_of("shallow_thesis", "shallow_thesis.fig3_8.grain", by_work)
    assert line.runs.startswith("seed 1; 20 to 55 of 1500 epochs; ")


@pytest.mark.parametrize("lack", [{"budget": "quick"}, {"trainings": {}}, {"rows": []}])
def test_another_result_of_a_file_answers_nothing_that_it_lacks(found, lack):
    paper, file = numbers.load()["nokland2015"], "nokland2015/results/table2.800.json"
    files = {file: {**found.files[file], **lack}}
    assert single_runs.one_seed(paper, "nokland2015.fig1.train_zero", files) is None


def test_one_seed_is_said_of_one_seed_only(by_work):
    for chapter in by_work.values():
        for line in (*chapter.claims, *chapter.lines):
            if line.verdict.why.startswith("one seed"):
                assert line.runs.startswith("seed "), line.key


def test_a_claim_shows_the_means_of_the_seeds_that_it_pairs():
    rows = [
        {"label": "a", "metric": "error_percent", "values": {"1": 9.0, "2": 1.0, "3": 3.0}},
        {"label": "b", "metric": "error_percent", "values": {"2": 4.0, "3": 8.0}},
    ]
    empty = dict.fromkeys(
        ("paper", "paper_sd", "mean", "sd", "difference", "tolerance", "interval")
    )
    rows = [empty | row for row in rows]
    assert chapters._compared({"rows": ["a", "b"]}, rows) == "error, a: 2 % against b: 6 %"
    rows[1]["values"] = {"4": 5.0}  # no seed is shared
    assert chapters._compared({"rows": ["a", "b"]}, rows) == "error, a: 4.33 % against b: 5 %"
