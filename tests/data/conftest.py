import gzip
import http.server
import io
import os
import struct
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

CIFAR10_FILES = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]


@pytest.fixture(scope="session")
def encode_idx():
    """Returns a writer of idx files that shares no code with the parser under test."""

    def encode(values: np.ndarray) -> bytes:
        header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
        return header + values.tobytes()

    return encode


@pytest.fixture
def digits() -> dict[str, np.ndarray]:
    """Idx name -> u8 array: 30 + 20 random images."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 30), ("t10k", 20)):
        arrays[f"{split}-images-idx3-ubyte"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{split}-labels-idx1-ubyte"] = np.arange(count, dtype=np.uint8) % 10
    return arrays


@pytest.fixture
def folder(tmp_path, digits, encode_idx) -> Path:
    """`digits` as four gzipped idx files."""
    path = tmp_path / "idx"
    path.mkdir()
    for name, values in digits.items():
        (path / f"{name}.gz").write_bytes(gzip.compress(encode_idx(values), mtime=0))
    return path


def whole_set(name: str) -> Path:
    """Returns a path in the folder ADV_JAX_DATA; skips the test without it."""
    folder = os.environ.get("ADV_JAX_DATA")
    if not folder:
        pytest.skip(f"ADV_JAX_DATA, the folder with {name}, is not set")
    path = Path(folder) / name
    if not path.exists():
        pytest.skip(f"{path} is missing")
    return path


@pytest.fixture
def full_mnist() -> Path:
    """The folder with the four files of MNIST."""
    return whole_set("mnist")


@pytest.fixture(scope="session")
def pictures() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """CIFAR-10's file names -> asymmetric images u8[4, 32, 32, 3] and labels u8[4]."""
    n, row, column, color = np.ogrid[:24, :32, :32, :3]
    images = ((37 * n + 3 * row + 5 * column + 80 * color) % 256).astype(np.uint8)
    labels = (np.arange(24, dtype=np.uint8) * 7) % 10
    return {
        name: (images[4 * i : 4 * i + 4], labels[4 * i : 4 * i + 4])
        for i, name in enumerate(CIFAR10_FILES)
    }


@pytest.fixture(scope="session")
def encode_cifar10():
    """Returns a writer of CIFAR-10's records that shares no code with the parser under test."""

    def encode(images: np.ndarray, labels: np.ndarray) -> bytes:
        return b"".join(
            bytes([label]) + b"".join(image[:, :, color].tobytes() for color in range(3))
            for image, label in zip(images, labels, strict=True)
        )

    return encode


@pytest.fixture
def batches(pictures, encode_cifar10) -> dict[str, bytes]:
    """`pictures` as the contents of six binary files."""
    return {name: encode_cifar10(*arrays) for name, arrays in pictures.items()}


@pytest.fixture(scope="session")
def pack():
    """Writes a cifar-10-binary.tar.gz into a folder: path in it -> content, None for a folder."""

    def pack(folder: Path, contents: dict[str, bytes | None]) -> Path:
        folder.mkdir(exist_ok=True)
        path = folder / "cifar-10-binary.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            for name, content in contents.items():
                member = tarfile.TarInfo(name)
                member.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
                member.size = len(content or b"")
                tar.addfile(member, io.BytesIO(content or b""))
        return path

    return pack


@pytest.fixture
def archive(tmp_path, batches, pack) -> Path:
    """`batches` in an archive like the distributed one: another order, and other files."""
    contents = {f"cifar-10-batches-bin/{name}": batches[name] for name in reversed(batches)}
    contents["cifar-10-batches-bin/batches.meta.txt"] = b"\n".join(b"%d" % k for k in range(10))
    return pack(tmp_path / "archive", {"cifar-10-batches-bin": None} | contents)


@pytest.fixture(scope="session")
def jpeg_cifar10(tmp_path_factory) -> Path:
    """Unpacks the whole CIFAR-10 from a copy that was compressed as JPEG."""
    script = whole_set("unpack_cifar10")
    folder = tmp_path_factory.mktemp("cifar10")
    subprocess.run([sys.executable, script, folder], check=True, capture_output=True)
    return folder


class Server:
    """Serves `files` (name -> body) on the loopback; counts the GETs; can cut a body short."""

    def __init__(self, files: dict[str, bytes]):
        self.files, self.gets, self.cut = dict(files), [], set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.rsplit("/", 1)[-1]
                outer.gets.append(name)
                if name not in outer.files:
                    return self.send_error(404)
                body = outer.files[name]
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if name in outer.cut else body)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def serve():
    """Starts a server of the files in a folder."""
    servers = []

    def serve(folder: Path) -> Server:
        servers.append(Server({path.name: path.read_bytes() for path in folder.iterdir()}))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


@pytest.fixture
def server(serve, folder) -> Server:
    return serve(folder)


@pytest.fixture
def builder_of(monkeypatch):
    """Returns a function that points a TFDS builder at a server with given files."""
    from tensorflow_datasets.core.download.checksums import compute_url_info
    from tensorflow_datasets.image_classification.cifar import Cifar10
    from tensorflow_datasets.image_classification.mnist import MNIST

    builders = {"mnist": MNIST, "cifar10": Cifar10}

    def patch(url: str, folder: Path, name: str = "mnist"):
        infos = {url + path.name: compute_url_info(path) for path in sorted(folder.iterdir())}
        monkeypatch.setattr(builders[name], "url_infos", infos)

    return patch
