"""Learning curves: means over replicas with their range, as numbers and as lines."""

import numpy as np

from adv_jax.runner.run import learning_curves


def line(epoch, replica, loss, **errors):
    return {"epoch": epoch, "replica": replica, "seed": replica, "loss": loss, **errors}


def lines_of(axes) -> dict[str, tuple[list[float], list[float]]]:
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines
    }


def test_learning_curves_are_means_and_ranges_of_few_points():
    lines = [
        line(epoch, i, float(epoch + i), accuracy=1.0) for epoch in range(1, 1002) for i in (0, 2)
    ]
    curves = learning_curves.curves_of_lines(lines)
    assert curves.keys() == {"loss"}
    loss = curves["loss"]
    assert len(loss["epoch"]) <= 101 and (loss["epoch"][0], loss["epoch"][-1]) == (1, 1001)
    assert loss["mean"] == [epoch + 1 for epoch in loss["epoch"]]
    assert (loss["low"][0], loss["high"][0]) == (1, 3)


def test_learning_curves_handle_early_stops_and_sparse_errors():
    lines = [
        line(1, 0, 2.0),
        line(1, 1, 6.0),
        line(2, 0, 1.0, test_error=0.2, valid_error=0.1),
        line(2, 1, 2.0, test_error=0.4, valid_error=0.3),
        line(3, 1, 1.0),
        line(4, 1, 0.5, test_error=0.3, valid_error=0.2),
    ]
    figure = learning_curves.chart(learning_curves.curves_of_lines(lines), title="a net")
    assert figure.get_suptitle() == "a net"
    loss, error = figure.axes
    assert (loss.get_xlabel(), loss.get_ylabel()) == ("epoch", "loss")
    assert (error.get_xlabel(), error.get_ylabel()) == ("epoch", "error (fraction)")
    assert (loss.get_yscale(), error.get_yscale()) == ("log", "linear")  # 12 and 4 times
    assert lines_of(loss) == {"loss": ([1, 2, 3, 4], [4.0, 1.5, 1.0, 0.5])}
    (band,) = loss.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (0.5, 6)
    curves = lines_of(error)
    assert set(curves) == {"test error", "valid error"}
    assert curves["test error"][0] == [2, 4]
    np.testing.assert_allclose(curves["test error"][1], [0.3, 0.3])


def test_each_error_has_a_line_in_the_chart():
    names = [f"{kind}_error" for kind in ("train", "valid", "test", "clean", "attack")]
    lines = [line(epoch, 0, 1.0, **dict.fromkeys(names, 0.5)) for epoch in (1, 2)]
    _, error = learning_curves.chart(learning_curves.curves_of_lines(lines)).axes
    assert set(lines_of(error)) == {name.replace("_", " ") for name in names}


def test_the_losses_of_all_players_of_a_game_have_lines_of_their_own():
    players = [f"level{k}_{name}_loss" for k in range(3) for name in ("generator", "discriminator")]
    lines = [line(epoch, 0, 6.0, **dict.fromkeys(players, 1.0)) for epoch in (1, 2)]
    (losses,) = learning_curves.chart(learning_curves.curves_of_lines(lines)).axes
    assert set(lines_of(losses)) == {"loss", *(name.replace("_", " ") for name in players)}
    assert len({(curve.get_color(), curve.get_linestyle()) for curve in losses.lines}) == 7


def test_a_legend_of_many_names_lies_below_its_panel():
    losses = {f"part{number}_loss": 1.0 + number for number in range(12)}
    lines = [line(epoch, 0, 2.0, test_error=0.1, **losses) for epoch in (1, 2)]
    figure = learning_curves.chart(learning_curves.curves_of_lines(lines))
    figure.draw_without_rendering()
    loss, error = figure.axes
    box = loss.get_legend().get_window_extent()
    assert box.y1 < loss.get_window_extent().y0 and box.y0 > -1  # pixels
    assert not box.overlaps(error.get_window_extent())
    assert [text.get_text() for text in error.texts] == ["test error"]  # at the end of its line


def test_a_single_epoch_without_an_error_is_drawn():
    figure = learning_curves.chart(
        learning_curves.curves_of_lines([line(1, 0, 2.0, test_error=0.0)])
    )
    loss, error = figure.axes
    assert all(curve.get_marker() != "None" for axes in (loss, error) for curve in axes.lines)
    assert error.get_ylim()[0] <= 0 < error.get_ylim()[1]


def test_a_run_without_epochs_has_empty_panels():
    loss, error = learning_curves.chart(learning_curves.curves_of_lines([])).axes
    assert not loss.lines and not error.lines
