"""The remarks beside a result."""

from functools import partial

import numpy as np

from adv_jax import attacks
from adv_jax.evaluate import Curves
from adv_jax.evaluate.measures import Clean, Curve
from adv_jax.runner.store import result

Y = np.arange(100) % 10


def test_warnings_of_the_audit_are_kept_and_named_beside_what_is_untried(tmp_path):
    accuracy = np.array([[0.5, 0.7], [0.5, 0.9]], np.float32)  # It rises with eps.
    curve = Curve(accuracy, accuracy, accuracy, accuracy, accuracy)
    clean = Clean(np.full(2, 0.9), np.full(2, 0.9))
    measured = Curves(clean, {"fgsm": curve, "pgd": curve}, accuracy)
    own = {"fgsm": attacks.fgsm, "pgd": attacks.pgd}
    (warning,) = [w for w in result.audited(own, measured, (0.1, 0.2), Y) if "fgsm rises" in w]
    document = {"warnings": [warning], "replicas": [{}]}
    said = result.remarks(document, own, tmp_path / "run")
    command = f"python -m adv_jax.evaluate --workdir={tmp_path}/run --attacks=auto_attack"
    assert said == [f"warning: {warning}", f"not tried: auto_attack; run {command}"]
    # Of several replicas one can be evaluated.
    (_, untried) = result.remarks(document | {"replicas": [{}, {}]}, own, tmp_path / "run")
    assert untried == f"not tried: auto_attack; run {command} --replica=0"


def test_errors_under_attack_are_in_percent_and_means_over_replicas():
    evaluation = {
        "fgsm": {"eps": [0.0, 0.1], "error": [[0.1, 0.3], [0.2, 0.5]]},
        "worst_case": {"eps": [0.0, 0.1], "error": [[0.1, 0.4], [0.2, 0.5]]},
    }
    own, several = {"fgsm": partial(attacks.fgsm, norm="l2")}, [{"overrides": {}}] * 2
    title, columns, rows = result.under_attack({"evaluation": evaluation, "replicas": several}, own)
    assert title == "test error % under attack, by eps, mean of 2 seeds"
    assert columns == ["attack", "norm", "0", "0.1"]
    assert rows == [["fgsm", "l2", "15.00", "40.00"], ["worst case", "", "15.00", "45.00"]]
    alone = {"fgsm": {"eps": [0.25], "error": [[0.5]]}}
    title, _, rows = result.under_attack({"evaluation": alone, "replicas": several[:1]}, own)
    assert (title, rows) == ("test error % under attack, by eps", [["fgsm", "l2", "50.00"]])


def test_errors_under_attack_of_a_grid_have_a_row_for_each_of_its_points():
    own = {name: partial(getattr(attacks, name), norm="l2") for name in ("fgsm", "pgd")}
    errors = {"fgsm": [[0.1], [0.2], [0.5], [0.6]], "pgd": [[0.2], [0.3], [0.6], [0.9]]}
    evaluation = {name: {"eps": [0.1], "error": error} for name, error in errors.items()}
    near = 0.1000001  # another number in float32
    replicas = [{"overrides": {"objective.attack.eps": eps}} for eps in (0.1, 0.1, near, near)]
    title, columns, rows = result.under_attack(
        {"evaluation": evaluation, "replicas": replicas}, own
    )
    assert title == "test error % under attack, by eps, mean of 2 seeds"
    assert columns == ["attack", "norm", "settings", "0.1"]
    assert rows == [
        ["fgsm", "l2", "objective.attack.eps=0.1", "15.00"],
        ["fgsm", "l2", "objective.attack.eps=0.1000001", "55.00"],
        ["pgd", "l2", "objective.attack.eps=0.1", "25.00"],
        ["pgd", "l2", "objective.attack.eps=0.1000001", "75.00"],
    ]


def test_attacks_of_other_norms_at_the_same_sizes_are_told():
    accuracy = np.array([[0.9, 0.5]], np.float32)
    curve = Curve(accuracy, accuracy, accuracy, accuracy, accuracy)
    measured = Curves(Clean(np.full(1, 0.9), np.full(1, 0.9)), dict.fromkeys("ab", curve), accuracy)
    own = {"a": attacks.fgsm, "b": partial(attacks.fgsm, norm="l2")}
    (warning,) = result.audited(own, measured, (0.0, 0.2), Y)
    assert warning.startswith(
        "a (linf) and b (l2) share their sizes, which are not radii of one norm"
    )
    assert result.audited({"a": own["a"], "b": own["a"]}, measured, (0.0, 0.2), Y) == []
