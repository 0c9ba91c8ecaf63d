"""Turns a config into files: everything with effects.

Four landings, each of which imports only those before it, and the library:

- `config`: what a config may say, and how its names become functions;
- `store`: the files of a run, namely its workdir, checkpoints and results;
- `host`: processes, devices, signals, standard output and compiled programs;
- `run`: training and evaluation.
"""
