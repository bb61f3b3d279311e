"""Export: what is shipped says what the run says, wherever it is loaded."""

import json
import subprocess
import sys

import finished
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.data.sources import labeled
from ltjax.export import __main__ as exporting
from ltjax.export import card, program, state_dict
from ltjax.models import pretrained
from ltjax.models.backbones import weights
from ltjax.runs import trained as trained_lib
from ltjax.trust import calibration, prior


@pytest.fixture(scope="module")
def images():
  return np.asarray(labeled.load("digits").test_images[:7])


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
  """A run with a calibration of its own."""
  folder = finished.copy(tmp_path_factory.mktemp("calibrated"))
  fitted = calibration.Calibration(
    "bias",
    1.7,
    tuple(np.linspace(-1, 1, 10).tolist()),
    tuple((np.arange(1, 11) / 55).tolist()),
  )
  calibration.save(folder, "balanced", fitted)
  return folder


def run(capsys, workdir, *argv):
  capsys.readouterr()  # Of training, where no test asked for the run before.
  code = exporting.main([f"--workdir={workdir}", *map(str, argv)])
  return code, *capsys.readouterr()


def test_stablehlo_of_any_batch_says_what_the_run_says(images):
  shipped = program.of_run(finished.run())
  exported = jax.export.deserialize(bytearray(program.stablehlo(shipped)))
  assert exported.platforms == program.PLATFORMS
  expected = shipped.trained.predictor()(images)
  for batch in (1, 7):
    found = exported.call(images[:batch])
    np.testing.assert_allclose(found, expected[:batch], atol=1e-5)


def test_calibration_and_shares_are_inside(images, calibrated):
  shipped = program.of_run(calibrated, calibrated=True, shares="uniform")
  plain = shipped.trained.predictor()(images)
  fitted = calibration.load(calibrated, "balanced")
  expected = prior.correct(
    fitted.apply(plain), source=fitted.shares, target=np.full(10, 0.1)
  )
  found = shipped.probabilities(jnp.asarray(images))
  np.testing.assert_allclose(found, expected, atol=1e-5)
  assert np.abs(plain - expected).max() > 0.02
  other = program.of_run(calibrated, shares="uniform", source="labeled")
  found = np.asarray(other.probabilities(jnp.asarray(images)))
  summary = json.loads((calibrated / "summary.json").read_text())
  counts = np.array(summary["labeled_counts"], float)
  expected = prior.correct(
    plain, source=counts / counts.sum(), target=np.full(10, 0.1)
  )
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_process_without_ltjax_runs_it(tmp_path, capsys, images):
  code, out, _ = run(
    capsys, finished.run(), "--to=stablehlo", f"--out={tmp_path}"
  )
  assert code == 0 and str(tmp_path / "model.stablehlo") in out
  np.save(tmp_path / "images.npy", images)
  code = "import sys; sys.modules['ltjax'] = None\n" + "\n".join(
    line for line in card.LOADING["stablehlo"].splitlines()[1:-1]
  ).format(shape="0").replace("np.zeros(0, np.uint8)", "np.load('images.npy')")
  code += "\nnp.save('found.npy', probabilities)"
  subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
  labels = json.loads((tmp_path / "labels.json").read_text())
  assert labels["classes"] == list(map(str, range(10)))
  assert labels["picture"] == {"size": [8, 8, 1], "resize": "stretch"}
  expected = trained_lib.load(finished.run()).predictor()(images)
  found = np.load(tmp_path / "found.npy")
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_onnx_says_what_the_run_says(tmp_path, images, calibrated):
  pytest.importorskip("jax2onnx")
  onnxruntime = pytest.importorskip("onnxruntime")
  shipped = program.of_run(calibrated, calibrated=True)
  program.onnx(shipped, tmp_path / "model.onnx")
  session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
  (given,) = session.get_inputs()
  expected = np.asarray(shipped.probabilities(jnp.asarray(images)))
  for batch in (1, 7):
    (found,) = session.run(None, {given.name: images[:batch]})
    np.testing.assert_allclose(found, expected[:batch], atol=1e-4)


def test_the_card_tells_classes_groups_and_limits(tmp_path, capsys, calibrated):
  code, out, _ = run(
    capsys,
    calibrated,
    "--to=stablehlo",
    f"--out={tmp_path}",
    "--calibrated",
    "--prior=uniform",
  )
  assert code == 0 and "MODEL_CARD.md" in out
  text = (tmp_path / "MODEL_CARD.md").read_text()
  for part in (
    "# Decoupling",
    "calibrated (bias) with a temperature of 1.700",
    "| class | labeled images | test images | right, % |",
    "| balanced_accuracy",
    "fewer than ten labeled images of",
    "jax.export.deserialize",
    "`uint8 [B, 8, 8, 1]`",
    "  9: 0.1000",
  ):
    assert part in text, part
  assert "onnxruntime" not in text  # which was not written


class Like:
  """A trained model of another architecture, for its names."""

  def __init__(self, name, variables, head="linear"):
    self.model = type("Model", (), {"name": name})
    self.variables = variables
    self.image_shape = (32, 32, 3)
    self.classes = ("a", "b")
    self.description = {"model": {"head": head}}


@pytest.fixture(scope="module")
def resnet():
  """Variables of ResNet-18 from drawn tensors of torchvision's names."""
  architecture = pretrained.ARCHITECTURES["resnet18_imagenet"]
  module = architecture.module(32, jnp.float32, "all", 0)
  shapes = jax.eval_shape(
    lambda: module.init(
      jax.random.key(0), jnp.zeros((1, 32, 32, 3), jnp.float32), False
    )
  )
  (layout,) = architecture.layouts(32)
  rng = np.random.default_rng(0)
  tensors = {}
  for path, leaf in jax.tree_util.tree_flatten_with_path(shapes)[0]:
    source = layout.source("/".join(str(entry.key) for entry in path))
    shape = leaf.shape
    if source.change is weights.convolution:
      shape = (shape[3], shape[2], *shape[:2])
    tensors[source.names[0]] = rng.normal(size=shape).astype(np.float32)
  filled = weights.fill(shapes, tensors, (layout,), what="drawn")
  head = {"kernel": rng.normal(size=(512, 2)), "bias": rng.normal(size=2)}
  return tensors, {
    "backbone": filled["params"],
    "batch_stats": filled["batch_stats"],
    "balanced_head": {k: v.astype(np.float32) for k, v in head.items()},
  }


def test_a_state_dict_is_what_it_would_be_read_from(resnet, tmp_path):
  tensors, variables = resnet
  found = state_dict.tensors(Like("resnet18", variables))
  head = variables["balanced_head"]
  np.testing.assert_array_equal(found.pop("fc.weight"), head["kernel"].T)
  np.testing.assert_array_equal(found.pop("fc.bias"), head["bias"])
  assert found.keys() == tensors.keys()
  for name, tensor in tensors.items():
    np.testing.assert_array_equal(found[name], tensor)
  safetensors = pytest.importorskip("safetensors.numpy")
  state_dict.write(found, tmp_path / "model.safetensors")
  again = safetensors.load_file(str(tmp_path / "model.safetensors"))
  np.testing.assert_array_equal(again["conv1.weight"], tensors["conv1.weight"])


def test_what_pytorch_has_no_names_for_is_refused(resnet):
  _, variables = resnet
  with pytest.raises(ValueError, match="resnet8 has no names in torchvision"):
    state_dict.tensors(Like("resnet8", variables))
  with pytest.raises(ValueError, match="is cosine and holds bias, kernel: no"):
    state_dict.tensors(Like("resnet18", variables, head="cosine"))
  means = variables | {"balanced_head": {"centroids": np.zeros((2, 512))}}
  with pytest.raises(ValueError, match="holds centroids: no linear layer"):
    state_dict.tensors(Like("resnet18", means))
  added = variables | {
    "backbone": variables["backbone"] | {"lora": {"up": np.zeros(3)}}
  }
  with pytest.raises(ValueError, match="has params/lora/up, which PyTorch's"):
    state_dict.tensors(Like("resnet18", added))


@pytest.mark.parametrize(
  "flags, message",
  [
    (["--to=tflite"], "--to is 'tflite'; choose among stablehlo, onnx"),
    (["--to=pytorch-state"], "resnet8 has no names in torchvision or timm"),
    (["--to=stablehlo", "--calibrated"], "calibrat"),
    (["--to=stablehlo", "--prior=uniform"], "--source=uniform"),
    (["--to=stablehlo", "--prior=nowhere.txt", "--source=uniform"], "nowhere"),
  ],
)
def test_what_cannot_be_exported_is_said(tmp_path, capsys, flags, message):
  code, _, error = run(
    capsys, finished.run(), f"--out={tmp_path / 'out'}", *flags
  )
  assert code == 1 and error.startswith("error: ") and message in error


def test_a_class_without_a_share_is_refused(tmp_path, capsys):
  shares = tmp_path / "shares.txt"
  shares.write_text("".join(f"{c} {1 / 9 if c else 0}\n" for c in range(10)))
  code, _, error = run(
    capsys,
    finished.run(),
    "--to=stablehlo",
    f"--prior={shares}",
    "--source=uniform",
  )
  assert code == 1 and "gives no share to 0" in error


def test_nothing_is_overwritten(tmp_path, capsys):
  (tmp_path / "model.onnx").write_text("mine")
  code, _, error = run(
    capsys, finished.run(), "--to=stablehlo,onnx", f"--out={tmp_path}"
  )
  assert code == 1 and "model.onnx is there already" in error
  assert not (tmp_path / "model.stablehlo").exists()


@pytest.mark.parametrize("name", ["onnx", "savedmodel"])
def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch, name):
  for module in ("jax2onnx", "tensorflow"):
    monkeypatch.setitem(sys.modules, module, None)
  shipped = program.of_run(finished.run())
  with pytest.raises(ValueError, match=r"pip install 'ltjax\["):
    getattr(program, name)(shipped, tmp_path / "model")
