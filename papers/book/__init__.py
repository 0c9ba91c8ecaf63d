"""The book: static pages that compare the papers' numbers with our results.

    python -m adv_jax.report --results=papers --out=book

reads the results of `launch.reproduce`, of single runs (NAME.json, NAME_learning.png,
NAME_evaluation.png) and of `python -m adv_jax.report PAPER.FIGURE`. It writes OUT/index.html, a
page per paper and a page per training. The pages need neither network nor scripts.
"""

from papers.book.building import build

__all__ = ["build"]
