import gzip
import http.server
import struct
import threading
from pathlib import Path

import numpy as np
import pytest

FULL_MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist"


@pytest.fixture(scope="session")
def encode_idx():
    """A writer of idx files that shares nothing with the parser under test."""

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


@pytest.fixture
def full_mnist() -> Path:
    if not FULL_MNIST.is_dir():
        pytest.skip(f"the full MNIST is not at {FULL_MNIST}")
    return FULL_MNIST


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
def server(folder):
    server = Server({path.name: path.read_bytes() for path in folder.iterdir()})
    yield server
    server.close()
