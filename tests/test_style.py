"""The style of charts: it is everywhere, its colors differ for all, and it leaves no trace."""

import io
import itertools
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from adv_jax import attacks, style

ROOT = Path(__file__).resolve().parents[1]
# Linear RGB as the color-blind see it [Machado, Oliveira & Fernandes 2009, Table 1, severity 1].
SEEN = {
    "all cones": np.eye(3),
    "without L": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "without M": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "without S": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750]]
XYZ += [[0.0193339, 0.1191920, 0.9503041]]


def lab(color: str, seen: np.ndarray) -> np.ndarray:
    """The CIELAB coordinates of a color of sRGB."""
    rgb = np.array(matplotlib.colors.to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.array(XYZ) @ np.clip(seen @ linear, 0, 1) / (0.95047, 1, 1.08883)
    x, y, z = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("seen", SEEN.values(), ids=SEEN)
def test_colors_differ_for_all_eyes(seen):
    colors = [lab(color, np.array(seen)) for color in style.CLASS_COLORS]
    # A difference of 2.3 is just noticed; Okabe and Ito have 16 among theirs.
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(colors, 2)) > 15


def test_charts_are_created_and_written_by_the_style_alone():
    bare = re.compile(r"\bFigure\(|plt\.|\.savefig\(|rcParams")
    found = {
        str(path.relative_to(ROOT))
        for folder in ("adv_jax", "benchmarks", "docs", "launch", "papers")
        for path in (ROOT / folder).rglob("*.py")
        if bare.search(path.read_text())
    }
    # A user's notebook shows the figures of pyplot.
    assert found == {"adv_jax/style.py", "adv_jax/evaluate/result.py"}


def test_settings_of_the_user_are_neither_used_nor_changed():
    with matplotlib.rc_context({"font.size": 31, "axes.grid": False}):
        before = dict(matplotlib.rcParams)
        figure, ((axes,),) = style.canvas(1, 1, title="costs $5")
        style.save(figure, io.BytesIO())
        assert axes.xaxis.label.get_size() == 9 and axes.xaxis.get_gridlines()[0].get_visible()
        assert dict(matplotlib.rcParams) == before


def test_every_attack_has_a_look_of_its_own():
    looks = [tuple(style.attack_style(name).values()) for name in attacks.__all__]
    assert len({*looks}) == len(looks)
    usual = ("fgsm", "pgd", "apgd", "auto_attack", "carlini_wagner", "deepfool", "square")
    assert len({style.attack_style(name)["color"] for name in usual}) == len(usual)
    pgd, pgd_40 = style.attack_style("pgd"), style.attack_style("pgd_40")
    assert pgd["color"] == pgd_40["color"] and pgd["linestyle"] != pgd_40["linestyle"]


def test_new_attacks_have_looks_of_their_own_however_many_they_are(monkeypatch):
    more = [f"attack_{i}" for i in range(50)] + ["pgd_of_ours"]
    monkeypatch.setattr(attacks, "__all__", [*attacks.__all__, *more])
    looks = [tuple(style.attack_style(name).values()) for name in attacks.__all__]
    assert len({*looks}) == len(looks)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([2.0, 2.5, 3.0], None),
        ([0.0, 100.0], None),
        ([0.015, 1.0], ["0.02", "0.05", "0.1", "0.2", "0.5", "1"]),
        ([0.001, 50.0], ["0.001", "0.01", "0.1", "1", "10"]),
    ],
)
def test_an_axis_is_logarithmic_with_plain_ticks_only_where_values_differ_much(values, ticks):
    figure, ((axes,),) = style.canvas(1, 1)
    axes.plot(values)
    assert style.widen(axes, values) == (ticks is not None)
    figure.draw_without_rendering()
    low, high = min(values), max(values)
    shown = [t.get_text() for t in axes.get_yticklabels() if low <= t.get_position()[1] <= high]
    assert ticks is None or shown == ticks


def test_names_of_lines_stand_apart_at_their_ends():
    axes = Figure().subplots()
    for number, end in enumerate((0.0, 0.0, 0.01, 1.0, 0.99)):
        axes.plot([0, 1], [0.5, end], label=f"line {number}")
    style.shares(axes, "accuracy")
    style.name_lines(axes)
    heights = {text.get_text(): text.xy[1] for text in axes.texts}
    order = ["line 0", "line 1", "line 2", "line 4", "line 3"]
    assert list(heights) == order
    assert np.diff([heights[name] for name in order]).min() > 0.03
    assert heights["line 0"] >= 0 and heights["line 3"] <= 1


@pytest.mark.parametrize("count", [2, 11])
def test_dollars_in_names_are_drawn_and_make_no_formula(count):
    figure, ((axes, square),) = style.canvas(1, 2, title="a$_$b")
    for number in range(count):
        axes.plot([0, 1], [0, number], label=f"p$_$q {number}")
    style.name_lines(axes)
    style.matrix(square, np.eye(2), ["a$_$b", "c"], form="{:.1f}", top=1.0)
    drawn = io.StringIO()
    style.save(figure, drawn, format="svg")
    texts = drawn.getvalue()  # A comment has the text of each path.
    assert texts.count("<!-- a$_$b -->") == 1 + 2 and texts.count("<!-- p$_$q ") == count


def test_a_long_title_stays_inside_a_narrow_figure():
    figure, _ = style.canvas(1, 1, title="a title of more words than fit into a line " * 4)
    figure.draw_without_rendering()
    (title,) = figure.texts
    box = title.get_window_extent()
    assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1


def test_a_band_is_the_mean_with_the_range_of_the_numbers_that_are_there():
    axes = Figure().subplots()
    values = np.array([[1.0, 2.0, np.nan], [3.0, 4.0, 8.0]])
    style.band(axes, [0, 1, 2], values, color="C1", label="of two seeds")
    (line,), (shade,) = axes.lines, axes.collections
    np.testing.assert_array_equal(line.get_ydata(), [2, 3, 8])
    corners = {tuple(corner) for corner in shade.get_paths()[0].vertices.tolist()}
    assert corners == {(0, 1), (0, 3), (1, 2), (1, 4), (2, 8)}
    assert line.get_label() == "of two seeds"
