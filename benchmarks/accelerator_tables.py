"""Tables of a report of `benchmarks.accelerator`."""

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.accelerator_stages import SEEDS, STAGES, Work
from benchmarks.tables import Goal, Table, goals, shown, three_digits
from benchmarks.tasks import TASKS
from benchmarks.timing import OURS

# Largest difference between the sides: of an accuracy, absolute, or that of three images; of the
# last loss of a timed block, relative. Random draws differ, and rounding grows over the steps.
ACCURACY_APART, IMAGES_APART = 0.02, 3
LOSS_APART = 0.1

Found = Mapping[str, Any]  # of a stage


def tables(report: Found) -> list[Table]:
    """Returns the tables of the checks, of what is timed beside PyTorch, of the seeds and goals."""
    done = {name: found for name, found in report["stages"].items() if name in STAGES}
    beside = [found for found in done.values() if "forms" in found]
    at_once = [found for found in done.values() if "at_once" in found]
    tables = [_checks(report, done["checks"])] if "checks" in done else []
    if beside:
        tables.append(_beside(beside))
    if at_once:
        tables.append(_at_once(at_once))
    met = list(_goals(done))
    return [*tables, goals(met)] if report["machine"]["platform"] == "gpu" and met else tables


def apart(work: Work, ours: Found, theirs: Found) -> str | None:
    """Returns in words how far a form's loss or accuracy is from ours, beyond the tolerance."""
    if "loss" in ours:
        tolerance = LOSS_APART * abs(ours["loss"])
        near = abs(theirs["loss"] - ours["loss"]) <= tolerance
        return None if near else f"loss {theirs['loss']:.4g}, ours {ours['loss']:.4g}"
    tolerance = max(ACCURACY_APART, IMAGES_APART / work.rows)
    near = abs(theirs["accuracy"] - ours["accuracy"]) <= tolerance
    return None if near else f"accuracy {theirs['accuracy']:.1%}, ours {ours['accuracy']:.1%}"


def comparable(found: Found) -> dict[str, Found]:
    """Returns the timed forms of PyTorch that compute what we do."""
    work, ours = Work(**found["work"]), found[OURS]
    return {
        form: facts for form, facts in found["forms"].items() if apart(work, ours, facts) is None
    }


def _beside(stages: list[Found]) -> Table:
    columns = ("work", "side", "result", "ms", "PyTorch / adv_jax", "compiled, s", "first call, s")
    rows = []
    for found in stages:
        title, ours, forms = Work(**found["work"]).title, found[OURS], found["forms"]
        our_ms = [ms for facts in forms.values() for ms in facts["ms"][OURS]["rounds"]]
        ms = three_digits(statistics.median(our_ms)) if our_ms else ""
        rows.append([title, OURS, _result(ours), ms, "", *_seconds(ours)])
        for form, facts in forms.items():
            fault = apart(Work(**found["work"]), ours, facts)
            result = f"differs: {fault}" if fault else _result(facts)
            ms = three_digits(facts["ms"][form]["median"])
            ratio = shown(facts["times_as_fast"])
            rows.append(["", f"PyTorch, {form}", result, ms, ratio, *_seconds(facts)])
        for form, why in found["left_out"].items():
            rows.append(["", f"PyTorch, {form}", f"left out: {why}", *[""] * 4])
    note = (
        "Milliseconds of a step or of an attack; each form of PyTorch takes turns with adv_jax. "
        "The result is the last loss of the first block, or the share of images that withstand "
        f"the attack; sides differ if losses are more than {LOSS_APART:.0%} apart, or accuracies "
        f"more than {ACCURACY_APART:.0%} and {IMAGES_APART} images. The first call of a compiled "
        "form of PyTorch includes its compiling."
    )
    return Table("Beside PyTorch on the same device", columns, rows, words=3, note=note)


def _result(facts: Found) -> str:
    return f"loss {facts['loss']:.4g}" if "loss" in facts else f"{facts['accuracy']:.1%}"


def _seconds(facts: Found) -> list[str]:
    return [f"{facts['compile_seconds']:.1f}", f"{facts['first_seconds']:.2f}"]


def _at_once(stages: list[Found]) -> Table:
    columns = ("task", f"{SEEDS} seeds, ms", "1 seed, ms", "times as fast", "compiled, s")
    rows = []
    for found in stages:
        sides = (found["at_once"], found["alone"])
        ms = [three_digits(side["ms"]["median"]) for side in sides]
        compiled = " and ".join(f"{side['compile_seconds']:.1f}" for side in sides)
        title = TASKS[found["work"]["task"]].title
        rows.append([title, *ms, shown(found["times_as_fast"]), compiled])
    return Table(f"A step of {SEEDS} seeds in one program, and of one", columns, rows)


def _goals(done: Mapping[str, Found]) -> Iterator[Goal]:
    """Yields the goals of the stages beside the fastest comparable form, and of the seeds."""
    for name, found in done.items():
        goal = STAGES[name].goal
        if goal and "at_once" in found:
            title = f"{SEEDS} seeds, {Work(**found['work']).title}"
            ratio = "one after another / at once"
            yield Goal(title, ratio, found["times_as_fast"], goal, at_least=True)
        elif goal and (forms := comparable(found)):
            best = min(forms, key=lambda form: forms[form]["ms"][form]["median"])
            beside = ", ".join(forms) if len(forms) < len(STAGES[name].forms) else ""
            times = forms[best]["times_as_fast"]
            title = Work(**found["work"]).title
            yield Goal(title, f"{best} / {OURS}", times, goal, at_least=True, beside=beside)


def _checks(report: Found, found: Found) -> Table:
    rows = [
        [f"accuracy under {name}", f"{both['device']:.1%}", f"{both['cpu']:.1%}"]
        for name, both in found["attacks"].items()
    ]
    rows += [
        [f"loss after {len(both['cpu'])} steps, {TASKS[name].title}"]
        + [f"{both[side][-1]:.6g}" for side in ("device", "cpu")]
        for name, both in found["trainings"].items()
    ]
    largest = max(both["replicas"] for both in found["trainings"].values())
    note = f"Vmapped replicas and single runs differ by at most {largest:.1e}."
    return Table(f"{report['machine']['device']} and CPU", ("", "device", "CPU"), rows, note=note)
