"""The book: what the papers print and what was measured here, as pages to open from disk.

    python -m adv_jax.report --results=results --out=book

reads RESULTS/PAPER.PLACE.json of `launch.reproduce`, results of single runs (result.json under any
name, with NAME_learning.png and NAME_evaluation.png beside it) and RESULTS/PAPER/FIGURE.json and
.png of `python -m adv_jax.report PAPER.FIGURE`, and writes OUT/index.html, a page for each paper
and one for each training. The pages need no network and no script.
"""

from papers.book.building import build

__all__ = ["build"]
