"""Settings of classifier stages: defaults, and every error."""

import dataclasses

import pytest

from ltjax import config as configs
from ltjax.stages import classifier

UPDATE = {"batch_norm": "update"}
ADJUST = {"loss": "logit_adjustment"}


def test_defaults_are_those_of_both_blocks():
  """Each block lacks one field, which is then the default."""
  names = {f.name for f in dataclasses.fields(classifier.Settings)}
  config = configs.default()
  for field, missing in (("classifier", "data"), ("refit", "kind")):
    found = classifier.of(field, config[field])
    assert found == classifier.Settings(field)
    assert names - set(config[field]) == {missing, "field"}


def test_settings_are_those_of_the_block():
  block = configs.default().refit
  block.views, block.sampler, block.loss = 3, "random", "logit_adjustment"
  assert classifier.of("refit", block) == classifier.Settings(
    "refit", views=3, sampler="random", loss="logit_adjustment"
  )


@pytest.mark.parametrize(
  "choices, message",
  [
    ({"views": 3} | UPDATE, r"views is 3, but .*\.views=1, .*norm=frozen"),
    ({"views": 0} | UPDATE, "views is 0, but with .*batch_norm=update nothing"),
    (ADJUST, "loss is 'logit_adjustment', .*'class_balanced', .*=random"),
    ({"loss": "class_balanced"}, "loss is 'class_balanced', which adjusts"),
    ({"max_norm": 0.1, "kind": "lws"}, "max_norm is 0.1, but .*kind=lws"),
    (ADJUST | {"sampler": "square_root"}, "loss is .*'square_root', which has"),
  ],
)
def test_what_does_not_fit_is_refused(choices, message):
  for field in ("classifier", "refit"):
    with pytest.raises(ValueError, match=f"^{field}.{message}"):
      classifier.Settings(field, **choices)
