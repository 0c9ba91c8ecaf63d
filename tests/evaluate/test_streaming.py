"""evaluate_batches against evaluate on the same rows, and the files of its blocks."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow_after

from adv_jax import attacks, bridges, evaluate
from adv_jax.evaluate.finished import Folder
from adv_jax.evaluate.streaming import blocks
from adv_jax.evaluate.suite import Suite
from adv_jax.types import UserError

SUITE = {
    "fgsm": attacks.fgsm,
    "pgd": partial(attacks.pgd, norm="l2", num_steps=3),
    "noise": attacks.uniform_noise,
}
EPS = [0.0, 0.3]
KEY = jax.random.key(1)


class Tensor:
    """An array of another library, which NumPy can read."""

    def __init__(self, values):
        self._values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self._values, dtype)


def cut(x, y, *sizes, wrap=lambda array: array):
    """Yields (x, y) in batches of these sizes, the last as large as needed."""
    start = 0
    for size in [*sizes, len(x)]:
        if start < len(x):
            yield wrap(x[start : start + size]), wrap(y[start : start + size])
        start += size


def model(w, b):
    return lambda x: jnp.tanh(x) @ w + b[None]


def assert_equal(found, expected):
    """Asserts that two evaluations are equal but for the rounding of another batch size."""
    for name, correct in expected.correct.items():
        np.testing.assert_array_equal(found.correct[name], correct)
    for a, b in zip(jax.tree.leaves(found[:4]), jax.tree.leaves(expected[:4]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    assert (found.audit, found.setup) == (expected.audit, expected.setup)


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [lambda array: array, Tensor], ids=["numpy", "tensor"])
def test_a_stream_of_uneven_batches_gives_the_result_of_the_arrays(problem, wrap):
    w, b, x, y = problem(53)
    found = evaluate.evaluate_batches(
        model(w, b), cut(x, y, 5, 1, 20, wrap=wrap), SUITE, eps=EPS, batch_size=3, key=KEY
    )
    expected = evaluate.evaluate(model(w, b), x, y, SUITE, eps=EPS, batch_size=53, key=KEY)
    assert_equal(found, expected)
    assert 0 < found.worst_case[1] < found.worst_case[0] < 1


def test_a_block_inside_a_batch_is_a_view():
    x = np.arange(20.0).reshape(10, 2)
    found = list(blocks([(x, np.arange(10)), (x[:0], np.arange(0)), (x[:1], np.arange(1))], 3))
    assert [len(rows) for rows, _, _ in found] == [3, 3, 3, 2]
    assert [np.shares_memory(rows, x) for rows, _, _ in found] == [True, True, True, False]
    np.testing.assert_array_equal(np.concatenate([y for _, y, _ in found]), [*range(10), 0])


@pytest.mark.slow
def test_a_stream_takes_no_more_than_a_block_ahead(problem):
    w, b, x, y = problem(80)
    read, blocks = [0], []

    def counted():
        for batch in cut(x, y, *[4] * 20):
            read[0] += 1
            yield batch

    def progress(items, _):
        for item in items:
            blocks.append(read[0])
            yield item

    evaluate.evaluate_batches(
        model(w, b), counted(), SUITE, eps=EPS, batch_size=2, key=KEY, progress=progress
    )
    rows = 2 * jax.local_device_count()
    assert blocks == [-(-rows * (i + 1) // 4) for i in range(80 // rows)]


@pytest.mark.slow
def test_a_stopped_stream_continues_from_its_folder(problem, tmp_path, monkeypatch):
    w, b, x, y = problem(53)
    run = partial(evaluate.evaluate_batches, model(w, b), attacks=SUITE, eps=EPS, key=KEY)
    run = partial(run, batch_size=4, folder=tmp_path)

    def stops(sizes):
        yield from list(cut(x, y, *sizes))[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(batches=stops([20, 20]))
    finished = sorted(path.name for path in tmp_path.glob("*.npz"))
    assert len(finished) == 40 // (4 * jax.local_device_count())
    written = [(tmp_path / name).stat().st_mtime_ns for name in finished]
    # Cut in another way, they are the same rows.
    found = run(batches=cut(x, y, 7, 30))
    assert [(tmp_path / name).stat().st_mtime_ns for name in finished] == written
    assert_equal(found, evaluate.evaluate(model(w, b), x, y, SUITE, eps=EPS, key=KEY))
    # All is finished: nothing is computed again.
    monkeypatch.setattr(Suite, "measure", None)
    assert_equal(run(batches=cut(x, y)), found)


def test_attacks_stay_in_their_order_and_another_batch_size_is_named(problem, tmp_path):
    w, b, x, y = problem(9)
    suite = {"pgd": partial(attacks.pgd, num_steps=1), "fgsm": attacks.fgsm}
    run = partial(evaluate.evaluate_batches, model(w, b), attacks=suite, eps=[0.1], folder=tmp_path)
    for _ in range(2):
        found = run(batches=[(x, y)], batch_size=2)
        assert list(found.attacks) == list(found.correct) == list(found.predicted) == [*suite]
    devices = jax.local_device_count()
    message = f"with blocks of {2 * devices} rows: batch_size times devices makes {3 * devices}"
    with pytest.raises(UserError, match=message):
        run(batches=[(x, y)], batch_size=3)


def test_a_folder_of_another_black_box_is_refused(problem, tmp_path):
    w, b, x, y = problem(9)
    shifted = lambda fn, x, y, *, eps, key=None: x + eps

    def run(factor, attack=shifted, folder=tmp_path / "folder"):
        predict = lambda x: factor * (np.tanh(x) @ np.asarray(w) + np.asarray(b))
        black_box = bridges.black_box(predict)
        return evaluate.evaluate_batches(
            black_box, [(x, y)], {"a": attack}, eps=[0.1], folder=folder, progress=False
        )

    first = run(1.0)
    assert_equal(run(1.0), first)
    assert_equal(run(1 + 1e-6), first)
    with pytest.raises(UserError, match="^folder must be new or .* another predictions, logits$"):
        run(-1.0)
    # All predictions stay.
    with pytest.raises(UserError, match="^folder must be new or .* with another logits$"):
        run(1.001)


def test_a_folder_of_an_attack_that_calls_python_is_refused(problem, tmp_path):
    w, b, x, y = problem(9)

    def attack(logits_fn, x, y, *, eps, key=None):
        return jax.pure_callback(lambda x: x, x, x, vmap_method="expand_dims")

    with pytest.raises(UserError, match="^folder must be None for an attack that calls Python"):
        evaluate.evaluate_batches(
            model(w, b), [(x, y)], {"a": attack}, eps=[0.1], folder=tmp_path / "f", progress=False
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": [0.0, 0.2]}, "another eps"),
        ({"key": jax.random.key(2)}, "another key"),
        (
            {"attacks": {**SUITE, "fgsm": partial(attacks.fgsm, norm="l1")}},
            "another attacks['fgsm']",
        ),
        ({"factor": 2.0}, "another logits_fn, attacks['fgsm'], attacks['pgd'], attacks['noise']"),
        ({"bounds": (-9.0, 9.0)}, "another attacks['fgsm'], attacks['pgd'], attacks['noise'], bou"),
        ({"rows": slice(None, None, -1)}, "00000.npz in block 0, got others"),
    ],
)
def test_a_folder_of_another_evaluation_is_refused(problem, tmp_path, change, message):
    w, b, x, y = problem(9)

    def run(*, attacks=SUITE, eps=EPS, key=KEY, factor=1.0, rows=slice(None), bounds=None):
        batches = [(x[rows], y[rows])]
        return evaluate.evaluate_batches(
            model(factor * w, b),
            batches,
            attacks,
            eps=eps,
            key=key,
            bounds=bounds,
            folder=tmp_path,
        )

    run()
    with pytest.raises(UserError) as error:
        run(**change)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "bounds",
    slow_after(
        1,
        [
            np.array([0.0, 1.0]),
            pytest.param((np.zeros(2), np.ones(2))),
            pytest.param((np.float32(0), np.float32(1))),
        ],
    ),
)
def test_a_folder_takes_bounds_that_are_arrays(bounds, tmp_path):
    x, y = np.array([[0.5, 0.2], [0.1, 0.4]], np.float32), np.array([0, 1])

    def run(**options):
        attacked = {"fgsm": attacks.fgsm}
        return evaluate.evaluate_batches(
            lambda x: x, [(x, y)], attacked, eps=[0.3], bounds=bounds, **options
        )

    for found in (run(folder=tmp_path), run(folder=tmp_path)):  # The second reads the file.
        assert_equal(found, run())


@pytest.mark.slow
def test_a_damaged_file_of_the_folder_is_refused_in_one_line(problem, tmp_path):
    w, b, x, y = problem(9)
    run = partial(evaluate.evaluate_batches, model(w, b), attacks=SUITE, eps=EPS, key=KEY)
    run(batches=[(x, y)], folder=tmp_path)
    file = tmp_path / "00000.npz"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(UserError, match="00000.npz must be a whole npz file, got a damaged one"):
        run(batches=[(x, y)], folder=tmp_path)
    (tmp_path / "settings.json").write_text("[]5")
    with pytest.raises(UserError, match="settings.json must be a JSON object, got a damaged file"):
        run(batches=[(x, y)], folder=tmp_path)


@pytest.mark.slow
def test_the_examples_in_the_files_are_those_that_were_classified(problem, tmp_path):
    w, b, x, y = problem(53)
    found = evaluate.evaluate_batches(
        model(w, b),
        cut(x, y),
        SUITE,
        eps=EPS,
        batch_size=5,
        key=KEY,
        folder=tmp_path,
        examples=True,
    )
    files = [np.load(path) for path in sorted(tmp_path.glob("*.npz"))]
    assert len(files) > 1
    for name in SUITE:
        x_adv = np.concatenate([file[f"examples/{name}"] for file in files], axis=1)
        assert x_adv.shape == (len(EPS), *x.shape)
        labels = np.argmax(np.tanh(x_adv) @ w + b, axis=-1)
        np.testing.assert_array_equal(found.correct[name], labels == y)
        np.testing.assert_allclose(
            found.attacks[name].linf, np.abs(x_adv - x).max(-1).mean(-1), rtol=1e-5
        )


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "batches must yield one or more rows, got none"),
        ([{"image": 1}], "batches must yield (x, y) or (x, y, aux), got a dict"),
        ([(np.zeros((2, 3)),)], "batches must yield (x, y) or (x, y, aux), got a tuple of 1"),
        (
            [(np.zeros((2, 3)), np.zeros(3, int))],
            "batches must yield arrays of the same number of rows, got float64[2, 3], int64[3]",
        ),
        (
            [(np.zeros((2, 3)), [0, 1]), (np.zeros((2, 4)), [0, 1])],
            "x must be as in the first batch, float64[2, 3], got float64[2, 4]",
        ),
        (
            [(np.zeros((2, 3)), np.eye(2, dtype=int)), (np.zeros((2, 3)), [0, 1])],
            "y must be as in the first batch, int64[2, 2], got int64[2]",
        ),
        (
            [(np.zeros((2, 3)), [0, 1]), (np.zeros((2, 3)), np.zeros(2, np.float32))],
            "y must be as in the first batch, int64[2], got float32[2]",
        ),
        (
            [(np.zeros((2, 3)), [0, 1]), (np.zeros((2, 3)), [0, 1], {"a": np.zeros((2, 4))})],
            "aux must be as in the first batch, None, got {a: float64[2, 4]}",
        ),
        (
            [(np.ma.masked_less(np.zeros((2, 3)), 1), [0, 1])],
            "x must be an array of numbers in each batch, got masked float64[2, 3]",
        ),
        (
            [([[1.0], [1.0, 2.0]], [0, 1])],
            "x must be an array of numbers in each batch, got [[1.0], [1.0, 2.0]]",
        ),
    ],
)
def test_batches_of_another_form_are_refused(batches, message):
    with pytest.raises(UserError) as error:
        evaluate.evaluate_batches(lambda x: x, batches, {"fgsm": attacks.fgsm}, eps=EPS)
    assert str(error.value) == message


def test_what_is_no_stream_and_no_folder_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"^batches must be an iterable of \(x, y\), got 5$"):
        evaluate.evaluate_batches(jnp.tanh, 5, SUITE, eps=EPS)
    file = tmp_path / "file"
    file.write_text("")
    for folder in (5, file):
        with pytest.raises(UserError, match=r"^folder must be a path of a folder to write, got .*"):
            Folder(folder, {})
