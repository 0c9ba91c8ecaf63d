"""The files of a run: its workdir, its checkpoints and its result."""
