"""Provenance: the commit and the versions in a result."""

import subprocess

import numpy as np
import pytest

from adv_jax import attacks
from adv_jax.evaluate import Curves
from adv_jax.evaluate.measures import Clean, Curve
from adv_jax.runner.store import result


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Returns (folder, commit) of a repository that appears to contain the package."""
    for path in ("adv_jax/runner/store/result.py", "papers/a/results/table.json"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("first")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init"], ["add", "."], [*identity, "commit", "--message=first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True, capture_output=True)
    head = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(head, cwd=tmp_path, capture_output=True, text=True).stdout.strip()
    monkeypatch.setattr(result, "__file__", str(tmp_path / "adv_jax/runner/store/result.py"))
    return tmp_path, commit


def test_the_commit_is_that_of_the_packages_own_checkout(checkout, monkeypatch):
    folder, commit = checkout
    assert result.provenance()["git"] == commit
    installed = folder / "venv/site-packages/adv_jax/runner/store/result.py"
    installed.parent.mkdir(parents=True)
    monkeypatch.setattr(result, "__file__", str(installed))
    assert result.provenance()["git"] is None


def test_provenance_marks_changed_code_as_dirty_but_not_changed_results(checkout):
    folder, commit = checkout
    (folder / "papers/a/results/table.json").write_text("second")
    assert result.provenance()["git"] == commit
    (folder / "adv_jax/runner/store/result.py").write_text("second")
    assert result.provenance()["git"] == f"{commit}-dirty"


def test_warnings_of_the_audit_are_kept_and_named_beside_what_is_untried(tmp_path):
    accuracy = np.array([[0.5, 0.7], [0.5, 0.9]], np.float32)  # It rises with eps.
    curve = Curve(accuracy, accuracy, accuracy, accuracy, accuracy)
    clean = Clean(np.full(2, 0.9), np.full(2, 0.9))
    measured = Curves(clean, {"fgsm": curve, "pgd": curve}, accuracy)
    own = {"fgsm": attacks.fgsm, "pgd": attacks.pgd}
    (warning,) = [w for w in result.audited(own, measured, (0.1, 0.2), 100) if "fgsm rises" in w]
    said = result.remarks({"warnings": [warning]}, own, tmp_path / "run")
    command = f"python -m adv_jax.evaluate --workdir={tmp_path}/run --attacks=auto_attack"
    assert said == [f"warning: {warning}", f"not tried: auto_attack; see {command}"]
