"""Self-supervised learning on your own long-tailed images: any set, as it is.

    python -m ltjax.main \
      --config=configs/natural_fassl.py:source=npz:plankton.npz,classes=121 \
      --workdir=runs/plankton

Arguments, as in `:source=folder:pictures,classes=40,row=sdclr`:
  source: `npz:PATH`, `folder:PATH` or a name, see docs/data.md; without a test
    part a fifth of each class becomes one.
  classes: how many classes it has, for groups of thirds.
  row: what to run, as in configs/cifar10_fassl.py.
  size: pixels of a side, to which images are resized.
  fraction: of each class, for a quick look.

Every image of the set trains, however skewed its classes are; labels are only
read by the probes, which learn from the same images, and by the log. Test sets
are as skewed: read `balanced_accuracy` and `group_mean`. ResNet-18, 200 epochs
of SDCLR, 50 of prototypes, 200 of the student.

Nothing is claimed for it: your set is yours.
"""

from ltjax import config as configs
from ltjax.config import rows
from ltjax.data.splits import groups


def get_config(arg=None):
  arg = configs.parse_arg(
    arg,
    source="digits",
    classes=10,
    row="fassl",
    size=32,
    fraction=1.0,
    variant="paper",
  )
  config = configs.default(arg.variant)
  config.data.source = arg.source
  config.data.image_size = arg.size
  config.data.labeled.profile = "natural"
  config.data.labeled.fraction = arg.fraction
  config.data.unlabeled.factor = 0.0
  config.data.groups = groups.thirds(arg.classes)
  rows.sdclr_recipe(config)
  config.pretrain.epochs = 200
  config.prototypes.epochs = 50
  config.student.epochs = 200
  rows.apply(config, arg.row)
  if config.method == "probe":
    config.data.probe.images = "train"
    config.probe.protocols = "knn,cached_adam"
  return config
