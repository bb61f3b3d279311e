"""Settings of students that follow a teacher, checked where a run begins.

The paper of FASSL leaves open how the weights are clipped and normalised, which
network scores an image, and how the teacher's BatchNorm runs. Each has a setting
here; the defaults are the plainest reading.
"""

from __future__ import annotations

import dataclasses

SCHEDULES = ("constant", "cosine")
TEACHER_BATCH_NORMS = ("batch", "ema")
SCORES = ("paper", "energy", "uniform")
SCORE_FROM = ("teacher", "frozen")


@dataclasses.dataclass(frozen=True)
class Settings:
  """What a student can be told; names and defaults are those of `config.student`.

  Attributes:
    predictor_hidden: width of the hidden layer of the student's predictor, the
      field `hidden` of the config.
    ema: what the teacher keeps of itself in a step, in [0, 1]. At 1 it is
      frozen; at 0 it is the student, and the embedding collapses.
    ema_schedule: `constant`, or `cosine`: up to 1 at the end.
    teacher_batch_norm: the teacher normalises by its own `batch`, or in
      evaluation mode by an `ema` of the student's running statistics.
    score: how common an image is, `paper` or `energy`, see
      `ltjax.density_weights`; or `uniform`: all images count the same, BYOL.
    standardize: whether scores are standardised in a batch, and clipped, before
      they become weights; otherwise these are `exp(-s)` over its mean.
    clip: standard deviations at which scores are cut off, above 0.
    weight_temperature: above 0; the higher, the more equal the weights.
    normalize_prototypes: whether scores are of embeddings and prototypes of
      length 1.
    score_from: scores are those of the `teacher` as it moves, which is the
      paper's; or those of the `frozen` network of the first stage, which needs
      another pass in each step.

  Source: Lin et al. (2023), "Frequency-aware self-supervised long-tailed
    learning" (FASSL), Section 3.2.2; Grill et al. (2020), "Bootstrap your own
    latent" (BYOL).
  """

  predictor_hidden: int = 512
  ema: float = 0.99
  ema_schedule: str = "constant"
  teacher_batch_norm: str = "batch"
  score: str = "paper"
  standardize: bool = True
  clip: float = 3.0
  weight_temperature: float = 1.0
  normalize_prototypes: bool = True
  score_from: str = "teacher"

  def __post_init__(self):
    if self.predictor_hidden < 1:
      raise ValueError(
        f"student.hidden is {self.predictor_hidden}; the predictor needs 1"
        " hidden unit or more, such as 512."
      )
    if not 0 <= self.ema <= 1:
      raise ValueError(
        f"student.ema is {self.ema}; it must be in [0, 1], such as 0.99."
      )
    choices = {
      "ema_schedule": SCHEDULES,
      "teacher_batch_norm": TEACHER_BATCH_NORMS,
      "score": SCORES,
      "score_from": SCORE_FROM,
    }
    for name, allowed in choices.items():
      value = getattr(self, name)
      if value not in allowed:
        raise ValueError(
          f"student.{name} is {value!r}; choose one of {', '.join(allowed)}."
        )
    for name, example in (("clip", 3.0), ("weight_temperature", 1.0)):
      value = getattr(self, name)
      if not 0 < value < float("inf"):
        raise ValueError(
          f"student.{name} is {value}; it must be above 0, such as {example}."
        )

  @property
  def weighted(self) -> bool:
    """Whether images count differently, so that prototypes are needed."""
    return self.score != "uniform"
