"""Features of class names: templates by hand, and a tiny CLIP."""

import json
import sys

import numpy as np
import pytest

from ltjax.models import text_features

VECTORS = {
  "a cat.": [3.0, 4.0],
  "a big dog.": [0.0, 2.0],
  "one cat": [5.0, 0.0],
  "one big dog": [0.0, 1.0],
}


def encode(texts):
  return np.array([VECTORS[text] for text in texts], np.float32)


def test_templates_are_averaged_at_length_1(monkeypatch):
  monkeypatch.setattr(text_features, "_BATCH", 1)
  found = text_features.of_names(
    ["cat", "big_dog"], encode, ("a {}.", "one {}")
  )
  # Of the cat (0.6, 0.8) and (1, 0), in the middle (0.8, 0.4).
  expected = [np.array([2, 1]) / np.sqrt(5), [0, 1]]
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  assert found.dtype == np.float32
  one = text_features.of_names(["cat"], encode, ("a {}.",))
  np.testing.assert_allclose(one, [[0.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize(
  ("names", "templates", "message"),
  [
    (["cat", " "], ["a {}."], "an empty one"),
    ([], ["a {}."], "an empty one, or none"),
    (["a_b", "c", "a b"], ["a {}."], "'a b' twice"),
    (["cat"], ["a cat"], "must have {} once"),
  ],
)
def test_bad_names(names, templates, message):
  with pytest.raises(ValueError, match=message):
    text_features.of_names(names, encode, templates)


def test_names_from_a_file_or_the_flag(tmp_path):
  path = tmp_path / "names.txt"
  path.write_text("red fox\n\nowl, barn\n", encoding="utf-8")
  assert text_features.read_names(str(path)) == ["red fox", "owl, barn"]
  assert text_features.read_names("cat,dog") == ["cat", "dog"]


def test_the_command_writes_a_file(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(text_features, "encoder", lambda model: encode)
  out = tmp_path / "names.npy"
  flags = ["--names=cat,big_dog", "--model=m", "--template=a {}."]
  assert text_features.main([*flags, f"--out={out}"]) == 0
  np.testing.assert_allclose(np.load(out), [[0.6, 0.8], [0, 1]], rtol=1e-6)
  assert "2 classes, 2 numbers each" in capsys.readouterr().out
  assert text_features.main([*flags, "--out=names.txt"]) == 1
  assert "must end in .npy" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_what_is_missing_is_named(missing, monkeypatch):
  for name in ("torch", "transformers"):
    monkeypatch.setitem(sys.modules, name, object())
  monkeypatch.setitem(sys.modules, missing, None)
  with pytest.raises(ValueError, match="pip install 'ltjax.text.'"):
    text_features.encoder("hf:a/b")


@pytest.mark.filterwarnings("ignore")
def test_a_tiny_clip(tmp_path, monkeypatch):
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  monkeypatch.setenv("HF_HUB_OFFLINE", "1")
  letters = [*"abcdefghijklmnopqrstuvwxyz."]
  words = [*letters, *(f"{x}</w>" for x in letters)]
  words += ["<|startoftext|>", "<|endoftext|>"]
  vocab = {word: number for number, word in enumerate(words)}
  (tmp_path / "vocab.json").write_text(json.dumps(vocab))
  (tmp_path / "merges.txt").write_text("#version: 0.2\n")
  tokenizer = transformers.CLIPTokenizer(
    str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")
  )
  small = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2}
  small |= {"num_hidden_layers": 1, "projection_dim": 6}
  text = {"vocab_size": len(vocab), "max_position_embeddings": 40}
  text |= {"bos_token_id": len(vocab) - 2, "eos_token_id": len(vocab) - 1}
  torch.manual_seed(0)
  model = transformers.CLIPModel(
    transformers.CLIPConfig(
      text_config=small | text,
      vision_config=small | {"image_size": 8, "patch_size": 4},
      projection_dim=6,
    )
  ).eval()
  folder = tmp_path / "clip"
  model.save_pretrained(folder)
  tokenizer.save_pretrained(folder)
  found = text_features.encoder(str(folder))(["a cat.", "a dog."])
  # Without padding, each alone, by the tower's own parts.
  for row, sentence in zip(found, ("a cat.", "a dog.")):
    tokens = tokenizer([sentence], return_tensors="pt")
    with torch.no_grad():
      pooled = model.text_model(**tokens).pooler_output
      expected = model.text_projection(pooled)[0].numpy()
    np.testing.assert_allclose(row, expected, atol=1e-5)
  assert not np.allclose(found[0], found[1], atol=1e-3)
  with pytest.raises(ValueError, match="gives no text tower"):
    text_features.encoder(str(tmp_path / "none"))
