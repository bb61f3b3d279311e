"""Examples: the bytes that protocol buffers' own library reads and writes."""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
import numpy as np
import pytest

from ltjax.data.files import examples

FEATURES = {"image": bytes(range(256)) * 3, "label": 300, "file_name": b"a/b"}


@pytest.fixture(scope="module")
def reference():
  """The message tf.train.Example, as TensorFlow's own files describe it."""
  file = descriptor_pb2.FileDescriptorProto(
    name="example.proto", package="reference", syntax="proto3"
  )
  field = descriptor_pb2.FieldDescriptorProto

  def message(name, *fields):
    made = file.message_type.add(name=name)
    for number, (label, kind, called) in enumerate(fields, 1):
      text = kind if isinstance(kind, str) else None
      made.field.add(
        name=called,
        number=number,
        label=label,
        type=field.TYPE_MESSAGE if text else kind,
        type_name=f".reference.{text}" if text else None,
      )
    return made

  one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
  message("BytesList", (many, field.TYPE_BYTES, "value"))
  message("FloatList", (many, field.TYPE_FLOAT, "value"))
  message("Int64List", (many, field.TYPE_INT64, "value"))
  message(
    "Feature",
    (one, "BytesList", "bytes_list"),
    (one, "FloatList", "float_list"),
    (one, "Int64List", "int64_list"),
  )
  features = message("Features", (many, "Features.FeatureEntry", "feature"))
  entry = features.nested_type.add(name="FeatureEntry")
  entry.options.map_entry = True
  entry.field.add(name="key", number=1, label=one, type=field.TYPE_STRING)
  entry.field.add(
    name="value",
    number=2,
    label=one,
    type=field.TYPE_MESSAGE,
    type_name=".reference.Feature",
  )
  message("Example", (one, "Features", "features"))
  pool = descriptor_pool.DescriptorPool()
  pool.Add(file)
  return message_factory.GetMessageClass(
    pool.FindMessageTypeByName("reference.Example")
  )


def test_the_library_reads_what_is_written(reference):
  found = reference.FromString(examples.encode(FEATURES)).features.feature
  assert set(found) == set(FEATURES)
  assert list(found["image"].bytes_list.value) == [FEATURES["image"]]
  assert list(found["label"].int64_list.value) == [300]
  assert not found["label"].bytes_list.value


def test_what_the_library_writes_is_read(reference):
  message = reference()
  feature = message.features.feature
  feature["image"].bytes_list.value.extend([b"", b"x" * 200])
  feature["label"].int64_list.value.extend([0, -1, 2**63 - 1, -(2**63)])
  feature["weights"].float_list.value.extend([1.5, 2.5])
  feature["nothing"].SetInParent()
  assert examples.decode(message.SerializeToString()) == {
    "image": [b"", b"x" * 200],
    "label": [0, -1, 2**63 - 1, -(2**63)],
    "weights": [],
    "nothing": [],
  }


@pytest.mark.parametrize("label", [0, 127, 128, -1, 2**63 - 1, -(2**63)])
def test_there_and_back(label):
  data = examples.encode(FEATURES | {"label": label})
  assert examples.decode(data)["label"] == [label]
  assert examples.decode(data)["image"] == [FEATURES["image"]]
  again = dict(reversed((FEATURES | {"label": label}).items()))
  assert examples.encode(again) == data


def message(*fields):
  """Puts (tag byte, content) together; a number is a length-less content."""
  return b"".join(
    bytes([tag]) + (bytes([len(rest)]) + rest if tag & 7 == 2 else rest)
    for tag, rest in fields
  )


def test_numbers_may_lie_unpacked_and_unknown_fields_are_passed_over():
  numbers = message((0x08, b"\x07"), (0x10, b"\x01"), (0x08, b"\x09"))
  feature = message((0x1A, numbers), (0x2D, b"1234"), (0x29, b"12345678"))
  entry = message((0x0A, b"label"), (0x12, feature), (0x20, b"\x05"))
  data = message((0x0A, message((0x0A, entry))))
  assert examples.decode(data) == {"label": [7, 9]}
  assert examples.decode(b"") == {}


@pytest.mark.parametrize(
  "data, error",
  [
    (b"\x0a\x05ab", "ends in the middle of a field"),
    (b"\x0a", "ends in the middle of a number"),
    (b"\x0a" + b"\xff" * 11, "longer than 64 bits"),
    (b"\x0b\x00", "unknown kind 3"),
    (b"\x08\x01", "field 1 is a number"),
    (
      message((0x0A, message((0x0A, message((0x0A, b"\xff")))))),
      "name is no text",
    ),
  ],
)
def test_damage_is_told(data, error):
  with pytest.raises(ValueError, match=error):
    examples.decode(data)


def test_no_bytes_at_all_raise_anything_else():
  """Cut, changed, random: a ValueError, or some example."""
  whole, rng = examples.encode(FEATURES), np.random.default_rng(0)
  cut = [whole[:end] for end in range(0, len(whole), 7)]
  refused = 0
  for i in range(300):
    changed = bytearray(whole if i % 2 else rng.bytes(60))
    changed[int(rng.integers(min(len(changed), 40)))] ^= int(rng.integers(256))
    cut.append(bytes(changed))
  for data in cut:
    try:
      examples.decode(data)
    except ValueError:
      refused += 1
  assert refused > 100
