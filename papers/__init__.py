"""The reproduced works: a folder for each, and what all of them share.

A folder holds `about.toml` (title, authors, link), `numbers.json` (what the work prints),
`targets.py` (which runs measure it), a module for each figure, and `results/`:

    results/TARGET.json, .csv, .md, .png    by `python -m launch.reproduce PAPER.TARGET`
    results/figures/FIGURE.json, .png       by `python -m adv_jax.report PAPER.FIGURE`
    results/runs/NAME.json                  result.json of single runs

CONTRIBUTING.md says how to add one.
"""
