"""Compiled programs are kept between commands; damaged files are replaced."""

import os

import pytest
from short_run import TINY

from adv_jax.runner.host import compilation


@pytest.fixture
def programs(tmp_path):
    """Five programs of 100 bytes with their digests, the first the oldest."""
    for number in range(5):
        path = tmp_path / f"jit_{number}-cache"
        path.write_bytes(bytes([number]) * 100)
        os.utime(path, (number, number))
    compilation.seal(tmp_path)
    return tmp_path


def kept(folder):
    return sorted(int(path.name[4]) for path in folder.glob("*-cache"))


def test_tidy_keeps_intact_programs(programs):
    compilation.tidy(programs, 500)
    assert kept(programs) == [0, 1, 2, 3, 4]
    assert len(list(programs.iterdir())) == 10


def test_tidy_deletes_the_oldest_programs_with_their_digests(programs):
    compilation.tidy(programs, 250)
    assert kept(programs) == [3, 4]
    assert len(list(programs.iterdir())) == 4


@pytest.mark.parametrize("damage", ["cut off", "one bit", "no digest", "torn digest"])
def test_tidy_deletes_a_damaged_program(programs, damage):
    program, digest = programs / "jit_2-cache", programs / "jit_2-cache.sha256"
    if damage == "cut off":
        program.write_bytes(program.read_bytes()[:50])
    elif damage == "one bit":
        program.write_bytes(bytes([3]) + program.read_bytes()[1:])
    elif damage == "no digest":
        digest.unlink()
    else:
        digest.write_text(digest.read_text()[:30])
    compilation.tidy(programs, 500)
    assert kept(programs) == [0, 1, 3, 4] and not digest.exists()


def test_seal_does_not_replace_an_existing_digest(programs):
    (programs / "jit_2-cache").write_bytes(b"changed")
    compilation.seal(programs)
    compilation.tidy(programs, 500)
    assert kept(programs) == [0, 1, 3, 4]


@pytest.mark.slow
def test_a_second_command_reuses_programs_and_replaces_damaged_ones(commands, tmp_path):
    env = {"JAX_COMPILATION_CACHE_DIR": "", "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def trained(name, *argv):
        done = commands.run(*TINY, f"--workdir={tmp_path / name}", *argv, **env)
        assert (done.status, done.err) == (0, "")
        found = tmp_path.glob("cache/adv_jax/compiled/*/*-cache")
        return (tmp_path / name / "metrics.jsonl").read_text(), {p: p.read_bytes() for p in found}

    assert trained("off", "--nocompilation_cache")[1] == {}
    metrics, programs = trained("first")
    again, kept_again = trained("second")
    assert programs and again == metrics and kept_again.items() >= programs.items()
    # Whether a program that compiles in about 0.1 s is kept is chance: take the largest ones.
    cut, removed = sorted(programs, key=lambda path: len(programs[path]))[-2:]
    damaged = programs[cut][:-10]
    cut.write_bytes(damaged)
    removed.unlink()
    again, kept_again = trained("third")
    assert again == metrics and {cut, removed} <= kept_again.keys()
    assert kept_again[cut] != damaged


@pytest.mark.slow
def test_a_command_works_without_a_usable_cache(commands, tmp_path):
    (tmp_path / "cache").write_text("a file in the folder's place")
    env = {"JAX_COMPILATION_CACHE_DIR": "", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = commands.run(*TINY, f"--workdir={tmp_path / 'run'}", **env)
    assert (done.status, done.err) == (0, "")
