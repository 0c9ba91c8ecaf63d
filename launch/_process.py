"""The process of a trial: `python -m launch._process DIR` runs the config in DIR."""

import os
import signal
import sys
import threading
from pathlib import Path

from absl import flags

from adv_jax.main import execute
from adv_jax.runner.host.ending import without_traceback
from adv_jax.runner.run.epochs import Diverged
from adv_jax.runner.store.workdir import read_config
from adv_jax.runner.store.writing import locked
from launch._trials import note_divergence


def main(path: Path) -> None:
    """Runs the config in a directory, after the process of a killed sweep has saved its epoch."""
    flags.FLAGS.mark_as_parsed()  # The command line has none.
    end_with_parent()
    with without_traceback(), locked(path / "trial.lock"):
        try:
            execute(read_config(path), path)
        except Diverged:
            note_divergence(path)
            raise


def end_with_parent() -> None:
    """Sends SIGTERM to this process, once, when its parent closes standard input or is killed.

    A second signal would stop the run before it has saved its epoch.
    """

    def wait() -> None:
        os.read(0, 1)  # Nothing is written to the pipe; it ends with the parent.
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
