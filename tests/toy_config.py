"""The toys as a config file, for child processes of tests.

A config file is Python, so this one also puts the toys' network in place,
leaves out the report (plots take longer than the run), saves after every step,
and, asked by KILL_IN_SAVE=COUNT,SECONDS, kills the process so many seconds into
its COUNT-th save.
"""

import os
import signal
import threading

import runs
import toys

from ltjax import models
from ltjax.checkpoints import manager as checkpoints
from ltjax.report import page


def _kill_in_save(count, seconds):
  saves = []
  real = checkpoints.Checkpoints.save

  def save(*arguments):
    saves.append(1)
    if len(saves) == count:
      threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
    real(*arguments)

  checkpoints.Checkpoints.save = save


def get_config(arg=None):
  models.create = lambda *arguments, **settings: toys.model()
  page.write = lambda workdir: None
  if "KILL_IN_SAVE" in os.environ:
    count, seconds = os.environ["KILL_IN_SAVE"].split(",")
    _kill_in_save(int(count), float(seconds))
  config = runs.config()
  config.run.checkpoint_every_s = 0.0
  config.classifier.epochs = config.refit.epochs = 1
  return config
