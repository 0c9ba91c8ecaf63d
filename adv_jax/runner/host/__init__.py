"""The machine of a run: processes, devices, signals, standard output and compiled programs."""
