"""papers.running.images loads the data set of a run, without its preprocessing."""

import json

import pytest

from adv_jax.types import UserError
from papers.running import images
from papers.running.drawing import Drawing


@pytest.fixture
def workdir(tmp_path):
    spec = {"name": "mnist", "source": "embedded", "dir": "", "preprocess": [{"name": "gray"}]}
    (tmp_path / "config.json").write_text(json.dumps({"data": spec}))
    return str(tmp_path)


def test_images_of_a_run_are_those_of_the_source(workdir):
    dataset = images.of_run([workdir], name="mnist")
    assert dataset.test.x.shape == (1000, 28, 28, 1)
    assert (dataset.test.x.min(), dataset.test.x.max()) == (0, 1)
    assert images.in_words(dataset) == "the 5,000-digit sample of MNIST"
    drawing = images.with_source(Drawing(None, {"caption": "c"}), dataset)
    assert drawing.document["data"]["sha256"] == dataset.sha256 and "caption" in drawing.document


def test_the_jpeg_copy_of_cifar10_is_named(workdir):
    copied = images.of_run([workdir], name="mnist")._replace(
        name="cifar10", source="files", sha256={"test_batch.bin": "04f67814" + 56 * "0"}
    )
    assert images.in_words(copied) == "the JPEG copy of CIFAR-10"
    original = copied._replace(sha256={"test_batch.bin": 64 * "0"})
    assert images.in_words(original) == "CIFAR-10, 4,000 to train"


def test_other_data_and_several_runs_are_refused_by_name(workdir):
    with pytest.raises(
        UserError, match=f"^workdir must be a run on cifar10, got {workdir} on mnist"
    ):
        images.of_run([workdir], name="cifar10")
    with pytest.raises(UserError, match="^workdir must be one run, got a, b$"):
        images.of_run(["a", "b"], name="cifar10")
