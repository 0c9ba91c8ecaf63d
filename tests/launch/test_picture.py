"""The figure of a sweep."""

from matplotlib.figure import Figure

from launch._picture import scatter


def test_the_figure_has_a_dot_for_each_measured_row_in_a_panel_for_each_field(
    tmp_path, monkeypatch
):
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a: (drawn.append(self), save(self, *a)))
    rows = [
        {"rate": 1e-4, "eps": 0.1, "features": (8,), "error": 0.3},
        {"rate": 1e-1, "eps": 0.2, "features": None, "error": 0.1},
        {"rate": 1e-2, "eps": 0.2, "features": (16,), "error": None},
    ]
    scatter(tmp_path / "sweep.png", rows, ["rate", "eps", "features"], "error")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    panels = drawn[0].axes
    assert [axes.get_xlabel() for axes in panels] == ["rate", "eps", "features"]
    assert [axes.get_xscale() for axes in panels] == ["log", "linear", "linear"]
    assert panels[0].get_ylabel() == "error"
    offsets = [axes.collections[0].get_offsets().tolist() for axes in panels]
    assert offsets == [[[1e-4, 0.3], [1e-1, 0.1]], [[0.1, 0.3], [0.2, 0.1]], [[0, 0.3], [1, 0.1]]]
