"""MNIST and CIFAR-10 through TensorFlow Datasets, without TensorFlow.

TFDS needs TensorFlow to prepare a data set or read tfrecord, but not to read array_record or fetch
the raw files. Without an array_record set, the raw files (with the same images) are read, from
TFDS's cache or the network. TensorFlow is never imported: it would print and claim the memory of
the accelerator.
"""

import io
import os
import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

import numpy as np

from adv_jax.data import cifar10 as cifar10_files
from adv_jax.data import files
from adv_jax.data import mnist as mnist_files
from adv_jax.data.dataset import Arrays, DataError, Dataset, ImageSet, MissingData

_PROBE_SECONDS = 10


def mnist(dir: str = "") -> Dataset:
    """Loads MNIST from the TFDS data directory `dir` ("": TFDS_DATA_DIR or TFDS's default).

    A prepared set is in TFDS's shuffled order, the raw files in their original one.

    Raises:
      MissingData: no prepared set and the download failed, or TFDS is not installed.
      DataError: the files are corrupt.
    """
    return _load(
        mnist_files.MNIST,
        lambda raw: mnist_files.read_splits(
            mnist_files.MNIST,
            mnist_files.SPLITS,
            {name.removesuffix(".gz"): path for name, path in raw.items()},
            source="tfds",
        )[0],
        dir,
    )


def cifar10(dir: str = "") -> Dataset:
    """Loads CIFAR-10 from the TFDS data directory `dir`, as `mnist`; the raw file is one archive.

    Raises:
      MissingData, DataError: as `mnist`.
    """
    return _load(
        cifar10_files.CIFAR10,
        lambda raw: cifar10_files.from_archive(raw[cifar10_files.ARCHIVE], source="tfds"),
        dir,
    )


def _load(images: ImageSet, from_raw: Callable[[dict[str, Path]], Dataset], dir: str) -> Dataset:
    """Returns the prepared set, else from_raw({name in the url: path}) of the raw files."""
    try:
        import tensorflow_datasets as tfds

        builder = tfds.builder(images.name, data_dir=dir or None)
        formats = {file_format.value for file_format in builder.info.available_file_formats()}
        if builder.info.initialized and "array_record" in formats:
            return _prepared(images, builder)
    except ImportError as error:
        raise MissingData(f"data.source: 'tfds' lacks a package ({_first_line(error)})") from None
    except DataError:
        raise
    except Exception as error:  # TFDS, array_record and Pillow raise many types.
        raise MissingData(
            f"{dir or 'data directory of TFDS'}: the prepared set cannot be read "
            f"({_first_line(error)}), delete it to fetch the raw files instead"
        ) from error
    return from_raw(_raw_files(builder))


def _prepared(images: ImageSet, builder) -> Dataset:
    from PIL import Image
    from tensorflow_datasets import decode

    def arrays(split: str) -> Arrays:
        # Decoding here saves a third of the time and TFDS's warning about OpenCV.
        records = builder.as_data_source(
            split, decoders={"image": decode.SkipDecoding()}, file_format="array_record"
        )
        records = records.__getitems__(range(len(records)))
        pixels = np.stack(
            [np.atleast_3d(np.asarray(Image.open(io.BytesIO(r["image"])))) for r in records]
        )
        if pixels.shape[1:] != images.shape or pixels.dtype != np.uint8:
            raise ValueError(f"images {pixels.dtype}{list(pixels.shape[1:])}")
        labels = np.array([r["label"] for r in records])
        return images.arrays(pixels, labels, origin=builder.data_dir)

    train, test = arrays("train"), arrays("test")
    shards = sorted(Path(builder.data_dir).glob("*.array_record*"))
    sha256 = {shard.name: files.sha256(shard) for shard in shards}
    return images.dataset("tfds", sha256, train=train, test=test)


def _raw_files(builder) -> dict[str, Path]:
    """Returns the builder's raw files, from TFDS's cache or the network, with checked checksums."""
    from tensorflow_datasets.core.download.resource import get_dl_fname

    cache = Path(os.fspath(builder.data_dir_root), "downloads")
    cached = {
        url: cache / builder.name / get_dl_fname(url, info.checksum)
        for url, info in builder.url_infos.items()
    }
    missing = {url: path for url, path in cached.items() if not os.path.exists(path)}
    if missing:
        _download(builder, missing, cache)
    paths = {}
    for url, path in cached.items():
        if (found := files.sha256(path)) != builder.url_infos[url].checksum:
            raise DataError(
                f"{path}: SHA-256 must be {builder.url_infos[url].checksum}, got {found}; delete "
                "the file to fetch it again"
            )
        paths[url.rsplit("/", 1)[-1]] = path
    return paths


def _download(builder, missing: dict[str, Path], cache: Path) -> None:
    """Fetches each url to its path, atomically."""
    from tensorflow_datasets.core.download.download_manager import (
        DownloadManager,
        NonMatchingChecksumError,
    )
    from tensorflow_datasets.core.download.resource import get_info_path
    from tensorflow_datasets.core.download.util import DownloadError

    url = next(iter(missing))
    try:
        _probe(url)
        cache.mkdir(parents=True, exist_ok=True)
        # TFDS leaves partial files after a failed download: use a scratch folder.
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            manager = DownloadManager(
                download_dir=scratch,
                url_infos=builder.url_infos,
                dataset_name=builder.name,
                force_checksums_validation=True,
            )
            for url, path in missing.items():
                fetched = manager.download(url)
                path.parent.mkdir(exist_ok=True)
                # Move the .INFO first: TFDS, too, takes a file with its .INFO for cached.
                info = get_info_path(fetched)
                os.replace(info, path.with_name(info.name))
                os.replace(fetched, path)
    except (OSError, HTTPException, DownloadError, NonMatchingChecksumError) as error:
        raise MissingData(f"{url}: cannot be fetched into {cache} ({_first_line(error)})") from None


def _probe(url: str) -> None:
    """Raises OSError if the server does not answer: TFDS would retry for three minutes."""
    try:
        request = urllib.request.Request(url, method="HEAD")
        urllib.request.urlopen(request, timeout=_PROBE_SECONDS).close()
    except urllib.error.HTTPError as error:
        error.close()
    except urllib.error.URLError as error:
        # TFDS has its own trusted certificates and may still succeed.
        if not isinstance(error.reason, ssl.SSLError):
            raise


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(":")
