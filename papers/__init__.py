"""The reproduced works, one folder each, and three rooms that they share.

`judging` holds numbers, statistics and verdicts; `running` targets, trainings and budgets; `pages`
tables, charts and the generated pages. Each imports only those before it.

A work's folder holds `about.toml` (title, authors, link), `numbers.json` (the printed numbers),
`targets.py` (the runs that measure them), a module per figure, and `results/`:

    results/TARGET.json, .csv, .png    by `python -m launch.reproduce PAPER.TARGET`
    results/figures/FIGURE.json, .png       by `python -m adv_jax.report PAPER.FIGURE`
    results/runs/NAME.json                  result.json of single runs

CONTRIBUTING.md explains how to add a work.
"""
