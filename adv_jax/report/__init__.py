"""What the papers print (`papers`), what was measured (`figures`, `charts`), and both in a `book`.

    python -m adv_jax.report --results=results --out=book
    python -m adv_jax.report maronas2016.fig26

The first makes the book; the second draws a paper's figure and writes the numbers in it. A paper
whose figures are drawn is a module with a dict `FIGURES`, name -> function that gives a
`drawing.Drawing`, and a line in `command.PAPERS`.
"""
