"""Data sets from arrays and from npz files."""

import hashlib
import io
import pickle
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refusal

from adv_jax import data
from adv_jax.data import arrays


def bytes_of(count: int, *, seed: int = 0, shape=(5, 4)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, *shape), dtype=np.uint8), np.arange(count) % 3


def stored(**changes) -> dict[str, np.ndarray]:
    """Returns arrays of an npz file; None removes one."""
    (x_train, y_train), (x_test, y_test) = bytes_of(7), bytes_of(4, seed=1)
    found = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    return {name: value for name, value in (found | changes).items() if value is not None}


def refused(function, *args, **kwargs):
    return refusal(function, *args, error=data.DataError, **kwargs)


def test_bytes_of_an_npz_file_are_scaled_as_those_of_idx_files(tmp_path):
    values = stored(hint=np.zeros(3))
    np.savez_compressed(tmp_path / "mine.npz", **values)
    found = data.load("mine", source="npz", dir=str(tmp_path))
    assert found[:2] == ("mine", "npz") and (found.num_classes, found.bounds) == (3, (0, 1))
    assert found.train.x.dtype == np.float32 and found.test.y.dtype == np.int32
    np.testing.assert_array_equal(found.train.x[..., 0], values["x_train"] / np.float32(255))
    np.testing.assert_array_equal(found.test.y, values["y_test"])
    digest = hashlib.sha256((tmp_path / "mine.npz").read_bytes()).hexdigest()
    assert found.sha256 == {"mine.npz": digest}
    by_file = data.load("own", source="npz", dir=str(tmp_path / "mine.npz"))
    np.testing.assert_array_equal(by_file.train.x, found.train.x)
    assert by_file.name == "own"


def test_an_npz_file_lies_in_the_current_directory_by_default(tmp_path, monkeypatch):
    np.savez(tmp_path / "mine.npz", **stored())
    monkeypatch.chdir(tmp_path)
    assert data.load("mine", source="npz").train.x.shape == (7, 5, 4, 1)


def test_floats_keep_their_units_and_labels_may_be_a_column(tmp_path):
    x = np.linspace(-3, 300, 14).reshape(7, 2)
    columns = {"x_train": x, "x_test": x[:4], "y_train": np.arange(7)[:, None] % 3}
    np.savez(tmp_path / "mine.npz", **stored(**columns))
    found = data.load("mine", source="npz", dir=str(tmp_path))
    np.testing.assert_array_equal(found.train.x, x.astype(np.float32))
    np.testing.assert_array_equal(found.train.y, np.arange(7) % 3)
    assert found.bounds is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"y_test": None, "labels": np.zeros(4)},
            " must have the arrays x_train, y_train, x_test, y_test, got x_train, y_train, x_test, "
            "labels",
        ),
        ({"x_train": np.zeros((7, 5, 4), int)}, ": x_train must be bytes uint8[N, ...] or floats"),
        ({"x_train": np.zeros(7)}, "floats [N, ...], got float64[7]"),
        ({"x_test": np.zeros((0, 5, 4), np.uint8)}, "floats [N, ...], got uint8[0, 5, 4]"),
        ({"x_test": np.zeros((4, 4, 5), np.uint8)}, "x_test must have rows uint8[5, 4], as x_tr"),
        ({"x_test": np.zeros((4, 5, 4))}, "as x_train, got float64[5, 4]"),
        ({"y_train": np.zeros(6, int)}, "y_train must have 7 labels, one for each row of x_train"),
        ({"y_train": np.zeros(7)}, "y_train must be classes, integers [N] or [N, 1], got float64"),
        ({"y_train": np.eye(7, dtype=int)}, "integers [N] or [N, 1], got int64[7, 7]"),
        ({"y_test": np.array([0, 1, -1, 0])}, "label of row 2 of y_test must be 0 to 2, got -1"),
        (
            {"x_train": np.array([[{}]])},
            " must be an npz file of numbers, got an array of Python objects",
        ),
    ],
)
def test_invalid_arrays_of_an_npz_file_are_refused(tmp_path, changes, says):
    path = tmp_path / "mine.npz"
    np.savez(path, **stored(**changes))
    message = refused(data.load, "mine", source="npz", dir=str(tmp_path))
    assert message.startswith(str(path)) and says in message


@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (-np.inf, "-inf"), (1e39, "inf")])
def test_a_value_that_is_not_finite_in_float32_is_refused(tmp_path, value, shown):
    x = np.zeros((7, 5))
    x[3, 2] = value
    np.savez(tmp_path / "mine.npz", **stored(x_train=x, x_test=x[:4]))
    message = refused(data.load, "mine", source="npz", dir=str(tmp_path))
    assert f"x_train must be finite in float32, got {shown} in row 3" in message


class Trap:
    def __reduce__(self):
        return pytest.fail, ("an array was unpickled",)


def test_python_objects_in_an_npz_file_are_never_unpickled(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, **stored(x_train=np.zeros((7, 5)), x_test=np.zeros((4, 5))))
    header = "{'descr': '|O', 'fortran_order': False, 'shape': (7,), }".ljust(117) + "\n"
    trap = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    with zipfile.ZipFile(path) as old:
        content = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, value in content.items():
            new.writestr(name, trap + pickle.dumps(Trap()) if name == "x_train.npy" else value)
    message = refused(data.load, "mine", source="npz", dir=str(tmp_path))
    assert message.endswith("got an array of Python objects")


def npy() -> bytes:
    np.save(content := io.BytesIO(), np.zeros(3))
    return content.getvalue()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", pickle.dumps(Trap()), npy()])
def test_a_file_that_is_no_npz_is_refused(tmp_path, content):
    path = tmp_path / "mine.npz"
    path.write_bytes(content)
    message = refused(data.load, "mine", source="npz", dir=str(tmp_path))
    assert message == f"{path} must be an npz file of numbers, got File is not a zip file"


def test_a_zip_archive_of_texts_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "mine.npz", "w") as archive:
        for name in arrays.NAMES:
            archive.writestr(name, "1 2")
    message = refused(data.load, "mine", source="npz", dir=str(tmp_path))
    assert ": x_train must be bytes uint8[N, ...] or floats [N, ...], got " in message


def test_a_missing_npz_file_is_refused_and_the_name_of_ours_is_not_taken(tmp_path):
    message = refused(data.load, "mine", source="npz", dir=str(tmp_path))
    assert message.startswith("data.dir must be a folder with mine.npz, or an npz file")
    for name, dir in (("q" * 300, str(tmp_path)), ("mine", "q" * 300)):
        message = refused(data.load, name, source="npz", dir=dir)
        assert message.startswith(f"data.dir must be a folder with {name}.npz")
    of_ours = refused(data.load, "mnist", source="npz", dir=str(tmp_path))
    assert "for mnist, or a name of your own for source npz, got 'npz'" in of_ours


def test_arrays_of_ones_own_are_hashed_and_have_the_given_classes_and_bounds():
    x, y = np.zeros((4, 2)), np.array([0, 1, 1, 0])
    make = lambda x: data.from_arrays("a", train=(x, y), test=(x, y), num_classes=5, bounds=(-1, 1))
    assert (make(x).num_classes, make(x).bounds) == (5, (-1, 1))
    assert make(x).sha256 == make(x.copy()).sha256 != make(x + 0.5).sha256


BOUNDS = "a: bounds must be finite (lo, hi) with lo < hi in float32 or None, got "


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_classes": 2}, "the label of row 2 of y_train must be 0 to 1, got 2"),
        ({"num_classes": 3.0}, "num_classes must be a whole number from 1 to 2147483648, got 3.0"),
        ({"num_classes": np.True_}, "a: num_classes must be a whole number from 1 to 2147483648"),
        ({"num_classes": 2**31 + 1}, "num_classes must be a whole number from 1 to 2147483648"),
        (
            {"train": (np.zeros((3, 2)), np.array([0, 2**31, 1]))},
            "a: the label of row 1 of y_train must be 0 to 2147483647, got 2147483648",
        ),
        (
            {"train": (np.zeros((3, 2)), np.full(3, -1)), "test": (np.zeros((1, 2)), [-1])},
            "a: the label of row 0 of y_train must be 0 to 0, got -1",
        ),
        ({"bounds": (1, 0)}, f"{BOUNDS}(1, 0)"),
        ({"bounds": "no"}, f"{BOUNDS}'no'"),
        ({"bounds": (-1e300, 1e300)}, f"{BOUNDS}(-1e+300, 1e+300)"),
        ({"bounds": (1, 1 + 1e-12)}, f"{BOUNDS}(1, 1.000000000001)"),
        (
            {"bounds": (-1, -0.5)},
            "a: x_train must be within the bounds (-1.0, -0.5), got 0.0 in row 0",
        ),
        (
            {"bounds": (0, 1), "test": (np.array([[0, 1], [0, 1], [1, 1.25]]), np.arange(3))},
            "a: x_test must be within the bounds (0.0, 1.0), got 1.25 in row 2",
        ),
        ({"bounds": "01"}, f"{BOUNDS}'01'"),
        ({"bounds": ("0", "1")}, f"{BOUNDS}('0', '1')"),
        ({"bounds": {0: 1, 1: 2}}, f"{BOUNDS}{{0: 1, 1: 2}}"),
        ({"bounds": (False, True)}, f"{BOUNDS}(False, True)"),
        ({"bounds": (0, 1, 2)}, f"{BOUNDS}(0, 1, 2)"),
        ({"train": np.zeros((3, 2))}, "a: train must be (x, y), got float64[3, 2]"),
        (
            {"test": {"x": np.zeros((3, 2)), "y": np.arange(3)}},
            "a: test must be (x, y), got {x: float64[3, 2], y: int64[3]}",
        ),
        (
            {"test": (np.zeros((3, 2)), np.arange(3), 0)},
            "a: test must be (x, y), got (float64[3, 2], int64[3], 0)",
        ),
        (
            {"train": (np.ma.zeros((3, 2)), np.arange(3))},
            "a: x_train must be an array of numbers on the host, neither traced nor masked, got "
            "masked float64[3, 2]",
        ),
        (
            {"test": ([[1.0, 2.0], [3.0]], np.arange(2))},
            "a: x_test must be an array of numbers on the host, neither traced nor masked, got "
            "[[1.0, 2.0], [3.0]]",
        ),
        ({"name": "two\nlines"}, "the name of a data set must be a printable text"),
    ],
)
def test_invalid_arguments_of_from_arrays_are_refused(changes, says):
    x = np.zeros((3, 2))
    settings = {"name": "a", "train": (x, np.arange(3)), "test": (x, np.arange(3))} | changes
    assert says in refused(data.from_arrays, **settings)


def test_numbers_may_be_scalars_of_numpy_and_floats_may_be_bfloat16():
    x = np.linspace(0, 1, 6).reshape(3, 2)
    half, settings = jnp.asarray(x, jnp.bfloat16), {"num_classes": np.int64(4)}
    part = half, np.arange(3)
    settings["bounds"] = np.float32([0, 1])
    found = data.from_arrays("a", train=part, test=part, **settings)
    assert found.train.x.dtype == np.float32 and found.bounds == (0.0, 1.0)
    assert (found.num_classes, type(found.num_classes)) == (4, int)
    np.testing.assert_array_equal(found.train.x, np.asarray(half).astype(np.float32))


@pytest.mark.parametrize("bounds", [None, (0, 1), [0.0, np.float32(1)]])
def test_bytes_have_their_own_bounds(bounds):
    part = bytes_of(4)
    assert data.from_arrays("a", train=part, test=part, bounds=bounds).bounds == (0.0, 1.0)


@pytest.mark.parametrize("bounds", [(0, 255), (1, 0), "no", (0, True)])
def test_other_bounds_of_bytes_are_refused(bounds):
    message = refused(data.from_arrays, "a", train=bytes_of(4), test=bytes_of(4), bounds=bounds)
    allowed = "a: bounds must be (0, 1) or None for bytes, which become byte / 255, got "
    assert message.startswith(allowed)


def test_traced_arrays_are_refused():
    y = np.arange(3)
    make = lambda x: data.from_arrays("a", train=(x, y), test=(x, y)).train.x
    message = refused(jax.jit(make), np.zeros((3, 2), np.float32))
    assert "x_train must be an array of numbers on the host, neither traced nor" in message


def test_the_result_of_a_users_function_is_checked_as_arrays_are():
    x, y = np.zeros((4, 2)), np.array([0, 1, 1, 0])
    own = data.Dataset("a", "", {}, data.Arrays(x, y), data.Arrays(x, y), 2, None)
    found = arrays.checked(own, origin="mine:load")
    assert found.train.x.dtype == np.float32 and found.sha256.keys() == {"arrays"}
    assert arrays.checked(own._replace(sha256={"f": "0"}), origin="").sha256 == {"f": "0"}
    message = refused(arrays.checked, {"x": x}, origin="mine:load")
    assert message == "mine:load must return an adv_jax.data.Dataset, got a dict"
    message = refused(arrays.checked, own._replace(num_classes=1), origin="mine:load")
    assert message == "a: the label of row 1 of y_train must be 0 to 0, got 1"
