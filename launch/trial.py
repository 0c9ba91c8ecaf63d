"""One trial of a sweep, a process of its own: `python -m launch.trial DIR`.

DIR holds the config.json of an ordinary run, which is run there as adv_jax.main would run it.
"""

import ctypes
import fcntl
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(workdir: Path, parent: int) -> None:
    """Runs what a directory holds; SIGINT comes when the parent process ends, however it does."""
    end_with(parent)
    with (workdir / "trial.lock").open("a") as lock:
        # A trial whose parent was killed saves its epoch; the next one waits and goes on from it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        from adv_jax.main import execute  # Imports JAX: seconds in which nobody has to wait.
        from adv_jax.runner.output import standard_output
        from adv_jax.runner.workdir import read_config

        with standard_output():
            execute(read_config(workdir), workdir)


def end_with(parent: int) -> None:
    """Sends SIGINT to this process when its parent ends, once.

    Linux tells of each thread of the parent that ends, but the same signal twice stops a run before
    it has saved its epoch. So would SIGTERM, by which a parent that lives stops a trial.
    """
    once = iter([signal.SIGINT])

    def tell(*_: object) -> None:
        for signum in once:  # Empty for a signal that comes while another is handled, too.
            os.kill(os.getpid(), signum)

    signal.signal(signal.SIGUSR1, tell)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Nothing is to be saved before the run begins.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # Ray's workers block it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)
    if os.getppid() != parent:
        sys.exit(f"error: the process that has started this trial, {parent}, is gone")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
