"""The command `python -m adv_jax.report`, which draws figures of papers.

    python -m adv_jax.report maronas2016.fig26

The figures of a paper are in its package's dict `FIGURES`: name -> function that returns a
`papers.running.drawing.Drawing`.
"""
