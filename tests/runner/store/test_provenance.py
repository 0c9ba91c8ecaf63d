"""The commit in a result."""

import subprocess

import pytest

from adv_jax.runner.store import provenance


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Returns (folder, commit) of a repository that appears to contain the package."""
    for path in ("adv_jax/runner/store/provenance.py", "papers/a/results/table.json"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("first")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init"], ["add", "."], [*identity, "commit", "--message=first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True, capture_output=True)
    head = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(head, cwd=tmp_path, capture_output=True, text=True).stdout.strip()
    monkeypatch.setattr(
        provenance, "__file__", str(tmp_path / "adv_jax/runner/store/provenance.py")
    )
    return tmp_path, commit


def test_the_commit_is_that_of_the_packages_own_checkout(checkout, monkeypatch):
    folder, commit = checkout
    assert provenance.provenance()["git"] == commit
    installed = folder / "venv/site-packages/adv_jax/runner/store/provenance.py"
    installed.parent.mkdir(parents=True)
    monkeypatch.setattr(provenance, "__file__", str(installed))
    assert provenance.provenance()["git"] is None


def test_provenance_marks_changed_code_as_dirty_but_not_changed_results(checkout):
    folder, commit = checkout
    (folder / "papers/a/results/table.json").write_text("second")
    assert provenance.provenance()["git"] == commit
    (folder / "adv_jax/runner/store/provenance.py").write_text("second")
    assert provenance.provenance()["git"] == f"{commit}-dirty"
