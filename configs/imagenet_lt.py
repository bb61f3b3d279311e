"""Long-tailed recognition on ImageNet-LT, ResNet-50, from lists or records.

    python -m ltjax.main --config=configs/imagenet_lt.py:root=IMAGENET \
      --workdir=runs/imagenet_lt

ImageNet-LT (Liu et al., 2019) has 115,846 training pictures of 1000 classes,
1280 of a class down to 5, and 50 test pictures of each. Its lists
`ImageNet_LT_train.txt` and `ImageNet_LT_test.txt` are published; IMAGENET is
the folder with `train/` and `val/` that their paths start from. Arguments,
joined by commas:
  source: `arrayrecord:FOLDER` instead of lists: eight files or so instead of
    165,846, which network disks thank you for. Such a folder is written by
    `python -m ltjax.data.records list:LISTS FOLDER --root=IMAGENET --shards=64`
    (LISTS has `train.txt` and `test.txt`), or prepared by TFDS as
    `imagenet_lt`.
  root: that folder.
  train, test: the two list files.
  model: `resnet50`, or `resnet18`.
  row: `decoupling`, or any of `ltjax/config/rows.py` that needs no unlabeled
    images: `ce`, `ldam_drw`, `tau_norm`, `logit_adjustment`, `square_root` ...
  workers: processes that decode; one for each processor that can be spared.
  cache: a folder for the decoded pictures, 33 GB: none is decoded twice.

Batches of 512, 90 epochs of cosine from 0.2, then 10 for the classifier, as
Kang et al. (2020); they also jitter colours, which this does not. Windows of
random size out of the middle 256 x 256, rescaled to 224 and mirrored; the
middle 224 pixels for testing. Groups are the field's: many-shot above 100
training pictures, few-shot below 20.

Look before you train: `--dry_run` finds the pictures and tells what lies on the
host and on the device. Nothing was measured at full size: no accuracy, time or
memory is claimed here. The way through it, shards, workers, kill and resume, is
tested on thousands of small pictures.
"""

from ltjax import config as configs
from ltjax.config import rows


def get_config(arg=None):
  arg = configs.parse_arg(
    arg,
    source="",
    root="imagenet",
    train="ImageNet_LT_train.txt",
    test="ImageNet_LT_test.txt",
    model="resnet50",
    row="decoupling",
    workers=8,
    cache="",
    variant="paper",
  )
  config = configs.default(arg.variant)
  data = config.data
  data.source = arg.source or f"list:{arg.train},{arg.test}"
  data.root = arg.root
  data.copies = "ignore"  # the published split, as it is; no scan of its files
  data.labeled.profile = "natural"
  data.unlabeled.factor = 0.0
  data.storage = "host"
  data.workers = arg.workers
  data.cache = arg.cache
  data.image_size = 256
  data.resize = "crop"
  data.crop_size = 224
  data.augment = "random_resized_crop"
  data.group_counts = (100, 19)  # more than 100; at most 19
  config.model.name = arg.model
  config.model.dtype = "bfloat16"
  config.embedding.epochs = 90
  config.classifier.epochs = 10
  for block in (config.embedding, config.classifier):
    block.batch_size = 512
    block.learning_rate = 0.2
  return rows.apply(config, arg.row)
