"""Figures: of what was measured (`figures`), and those of the papers, drawn again.

    python -m adv_jax.report maronas.fig26

draws a paper's figure and writes the numbers in it. A paper is a module with a dict `FIGURES`,
name -> function that gives a `drawing.Drawing`, and a line in `command.PAPERS`.
"""
