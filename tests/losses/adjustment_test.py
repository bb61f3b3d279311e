import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import adjustment, classification, margins, weights

COUNTS = (500, 100, 20, 1)
PRIOR = np.array(COUNTS) / sum(COUNTS)


def array(values):
  return jnp.asarray(values, jnp.float32)


def draw(seed, batch=12, classes=4):
  rng = np.random.default_rng(seed)
  logits = array(2 * rng.normal(size=(batch, classes)))
  return logits, jnp.asarray(rng.integers(0, classes, batch), jnp.int32)


def pairwise_reference(logits, labels, alpha, delta):
  """Menon et al., equation 11: `alpha [C]`, `delta [C, C]` (Delta)."""
  losses = []
  for row, y in zip(np.asarray(logits, np.float64), labels, strict=True):
    total = sum(
      np.exp(delta[y, j]) * np.exp(row[j] - row[y])
      for j in range(len(row))
      if j != y
    )
    losses.append(alpha[y] * np.log1p(total))
  return np.array(losses)


def vs_reference(logits, labels, counts, gamma, tau):
  losses = []
  n = np.array(counts, np.float64)
  for row, y in zip(np.asarray(logits, np.float64), labels, strict=True):
    z = row / (n.max() / n) ** gamma + tau * np.log(n / n.sum())
    losses.append(np.log(np.exp(z - z.max()).sum()) + z.max() - z[y])
  return np.array(losses)


def la(logits, labels, tau=1.0, prior=PRIOR):
  return adjustment.logit_adjustment(
    logits, labels, prior=array(prior), tau=tau
  )


def vs(logits, labels, **settings):
  return adjustment.vs(logits, labels, counts=array(COUNTS), **settings)


def pairwise(logits, labels, delta):
  return adjustment.pairwise(
    logits, labels, delta=array(delta), prior=array(PRIOR)
  )


ALL = {
  "la": la,
  "vs": vs,
  "pairwise": lambda z, y: pairwise(z, y, (0.1, 0.2, 0.3, 0.4)),
}


def test_golden():
  logits, labels = jnp.zeros((2, 2)), jnp.array([0, 1])
  # Priors 0.9 and 0.1: at equal logits the softmax is the prior.
  got = la(logits, labels, prior=(0.9, 0.1))
  np.testing.assert_allclose(got, [0.10536052, 2.3025851], rtol=1e-6)
  # log(1 + (1/9)^2), log(1 + 9^2)
  got = la(logits, labels, tau=2.0, prior=(0.9, 0.1))
  np.testing.assert_allclose(got, [0.01227009, 4.4067192], rtol=1e-5)
  # Logits 2 and 4 * (1/16)^0.5 = 1, offsets 0: log(1 + e^-1), log(1 + e).
  got = adjustment.vs(
    jnp.array([[2.0, 4.0], [2.0, 4.0]]),
    labels,
    counts=jnp.array([16.0, 1.0]),
    gamma=0.5,
    tau=0.0,
  )
  np.testing.assert_allclose(got, [0.3132617, 1.3132617], rtol=1e-6)
  # alpha = (0.5, 2), offsets log(1/1): alpha log 2.
  got = adjustment.pairwise(
    logits, labels, delta=jnp.ones(2), prior=jnp.array([2.0, 0.5])
  )
  np.testing.assert_allclose(got, [0.34657359, 1.3862944], rtol=1e-6)


def test_prior():
  np.testing.assert_allclose(
    adjustment.prior(array([6, 3, 1])), [0.6, 0.3, 0.1], rtol=1e-6
  )
  # A class without images is taken to have one.
  np.testing.assert_allclose(
    adjustment.prior(array([6, 0, 3])), [0.6, 0.1, 0.3], rtol=1e-6
  )
  np.testing.assert_allclose(adjustment.prior(jnp.zeros(2)), [0.5, 0.5])
  np.testing.assert_allclose(
    adjustment.prior(array([0.5, 1.5])), [0.25, 0.75], rtol=1e-6
  )


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_logit_adjustment_equals_the_pairwise_formula(tau):
  logits, labels = draw(0)
  offsets = tau * np.log(PRIOR[None, :] / PRIOR[:, None])
  got = jax.jit(lambda z, y: la(z, y, tau=tau))(logits, labels)
  assert got.shape == (12,) and got.dtype == jnp.float32
  np.testing.assert_allclose(
    got,
    pairwise_reference(logits, labels, np.ones(4), offsets),
    rtol=1e-5,
    atol=1e-6,
  )


def test_logit_adjustment_with_tau_0_is_the_cross_entropy():
  logits, labels = draw(1)
  np.testing.assert_array_equal(
    la(logits, labels, tau=0.0), classification.cross_entropy(logits, labels)
  )


def test_counts_do_for_the_prior():
  logits, labels = draw(2)
  np.testing.assert_allclose(
    la(logits, labels), la(logits, labels, prior=COUNTS), rtol=1e-5, atol=1e-6
  )


def test_the_minimizer_ranks_as_on_a_balanced_set():
  # Trained on one input whose labels are split 60:40 where the priors are
  # 90:10: on a balanced set the second class is the likelier.
  posterior, prior = np.array([0.6, 0.4]), np.array([0.9, 0.1])
  logits = jnp.zeros((1, 2))

  def risk(z):
    both = jnp.concatenate([z, z])
    losses = la(both, jnp.array([0, 1]), prior=prior)
    return jnp.sum(losses * array(posterior))

  step = jax.jit(lambda z: z - jax.grad(risk)(z))
  for _ in range(200):
    logits = step(logits)
  expected = posterior / prior / (posterior / prior).sum()
  np.testing.assert_allclose(jax.nn.softmax(logits)[0], expected, rtol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_pairwise_equals_a_slow_reference(seed):
  logits, labels = draw(seed)
  delta = np.random.default_rng(seed).uniform(0.1, 2, 4)
  got = jax.jit(lambda z, y: pairwise(z, y, delta))(logits, labels)
  alpha = delta / PRIOR
  offsets = np.log(delta[None, :] / delta[:, None])
  np.testing.assert_allclose(
    got, pairwise_reference(logits, labels, alpha, offsets), rtol=2e-5
  )


def test_limits_of_pairwise():
  logits, labels = draw(3)
  np.testing.assert_allclose(
    pairwise(logits, labels, PRIOR), la(logits, labels), rtol=1e-5, atol=1e-6
  )
  # delta = 1: the balanced cross-entropy, weighed by inverse frequency.
  balanced = classification.cross_entropy(logits, labels) / PRIOR[labels]
  np.testing.assert_allclose(
    pairwise(logits, labels, np.ones(4)), balanced, rtol=1e-5
  )
  inverse = weights.inverse(array(COUNTS))[labels]
  ratio = balanced / classification.cross_entropy(logits, labels) / inverse
  np.testing.assert_allclose(ratio, np.full(12, ratio[0]), rtol=1e-5)


@pytest.mark.parametrize("gamma, tau", [(0.3, 1.0), (0.2, 1.2), (1.0, 0.0)])
def test_vs_equals_a_slow_reference(gamma, tau):
  logits, labels = draw(4)
  got = jax.jit(lambda z, y: vs(z, y, gamma=gamma, tau=tau))(logits, labels)
  assert got.shape == (12,)
  np.testing.assert_allclose(
    got,
    vs_reference(logits, labels, COUNTS, gamma, tau),
    rtol=1e-5,
    atol=1e-6,
  )


def test_limits_of_vs():
  logits, labels = draw(5)
  np.testing.assert_array_equal(
    vs(logits, labels, gamma=0.0, tau=0.7),
    la(logits, labels, tau=0.7, prior=adjustment.prior(array(COUNTS))),
  )
  # CDT: the logit of class c divided by (n_max / n_c)^gamma, and no more.
  temperature = (max(COUNTS) / np.array(COUNTS)) ** 0.3
  np.testing.assert_allclose(
    vs(logits, labels, gamma=0.3, tau=0.0),
    classification.cross_entropy(logits / array(temperature)[None], labels),
    rtol=1e-5,
    atol=1e-6,
  )
  np.testing.assert_array_equal(
    vs(logits, labels, gamma=0.0, tau=0.0),
    classification.cross_entropy(logits, labels),
  )


def test_balanced_counts_leave_the_cross_entropy():
  logits, labels = draw(6)
  plain = classification.cross_entropy(logits, labels)
  even = jnp.full(4, 0.25)
  for got in (
    la(logits, labels, prior=(0.25,) * 4),
    adjustment.vs(logits, labels, counts=jnp.full(4, 9.0)),
    adjustment.pairwise(logits, labels, delta=even, prior=even),
  ):
    np.testing.assert_allclose(got, plain, rtol=1e-5, atol=1e-6)


def test_two_ways_to_favour_the_rare_class_differ():
  # A margin of LDAM lowers the label only; the prior shifts every class.
  logits, labels = draw(7)
  ldam = margins.ldam(
    logits, labels, margins=margins.from_counts(array(COUNTS)), scale=1.0
  )
  assert not np.allclose(ldam, la(logits, labels), rtol=0.1)


@pytest.mark.parametrize("name", ALL)
def test_check_gradients(name):
  logits, labels = draw(8, batch=2)
  test_util.check_grads(
    lambda z: ALL[name](z, labels).sum(), (logits,), 1, rtol=2e-2, eps=1e-2
  )


def test_gradient_is_the_adjusted_softmax_minus_one_hot():
  logits, labels = draw(9)
  adjusted = jax.nn.softmax(logits + jnp.log(array(PRIOR))[None])
  np.testing.assert_allclose(
    jax.grad(lambda z: la(z, labels).sum())(logits),
    adjusted - jax.nn.one_hot(labels, 4),
    atol=1e-6,
  )


@pytest.mark.parametrize("name", ALL)
def test_huge_logits(name):
  logits = 1e4 * jnp.array([[1.0, -1.0, -1.0, -1.0], [1.0, -1.0, -1.0, -1.0]])
  labels = jnp.array([0, 1])
  got = ALL[name](logits, labels)
  assert got[0] == 0 and 1e3 < got[1] < 1e5
  grad = jax.grad(lambda z: ALL[name](z, labels).sum())(logits)
  assert np.isfinite(grad).all() and np.all(np.asarray(grad)[0] == 0)


def test_an_empty_class_stays_finite():
  logits, labels = draw(10)
  counts = array([500, 0, 20, 0])
  got = adjustment.vs(logits, labels, counts=counts)
  one = adjustment.vs(logits, labels, counts=array([500, 1, 20, 1]))
  np.testing.assert_array_equal(got, one)
  grad = jax.grad(lambda z: adjustment.vs(z, labels, counts=counts).sum())(
    logits
  )
  assert np.isfinite(grad).all()


@pytest.mark.parametrize("name", ALL)
def test_bfloat16_is_widened_first(name):
  logits, labels = draw(11)
  narrow = logits.astype(jnp.bfloat16)
  got = ALL[name](narrow, labels)
  assert got.dtype == jnp.float32
  np.testing.assert_array_equal(
    got, ALL[name](narrow.astype(jnp.float32), labels)
  )


@pytest.mark.parametrize("name", ALL)
def test_label_outside_and_non_finite_logits_show(name):
  logits = jnp.zeros((4, 4)).at[3, 0].set(jnp.nan)
  got = ALL[name](logits, jnp.array([-1, 0, 4, 1]))
  np.testing.assert_array_equal(np.isnan(got), [True, False, True, True])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
  "logits, labels",
  [
    (jnp.zeros((3, 2)), jnp.zeros((3,), int)),
    (jnp.zeros((3, 4)), jnp.zeros((2,), int)),
    (jnp.zeros((3, 4)), jnp.zeros((3,))),
    (jnp.zeros((4,)), jnp.zeros((4,), int)),
  ],
)
def test_wrong_shapes_and_types(name, logits, labels):
  with pytest.raises(AssertionError):
    ALL[name](logits, labels)


def test_delta_and_prior_have_one_shape():
  with pytest.raises(AssertionError):
    pairwise(jnp.zeros((3, 4)), jnp.zeros(3, int), np.ones(3))
