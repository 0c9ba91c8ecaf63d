"""Results of targets from made-up runs."""

from fabricated import finish

from papers.judging import numbers
from papers.pages import report
from papers.running.budget import BUDGETS
from papers.running.trainings import plan
from papers.running.works import TARGETS


def ladder_error(replica, eps):
    """Returns an error like those of the ladder tables: about .9 %, more under attack."""
    return round(0.009 + 0.0003 * (replica.seed % 3) + 2 * (eps or 0), 4)


def write_results(folder, names=("maronas2016.table26", "shallow_thesis.fig3.4"), budget="paper"):
    for name in names:
        for training in plan(
            TARGETS[name], BUDGETS[budget], runs=folder / "runs", data={}
        ).values():
            finish(training, ladder_error)
        settings = {"runs": folder / "runs", "results": folder / "results", "data": {}}
        report.reproduce(TARGETS[name], BUDGETS[budget], **settings)
    return folder / "results"


def printed(table):
    """Returns {seed: error, a fraction} of a table with ten seeds."""
    per_seed = numbers.entry(f"maronas2016.table{table}.row1")["per_seed"]
    return {int(seed): value / 100 for seed, value in per_seed.items()}


def as_printed(replica, eps, *, table):
    return printed(table)[replica.seed]


def fabricate(name, folder, *, error=None, budget=BUDGETS["paper"], **options):
    """Writes finished runs of a target, by default with the numbers of the paper."""
    for key, training in plan(TARGETS[name], budget, runs=folder, data={}).items():
        table = key.rpartition("=")[2]
        numbers = error or (lambda replica, eps, table=table: as_printed(replica, eps, table=table))
        finish(training, numbers, **options)
