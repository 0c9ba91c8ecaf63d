"""What a result says of the programs that made it."""

import subprocess

from adv_jax import result


def test_the_commit_is_that_of_the_packages_own_checkout(tmp_path, monkeypatch):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init"], [*identity, "commit", "--allow-empty", "--message=first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True, capture_output=True)
    head = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(head, cwd=tmp_path, capture_output=True, text=True).stdout.strip()
    for folder, expected in ((tmp_path, commit), (tmp_path / "venv" / "site-packages", None)):
        (folder / "adv_jax").mkdir(parents=True)
        monkeypatch.setattr(result, "__file__", str(folder / "adv_jax" / "result.py"))
        assert result.provenance()["git"] == expected
