"""Prepares a data set with the real TFDS builder from raw files on a server; needs TensorFlow.

    python tests/data/prepare.py NAME FOLDER_OF_THE_RAW_FILES URL DATA_DIR FORMAT

It wrote `tests/data/prepared`: MNIST from 30 + 20 of the embedded digits, CIFAR-10 from the 20 + 4
`pictures` of conftest.py.
"""

import sys
from pathlib import Path

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.checksums import compute_url_info
from tensorflow_datasets.image_classification import cifar, mnist


def main(name: str, folder: str, url: str, data_dir: str, file_format: str) -> None:
    infos = {url + file.name: compute_url_info(file) for file in sorted(Path(folder).glob("*.gz"))}
    mnist.MNIST.url_infos = cifar.Cifar10.url_infos = infos
    mnist.MNIST.URL = url
    mnist._TRAIN_EXAMPLES, mnist._TEST_EXAMPLES = 30, 20
    info = cifar.Cifar10._cifar_info.fget
    cifar.Cifar10._cifar_info = property(lambda self: info(self)._replace(url=next(iter(infos))))
    builder = tfds.builder(name, data_dir=data_dir, file_format=file_format)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
