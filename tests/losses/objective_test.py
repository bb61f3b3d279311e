import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import config as configs
from ltjax.losses import (
  adjustment,
  classification,
  margins,
  objective,
  sigmoid,
  weights,
)
from ltjax.losses import settings as loss_settings
from ltjax.models import heads

COUNTS = jnp.array([50.0, 20.0, 5.0, 1.0])
EPOCHS = 10


def make(head="cosine", head_scale=30.0, num_classes=4, **settings):
  return objective.make(
    settings, head=head, head_scale=head_scale, num_classes=num_classes
  )


def draw(seed=0, batch=16):
  rng = np.random.default_rng(seed)
  logits = jnp.asarray(3 * rng.normal(size=(batch, 4)), jnp.float32)
  return logits, jnp.asarray(rng.integers(0, 4, batch), jnp.int32)


def call(chosen, logits, labels, epoch=0, epochs=EPOCHS, **rest):
  """Calls an objective as a step does: inside jit, with a traced epoch."""

  @jax.jit
  def run(logits, labels, counts, epoch, rest):
    return chosen(
      logits, labels, counts=counts, epoch=epoch, epochs=epochs, **rest
    )

  loss = run(logits, labels, COUNTS, jnp.int32(epoch), rest)
  assert loss.shape == () and loss.dtype == jnp.float32
  return loss


SHARES = COUNTS / COUNTS.sum()
DELTA = (0.1, 0.2, 0.3, 0.4)
EXPECTED = {
  "cross_entropy": classification.cross_entropy,
  "focal": lambda z, y: classification.focal(z, y, gamma=2.0),
  "sigmoid": sigmoid.cross_entropy,
  "sigmoid_focal": lambda z, y: sigmoid.focal_cross_entropy(z, y, gamma=2.0),
  "ldam": lambda z, y: margins.ldam(
    z, y, margins=margins.from_counts(COUNTS, largest=0.4), scale=30.0
  ),
  "ldam_hinge": lambda z, y: margins.ldam_hinge(
    z, y, margins=margins.from_counts(COUNTS, largest=0.4), scale=30.0
  ),
  "logit_adjustment": lambda z, y: adjustment.logit_adjustment(
    z, y, prior=SHARES, tau=1.5
  ),
  "pairwise": lambda z, y: adjustment.pairwise(
    z, y, delta=jnp.array(DELTA), prior=SHARES
  ),
  "vs": lambda z, y: adjustment.vs(z, y, counts=COUNTS, gamma=0.2, tau=1.5),
}


def settings_of(name):
  settings = {
    "name": name, "gamma": 2.0, "margin": 0.4, "tau": 1.5, "vs_gamma": 0.2
  }  # fmt: skip
  # Delta counts by its ratios only.
  extra = {"delta": tuple(7 * d for d in DELTA)} if name == "pairwise" else {}
  return settings | extra


def test_every_name_is_expected_here():
  assert set(EXPECTED) == set(loss_settings.NAMES)


@pytest.mark.parametrize("name", EXPECTED)
def test_each_name_is_the_mean_of_its_loss(name):
  logits, labels = draw()
  got = call(make(**settings_of(name)), logits, labels)
  np.testing.assert_allclose(
    got, np.mean(EXPECTED[name](logits, labels)), rtol=1e-5
  )


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("reduction", loss_settings.REDUCTIONS)
def test_each_name_with_each_reduction_takes_weights(name, reduction):
  logits, labels = draw(1)
  chosen = make(
    **settings_of(name), weights="effective_number", reduction=reduction
  )
  losses = np.asarray(EXPECTED[name](logits, labels))
  w = np.asarray(weights.effective_number(COUNTS))[labels]
  divisor = len(labels) if reduction == "mean" else w.sum()
  np.testing.assert_allclose(
    call(chosen, logits, labels), (w * losses).sum() / divisor, rtol=1e-5
  )


def test_golden_weighted_mean_as_pytorch():
  # Classes weigh 0.5 and 1.5; losses log 2 and log(1 + e).
  chosen = make(
    num_classes=2,
    weights="explicit",
    class_weights=(1.0, 3.0),
    reduction="weighted_mean",
  )
  logits = jnp.array([[0.0, 0.0], [1.0, 0.0]])
  loss = chosen(
    logits, jnp.array([0, 1]), counts=jnp.ones(2), epoch=0, epochs=1
  )
  np.testing.assert_allclose(loss, (0.6931472 + 3 * 1.3132617) / 4, rtol=1e-6)


@pytest.mark.parametrize(
  "rule, expected",
  [
    ("none", (1, 1, 1, 1)),
    ("inverse", (0.0629921, 0.1574803, 0.6299213, 3.1496063)),
    ("explicit", (0.4, 0.8, 1.2, 1.6)),
  ],
)
def test_class_weights(rule, expected):
  given = (1.0, 2.0, 3.0, 4.0) if rule == "explicit" else ()
  chosen = make(weights=rule, class_weights=given)
  got = chosen.class_weights(COUNTS, epoch=0, epochs=EPOCHS)
  np.testing.assert_allclose(got, expected, rtol=2e-6)


def test_effective_numbers_take_beta():
  got = make(weights="effective_number", beta=0.9).class_weights(
    COUNTS, epoch=0, epochs=EPOCHS
  )
  np.testing.assert_allclose(
    got, weights.effective_number(COUNTS, beta=0.9), rtol=1e-6
  )


@pytest.mark.parametrize(
  "defer, epochs, begin",
  [(0.8, 200, 160), (0.0, 5, 0), (0.5, 4, 2), (0.8, 2, 1), (0.99, 3, 2)],
)
def test_deferred_weights_begin(defer, epochs, begin):
  chosen = make(weights="inverse", defer=defer)
  all_weights = jax.vmap(
    lambda e: chosen.class_weights(COUNTS, epoch=e, epochs=epochs)
  )(jnp.arange(epochs))
  np.testing.assert_allclose(np.sum(all_weights, -1), 4.0, rtol=1e-6)
  late = np.asarray(weights.inverse(COUNTS))
  for epoch, got in enumerate(np.asarray(all_weights)):
    np.testing.assert_array_equal(got, late if epoch >= begin else np.ones(4))


def test_deferred_weights_inside_a_step():
  logits, labels = draw(2)
  chosen = make(name="ldam", weights="effective_number", defer=0.8)
  plain = make(name="ldam")
  weighted = make(name="ldam", weights="effective_number")
  early, late = (call(chosen, logits, labels, epoch=e) for e in (7, 8))
  assert early == call(plain, logits, labels)
  assert late == call(weighted, logits, labels) != early


def test_weighted_focal_is_that_of_the_published_code():
  logits, labels = draw(3)
  w = np.asarray(weights.effective_number(COUNTS), np.float64)[labels]
  ce = w * np.asarray(classification.cross_entropy(logits, labels), np.float64)
  expected = np.mean((1 - np.exp(-ce)) ** 1.0 * ce)
  settings = {"name": "focal", "weights": "effective_number"}
  got = call(make(**settings, weighted_focal=True), logits, labels)
  np.testing.assert_allclose(got, expected, rtol=1e-5)
  assert abs(call(make(**settings), logits, labels) - got) > 1e-3
  # Without class weights there is no difference.
  np.testing.assert_allclose(
    call(make(name="focal", weighted_focal=True), logits, labels),
    call(make(name="focal"), logits, labels),
    rtol=1e-6,
  )


@pytest.mark.parametrize(
  "reduction, weighted_focal",
  [("mean", False), ("mean", True), ("weighted_mean", False)],
)
def test_example_weights(reduction, weighted_focal):
  logits, labels = draw(4)
  chosen = make(
    name="focal", weighted_focal=weighted_focal, reduction=reduction
  )
  losses = np.asarray(classification.focal(logits, labels, gamma=1.0))
  omega = jnp.where(jnp.arange(16) < 10, 1.0, 0.25)
  divisor = 16 if reduction == "mean" else omega.sum()
  np.testing.assert_allclose(
    call(chosen, logits, labels, example_weights=omega),
    (omega * losses).sum() / divisor,
    rtol=1e-5,
  )
  ones = jnp.ones(16)
  np.testing.assert_array_equal(
    call(chosen, logits, labels, example_weights=ones),
    call(chosen, logits, labels),
  )


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("reduction", loss_settings.REDUCTIONS)
def test_a_masked_example_is_not_there(name, reduction):
  # Also where its label is the -1 of an unlabeled image.
  logits, labels = draw(5)
  chosen = make(**settings_of(name), weights="inverse", reduction=reduction)
  mask = jnp.where(jnp.arange(16) < 12, 1.0, 0.0)
  unknown = jnp.where(mask > 0, labels, -1)

  @jax.jit
  @jax.value_and_grad
  def loss(z):
    return chosen(
      z, unknown, counts=COUNTS, epoch=0, epochs=1, example_weights=mask
    )

  value, grad = loss(logits)
  alone = call(chosen, logits[:12], labels[:12])
  factor = 12 / 16 if reduction == "mean" else 1.0
  np.testing.assert_allclose(value, factor * alone, rtol=1e-5)
  np.testing.assert_array_equal(grad[12:], np.zeros((4, 4)))
  assert np.all(np.abs(grad[:12]).sum() > 0)


def test_a_mask_of_zeros():
  logits, labels = draw(6)
  for reduction in loss_settings.REDUCTIONS:
    zero = call(
      make(reduction=reduction), logits, labels, example_weights=jnp.zeros(16)
    )
    assert zero == 0


def test_a_wrong_label_or_logit_shows():
  logits, labels = draw(7)
  broken, wrong = logits.at[0].set(jnp.nan), labels.at[0].set(4)
  ones = jnp.ones(16)
  mask = ones.at[0].set(0.0)
  for name in EXPECTED:
    chosen = make(**settings_of(name))

    @jax.jit
    def loss(z, y, w, chosen=chosen):
      return chosen(z, y, counts=COUNTS, epoch=0, epochs=1, example_weights=w)

    assert np.isnan(loss(logits, wrong, ones))
    assert np.isfinite(loss(logits, wrong, mask))
    assert np.isnan(loss(broken, labels, ones))
    # A network that breaks is not hidden by a mask.
    assert np.isnan(loss(broken, labels, mask))


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("rule", ["none", "effective_number", "inverse"])
def test_an_empty_class_stays_finite(name, rule):
  logits, labels = draw(8)
  chosen = make(**settings_of(name), weights=rule)
  counts = jnp.array([50.0, 0.0, 5.0, 0.0])

  @jax.jit
  @jax.value_and_grad
  def loss(z):
    return chosen(z, labels, counts=counts, epoch=0, epochs=1)

  value, grad = loss(logits)
  assert np.isfinite(value) and np.isfinite(grad).all()


def test_counts_enter_as_an_array():
  # Labeled and pseudo-labeled counts move the margins without a new program.
  logits, labels = draw(9)
  chosen = make(name="ldam")
  compiled = []

  @jax.jit
  def run(counts):
    compiled.append(1)
    return chosen(logits, labels, counts=counts, epoch=0, epochs=1)

  assert run(COUNTS) != run(COUNTS + 20.0)
  assert len(compiled) == 1


def test_ldam_takes_the_scale_of_the_head():
  features = jnp.asarray(np.random.default_rng(0).normal(size=(16, 6)))
  _, labels = draw()
  for scale in (10.0, 30.0):
    head = heads.cosine(6, 4, scale=scale)
    params = head.init(jax.random.key(0))
    cosines = np.asarray(head.apply(params, features)) / scale
    m = 0.5 * (1 / np.asarray(COUNTS)) ** 0.25
    z = scale * (cosines - m[None] * np.eye(4)[labels])
    expected = np.log(np.exp(z).sum(1)) - z[np.arange(16), labels]
    got = call(
      make(name="ldam", head_scale=scale), head.apply(params, features), labels
    )
    np.testing.assert_allclose(got, expected.mean(), rtol=1e-4)


def test_made_from_a_config():
  config = configs.default()
  chosen = objective.make(
    config.loss, head="linear", head_scale=16.0, num_classes=4
  )
  # The defaults of the config are those of the settings.
  assert chosen.settings == loss_settings.Settings()
  assert chosen == make(head="linear", head_scale=16)
  same = objective.make(
    chosen.settings, head="linear", head_scale=16.0, num_classes=4
  )
  assert same == chosen
  config.loss.update(name="pairwise", delta=(1, 2, 3, 4))
  chosen = objective.make(
    config.loss, head="linear", head_scale=16.0, num_classes=4
  )
  assert chosen.settings.delta == (1, 2, 3, 4)


def test_wrong_shapes():
  logits, labels = draw()
  for args in (
    (logits[:, :3], labels, COUNTS),
    (logits, labels[:3], COUNTS),
    (logits, labels, COUNTS[:3]),
  ):
    with pytest.raises(AssertionError):
      make()(*args[:2], counts=args[2], epoch=0, epochs=1)
  with pytest.raises(AssertionError):
    call(make(), logits, labels, example_weights=jnp.ones(3))


def test_make_and_check_counts_refuse():
  with pytest.raises(ValueError, match="model.head=cosine"):
    make(name="ldam", head="linear")
  with pytest.raises(ValueError, match="2 .b., 3 .c."):
    make(name="vs").check_counts(
      jnp.array([3.0, 1.0, 0.0, 0.0]), class_names="wabc"
    )
  make(name="vs").check_counts(COUNTS)
