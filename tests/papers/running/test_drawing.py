"""The canvas that every figure of a paper is drawn on."""

from papers.running import drawing


def test_a_long_title_stays_inside_a_narrow_figure():
    figure, _ = drawing.canvas(1, 1, title="a title of more words than fit into a line " * 4)
    figure.draw_without_rendering()
    (title,) = figure.texts
    box = title.get_window_extent()
    assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
