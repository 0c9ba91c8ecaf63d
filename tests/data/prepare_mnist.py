"""Prepares MNIST with the real TFDS builder from idx files on a server; needs TensorFlow.

    python tests/data/prepare_mnist.py FOLDER_OF_THE_IDX_FILES URL DATA_DIR FORMAT

`tests/data/prepared` was written so, from 30 + 20 of the embedded digits.
"""

import sys
from pathlib import Path

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.checksums import compute_url_info
from tensorflow_datasets.image_classification import mnist


def main(folder: str, url: str, data_dir: str, file_format: str) -> None:
    files = sorted(Path(folder).glob("*.gz"))
    mnist.MNIST.URL = url
    mnist.MNIST.url_infos = {url + file.name: compute_url_info(file) for file in files}
    mnist._TRAIN_EXAMPLES, mnist._TEST_EXAMPLES = 30, 20
    builder = tfds.builder("mnist", data_dir=data_dir, file_format=file_format)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
