"""SSLT on ImageNet-SSLT, ResNet-18 or 50: Table 2 of the paper.

    python -m ltjax.main --config=configs/imagenet_sslt.py:root=IMAGENET \
      --workdir=runs/imagenet

IMAGENET holds `train/CLASS/*.JPEG` and, sorted into the same classes, the
50,000 validation pictures of ILSVRC-2012 as `test/CLASS/*.JPEG` (a link will
do). Arguments, joined by commas:
  root: that folder.
  model: `resnet18`, or `resnet50` for the other half of the table.
  row: a row of the table: `sslt`, `decoupling`, `pseudo_label_d`, `ldam_drw`,
    `pseudo_label_l`, `mean_teacher_l`; see `ltjax/config/rows.py`.
  cache: a folder for the decoded pictures, 50 GB: none is decoded twice.
  train, test, unlabeled: three list files to use instead, whose lines are
    `path class`, the paths from `root` on. The authors' lists fit as they are.
  variant: `paper` or `author_code`.

Without lists a Lomax distribution (alpha 6, scale 1000) gives the labeled set,
41,134 pictures, 250 of a class down to 2, and the unlabeled one, four times as
many in each class. Which classes are large the paper does not say: here they
rank in the order of their folders (`config.data.labeled.class_order` sets
another), and a class that has too few pictures is named.

The pictures stay in their files and are read batch by batch (docs/data.md). The
paper does not tell their size or augmentation. Here they are the field's:
windows of random size, rescaled to 224 pixels and mirrored, out of the middle
256 x 256 of a picture; the middle 224 pixels for testing. Batches of 512 are
the authors'.

Look before you train: `--dry_run` finds every picture and tells the memory.
Not yet measured: no accuracy or time is claimed here. The paper reports 26.5 %
with ResNet-18 and 29.0 % with ResNet-50.
"""

from ltjax import config as configs
from ltjax.config import rows


def get_config(arg=None):
  arg = configs.parse_arg(
    arg,
    row="sslt",
    model="resnet18",
    variant="paper",
    root="imagenet",
    cache="",
    train="",
    test="",
    unlabeled="",
  )
  config = configs.default(arg.variant)
  data = config.data
  data.copies = "ignore"  # the published split, as it is; no scan of its files
  if arg.train:
    data.source = f"list:{arg.train},{arg.test}"
    data.root = arg.root
    data.labeled.profile = "natural"
    data.unlabeled.source = f"list:{arg.unlabeled}"
    data.unlabeled.profile = "natural"
  else:
    data.source = f"folder:{arg.root}"
    data.labeled.profile = "lomax"
    data.labeled.max_count = 250
    data.unlabeled.factor = 4.0
  data.storage = "host"
  data.cache = arg.cache
  data.image_size = 256
  data.resize = "crop"
  data.crop_size = 224
  data.augment = "random_resized_crop"
  # The authors' code counts 100 images as many.
  data.group_counts = (99 if arg.variant == "author_code" else 100, 10)
  config.model.name = arg.model
  config.model.dtype = "bfloat16"
  for block in (
    config.pretrain,
    config.embedding,
    config.classifier,
    config.pseudo,
    config.semi,
    config.consistency,
    config.refit,
  ):
    block.batch_size = 512
  return rows.apply(config, arg.row)
