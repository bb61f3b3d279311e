"""Branches: one for both views, or a dense and a pruned one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.losses import contrastive as losses
from ltjax.models import parameters, projections
from ltjax.self_supervised import branches, encoder
from ltjax.training import step

BATCH = 8


@pytest.fixture(scope="module")
def state():
  return toys.learner().init()


def network():
  projection = projections.batch_norm_mlp(
    toys.D, hidden=5, dim=3, last_norm=True
  )
  return encoder.make(toys.model(), projection, key=jax.random.key(0))


def pair(seed=0):
  rng = np.random.default_rng(seed)
  draw = rng.normal(size=(2, BATCH, 4, 4, 1))
  return jnp.asarray(draw[0], jnp.float32), jnp.asarray(draw[1], jnp.float32)


def moved(tree, seed=0):
  """Returns a tree of other numbers, as after some training."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: x + jnp.asarray(rng.uniform(0.1, 0.5, x.shape), x.dtype), tree
  )


def half_masks(params):
  """Every other weight stays."""
  return jax.tree.map(
    lambda w: (jnp.arange(w.size) % 2 == 0).reshape(w.shape),
    parameters.kernels(params["backbone"]),
  )


def nt_xent(seen):
  first, second = projections.unit(seen.first), projections.unit(seen.second)
  return jnp.mean(losses.nt_xent(first, second, temperature=0.5))


def test_one_branch_sees_both_views_in_one_batch(state):
  """BatchNorm normalises by the 2B views."""
  both = branches.one(network())
  params, stats, extra = both.init(state)
  assert extra == {}
  first, second = pair()
  seen = both.apply(params, stats, extra, (first, second), state.head)
  features, embeddings, after = network().apply(
    params, stats, jnp.concatenate([first, second]), state.head, True
  )
  toys.assert_same(seen.features, features[:BATCH])
  toys.assert_same(seen.first, embeddings[:BATCH])
  toys.assert_same(seen.second, embeddings[BATCH:])
  toys.assert_same(seen.stats, after)
  kept = both.kept(params, after)
  assert kept[0] is params and kept[1] is after


def test_two_branches_are_the_network_and_its_pruned_self(state):
  both = branches.dense_and_pruned(network(), fraction=0.5)
  params, stats, _ = both.init(state)
  params["pruned_norms"] = moved(params["pruned_norms"])
  masks = half_masks(params)
  first, second = pair()
  seen = both.apply(
    params, stats, {"masks": masks}, (first, second), state.head
  )
  features, embeddings, dense = network().apply(
    params, stats["dense"], first, state.head, True
  )
  toys.assert_same(seen.features, features)
  toys.assert_same(seen.first, embeddings)
  # The pruned one by hand: every other weight 0, other norms, whole projection.
  backbone = dict(params["backbone"])
  backbone["kernel"] = jnp.where(masks["kernel"], backbone["kernel"], 0.0)
  backbone |= params["pruned_norms"]["backbone"]
  projection = params["projection"] | params["pruned_norms"]["projection"]
  _, embeddings, pruned = network().apply(
    {"backbone": backbone, "projection": projection},
    stats["pruned"],
    second,
    state.head,
    True,
  )
  np.testing.assert_allclose(seen.second, embeddings, rtol=1e-5)
  toys.assert_same(seen.stats, {"dense": dense, "pruned": pruned})


def test_branches_start_alike_in_buffers_of_their_own(state):
  both = branches.dense_and_pruned(network(), fraction=0.5)
  params, stats, extra = both.init(state)
  assert set(params["pruned_norms"]) == {"backbone", "projection"}
  assert set(params["pruned_norms"]["backbone"]) == {"scale", "bias"}
  assert set(params["pruned_norms"]["projection"]) == {
    *("first_norm", "second_norm")
  }
  toys.assert_same(stats["dense"], stats["pruned"])
  assert all(mask.all() for mask in jax.tree.leaves(extra["masks"]))
  leaves = jax.tree.leaves((params, stats))
  assert len({x.unsafe_buffer_pointer() for x in leaves}) == len(leaves)


def test_without_pruning_and_with_shared_norms_it_is_simclr(state):
  """The same loss, and gradients that add up to those of SimCLR.

  Of SimCLR with BatchNorm by view, as two branches cannot have it by both.
  """
  by_view = network()

  def apply_by_view(params, stats, images, head, train):
    (f, a, _), (g, b, stats) = (
      by_view.apply(params, stats, half, head, train)
      for half in jnp.split(images, 2)
    )
    return jnp.concatenate([f, g]), jnp.concatenate([a, b]), stats

  both = branches.dense_and_pruned(network(), fraction=0.0)
  simclr = branches.one(by_view._replace(apply=apply_by_view))
  params, stats, extra = both.init(state)
  shared = moved({n: params[n] for n in ("backbone", "projection")})
  params = shared | {"pruned_norms": parameters.norms(shared)}

  def loss(params):
    return nt_xent(both.apply(params, stats, extra, pair(), state.head))

  def simclr_loss(params):
    seen = simclr.apply(params, stats["dense"], {}, pair(), state.head)
    return nt_xent(seen)

  value, grad = jax.value_and_grad(loss)(params)
  expected, expected_grad = jax.value_and_grad(simclr_loss)(shared)
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  total = {n: grad[n] for n in ("backbone", "projection")}
  norms = jax.tree.map(jnp.add, parameters.norms(total), grad["pruned_norms"])
  assert toys.norm(norms) > 0.01
  total = parameters.put(total, norms)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    total,
    expected_grad,
  )


def test_pruned_weights_learn_from_the_dense_branch_alone(state):
  both = branches.dense_and_pruned(network(), fraction=0.5)
  params, stats, _ = both.init(state)
  masks = half_masks(params)

  def loss(params, *, dense_only):
    if dense_only:
      seen = both.apply(params, stats, {"masks": masks}, pair(), state.head)
      held = jax.tree.map(jax.lax.stop_gradient, seen.second)
      return nt_xent(seen._replace(second=held))
    return nt_xent(
      both.apply(params, stats, {"masks": masks}, pair(), state.head)
    )

  whole, dense = (
    jax.grad(loss)(params, dense_only=only)["backbone"]["kernel"]
    for only in (False, True)
  )
  away = np.asarray(~masks["kernel"])
  np.testing.assert_allclose(whole[away], dense[away], rtol=1e-5, atol=1e-7)
  assert np.abs(dense[away]).max() > 1e-4
  assert not np.allclose(whole[~away], dense[~away], rtol=1e-2)


def test_masks_are_made_of_dense_weights_at_the_start_of_an_epoch(state):
  both = branches.dense_and_pruned(network(), fraction=0.75)
  params, _, extra = both.init(state)
  kernel = params["backbone"]["kernel"]  # [16, 6]

  class Now:
    pass

  now = Now()
  now.params, now.extra = params, extra

  def refresh(fresh):
    batch = step.Batch(*[None] * 10)._replace(fresh=jnp.asarray(fresh))
    return both.refresh(now, batch)["masks"]["kernel"]

  assert refresh(False).all()
  threshold = np.sort(np.abs(kernel).ravel())[72]
  np.testing.assert_array_equal(refresh(True), np.abs(kernel) >= threshold)
  assert int(refresh(True).sum()) == 24
  # A weight that was pruned and has grown comes back.
  now.extra = {"masks": {"kernel": refresh(True)}}
  place = tuple(np.argwhere(np.abs(kernel) < threshold)[0])
  params["backbone"] = params["backbone"] | {"kernel": kernel.at[place].set(9)}
  assert not refresh(False)[place] and refresh(True)[place]


def test_the_dense_branch_is_kept(state):
  both = branches.dense_and_pruned(network(), fraction=0.5)
  params, stats, _ = both.init(state)
  stats["pruned"] = moved(stats["pruned"])
  kept = both.kept(params, stats)
  assert kept[1] is stats["dense"]
  toys.assert_same(kept[0]["backbone"], state.backbone)
