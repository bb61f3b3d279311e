"""Blocks of a config: recipes, and the settings of self-supervised learning."""

from __future__ import annotations

import ml_collections


def recipe(*, epochs: int) -> ml_collections.ConfigDict:
  """Returns the settings of `ltjax.optim.recipe.Recipe`, which every stage has.

  Args:
    epochs: passes over the samples of the stage.
  """
  return ml_collections.ConfigDict(
    {
      "epochs": epochs,
      "batch_size": 128,
      "learning_rate": 0.1,
      "schedule": "cosine",
      "milestones": (),
      "factor": 0.1,
      "momentum": 0.9,
      "nesterov": False,
      "weight_decay": 5e-4,
      "warmup_epochs": 0,
      "warmup_every": "step",  # or "epoch", in stairs
      "optimizer": "sgd",  # or "adam", "lars"
      "final_learning_rate": 0.0,  # of the schedule "exponential"
    }
  )


def pretrain() -> ml_collections.ConfigDict:
  """Returns the block of self-supervised pre-training, before any method."""
  block = recipe(epochs=200)
  block.update(
    {
      "name": "none",  # see ltjax.methods.pretraining.NAMES
      "data": "labeled",  # or "all"
      "online_probe": False,  # a classifier that f does not feel, for the log
      # rotation
      "rotations": "one",  # of each image in a batch, or "four"
      # The projection, and the loss on it.
      "dim": 128,
      "hidden": 0,  # width of the projection's hidden layer; 0: as the features
      "temperature": 0.2,
      "temperature_schedule": "constant",  # or "cosine" (TS), between:
      "temperature_low": 0.1,
      "temperature_high": 1.0,
      "temperature_period": 400.0,  # epochs
      "focal_gamma": 0.0,  # of the focal contrastive loss; 0: plain
      # views
      "crop_scale": (0.2, 1.0),  # least and largest share of the area
      "interpolation": "linear",  # or "cubic"
      "jitter": (0.4, 0.4, 0.4, 0.1),  # brightness, contrast, saturation, hue
      "grayscale": 0.2,  # probability
      "blur": 0.0,  # probability
      # moco
      "queue": 4096,
      "ema": 0.999,
      "key_batch_norm": "batch",  # or "ema", of the key network
      # sdclr
      "prune": 0.9,  # share of the kernels' weights that the second branch lacks
      # Boosted contrastive learning: RandAugment by what is remembered badly.
      "boost_ops": 0,  # operations on each view; 0: not boosted
      "boost_decay": 0.97,  # of the memory of losses
      # swav
      "prototypes": 128,
      "epsilon": 0.05,  # of Sinkhorn's codes
      "sinkhorn_iterations": 3,
      "marginal": "uniform",  # or "power": a long tail of prototypes
      "marginal_exponent": 0.25,
      "freeze": 0.01,  # share of the steps in which prototypes do not move
      "code_queue": 0,  # earlier embeddings that codes take into account
      "queue_start": 0.15,  # share of the epochs before the queue is used
    }
  )
  return block


def prototypes() -> ml_collections.ConfigDict:
  """Returns the block of FASSL's first stage, frequency-aware prototypes."""
  block = recipe(epochs=200)
  block.update(
    {
      "count": 128,  # K
      "temperature": 0.2,
      "start": "sdclr",  # what the block `pretrain` trains before
      "init": "random",  # or "features", of K training images
    }
  )
  return block


def student() -> ml_collections.ConfigDict:
  """Returns the block of students that follow a teacher: FASSL and BYOL."""
  block = recipe(epochs=500)
  block.update(
    {
      "ema": 0.99,  # what the teacher keeps of itself in a step
      "ema_schedule": "constant",  # or "cosine", to 1
      "hidden": 512,  # of the student's predictor
      "teacher_batch_norm": "batch",  # or "ema": of the student's statistics
      "score": "paper",  # or "energy", "uniform"
      "standardize": True,  # scores in the batch; False: exp(-s) / mean
      "clip": 3.0,  # of standardised scores
      "weight_temperature": 1.0,
      "normalize_prototypes": True,  # in the score
      "score_from": "teacher",  # or "frozen": the network of the first stage
    }
  )
  return block


def probe() -> ml_collections.ConfigDict:
  """Returns the block of linear evaluation."""
  block = recipe(epochs=100)
  block.update(
    {
      # See ltjax.evaluation.protocols; the last one is the run's result.
      "protocols": "knn,sdclr_fewshot",
      "shots": 0,  # few-shot images a class; 0: those of the smallest class
      "neighbors": 10,  # of knn
      # Of the protocols sdclr_*, 30 in the paper. Features of other networks
      # may be larger than those of a ResNet-18, and need less.
      "sdclr_learning_rate": 30.0,
      # The protocol "custom" has the recipe above, and these.
      "images": "labeled",  # or "few_shot", "pool"
      "views": 10,  # augmented, cached per image; 0: the plain image
      "select": "last",  # or "validation": the best epoch's classifier
    }
  )
  return block
