"""Files of weights: every format is read, and none runs."""

import base64
import io
import os
import pickle
import sys
import zipfile
import zlib

import ml_dtypes
import numpy as np
import pytest

from ltjax.data.files import tensors

# A training checkpoint of PyTorch 2.13, in its two formats. Beside an epoch, a
# tensor `best` and a list it holds, under `state_dict`, what EXPECTED lists;
# `base`, `turned` and `part` share a storage.
ZIPPED = (
  b"c-o~_%WoS+7#}}k8^?K-LTG@HwmckY9j_l7J5AzbDceemM6!UiiiE6<z45Ntc>S%%;UQIugc8v"
  b"^5`sg;e}NEERiR!v6p@~KsKfzrLV^QGT$tH$oSn5&gEPrwmG%4{-|T!p?}ieIB9us=zA=f;A>F"
  b"N+)}FCY*Rh^yeQ3+lINIXIe)txkv^GKjM$4(05K<x<VMN<T8$-B;9YT?*cCcl)lU3K)?pSucij"
  b"8L5ajSc|Bt+6_El$?A$x6LpK$Jm}vhC>jU3N1GBU*^8$wEwvkZY~gfw&UFkl0kv{QT`&&9QBxh"
  b"ApSrPQK&T4cDk&w`w>EPtB{4#4xHtN=tewIyS0x@)?Yo^uzJAHcIaAI`xiiWVZFT0TU+iWJXP<"
  b"DZr!|S5g?Jh?WvjqK9x!i7KH(c>1=-a2~@mDm<%=ozUQp+cfGheN1F_DW0PgQ6+K+7nBfXnqd^"
  b"rV|YP@7yV9Jx{F~pNbu685>vuT_z>ophl`Bh5{AnvyzD11b$bV1VFcYRy-9BMcJx)Rx*WVln8O"
  b"&-)LQre=9SO^yv|tPz;H!{t6IvpL9T8!A;Zy1-lG!49`%Aporf%=7CdU|Hb<%^mpr2{U?{2}`s"
  b"r&<r-@;aqkr3JHhR=0kGcS5(|i6)?D>0i*Dx%ru;QoNvGqn9R(ZFMWB2GP9$gXEnA7#{CP;J>-"
  b"ek1bF}$UM+|j~hrR~Cv58&pF%6DJU@wMK`Y$)->_eVeOhRDIBbK}&8nnp{#hRW<X?yiojdxqO4"
  b"r&gB4KwtgWAyEBqe}D8DEria~^=HuHiGH`;s=948n!835%Tj(A3u1v9sC)#!(ftWO(ZCd{^bBl"
  b"&f(?gusw`a_vUG3Q7RI(gJshn3av?@kVo&rij#jx;Tgb}N(isd8$_iD#_{XI$Y3xM@sIT$rf-E"
  b"hcrTi_%yI&!H*2piJ`(%DY<~=eWlZn<zmXkS0W_F!={rJ|-YL>?70I%nHuQ^$o?DI;t^B(0CkB"
  b"+_=qW=6@>z`X)^Yq7xckU0NUpT9Nyvs~Iv>yKIP|?Hy56irVqAZn$_7L)v?_T~v8{B^r<R}~~_"
  b"kw5TOyzIolT`n~oyPlv^=DD;B!Ilq+lFhA1o~8`U)@!!E=!sJX-CM3rJ}f)FN<ZdKz?$fAY_ZB"
  b"tXLEZxkA32TNDbSST0eQTlfF^JWYJ0J(nSBw&&9y;gfyNgYQ8>v_F8SIpk&pofi5*5`T!!a3l}"
  b">Bz?&p<nagL6vv}RQGWmj;r=8W=im>cD3F~&tUp<J?0X{ttPsTd6NJaoO86uSV*TA8&<$eqL9D"
  b"-PdF;<YY$1sC_Z^R=@3efE2eJO1nc%QL`LL&)75`D5<)3i^4QR3rB^JAK+>(*2J!C3y{U^+>e<"
  b"zM3F6O1(pQG%5_O>w+W0;h;o~`{C!@bLT"
)
STREAMED = (
  b"c-nna$!^n76!p{u+_aRLGKM)}2u_<g2}9GC(iY5Av+<^~T<5hmGIp;0TnVH~*)*d30f+@let}&"
  b"-g)N_e#DeP~QBp;H^7U}v^*QGbufu&2oqyk#|K{KSd^=t0aIgOGc;5l0piMCh)Al{;nVzF>6F;"
  b"y$7g!9?CUD2GDRqcW+?H*)z<t(4bkdJ)q6hXT5&*vgLO~ltXJC0gg)xQGc>J<m3K>Pvgb2fPw;"
  b"-zsVc6r0;z`>xEnpQsj@cjq1<s_NZ(1ciq_z`?x=%Jj+iB^PxPj;E+cP5Yg@Tri*f7%AA|NEch"
  b"|7*=(07SbgfVRrV;YsRT&vg0Qnf5eb;!iR%yx)c*w++}tSL;fxMyPC4lyaF9f)uI7V$}I$u_A7"
  b"M~f<m6vkD^#c2oBphR!s9!yx#=43$|NB;+}6*{D}VFUz@S*XwwtN{g$DoT(gNrEXWtK^XRI5I1"
  b"|B6Q(|A}DMZPVU8crzo6O;Y?ik6qJU(OImRDFxYb`>~sVxD0~;rD{O>*A%VR};gSlM2eq~h?A4"
  b"XSK=Uc+)ioufa0=IjYl+tD3Fr+9H&wVb2x=M5CfrUy)3&UltKXHva91kzYE6bB@^Hv=Clb%?!d"
  b"->kg?kCdeF`NN9%#9NBKwBzf;2?37&pHx_le2}h#JyN1!hvB*_bHGq=Hq#M>QdnDb!S`50aT)h"
  b"-2IsB72F$+$VZ?kVuv*@W@K$>v1w)G58Y-b1F0k!8aXaD}edoOgzu&gD)HyVrh0(hQ&0Cr)jyC"
  b"qH;Y;NR}zAsIVGpTy*Gsc)kuVR+_)QM(djq9lrJG@Qr8!JE~yZsO0!jqJ&Y$ZRAvCNGTE*uQ_J"
  b"F_nx1d-)GbJZ2Ii&u}p6VS2M>9u1*tg^LU|k(0-upqy0u>78qs<EsrKG{0E)pKa~"
)
_BASE = np.arange(12, dtype=np.float32).reshape(3, 4)
EXPECTED = {
  "base": _BASE,
  "turned": _BASE.T,
  "part": _BASE[1:, 2:],
  "half": np.array([1.5, -2], np.float16),
  "brain": np.array([[0.15625], [-3]], ml_dtypes.bfloat16),
  "count": np.array(7, np.int64),
  "flags": np.array([True, False]),
}


def _genuine(text: bytes) -> bytes:
  return zlib.decompress(base64.b85decode(text))


def check(found, expected):
  assert sorted(found) == sorted(expected)
  for name, array in expected.items():
    assert found[name].dtype == array.dtype, name
    assert found[name].shape == array.shape, name
    np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("content", [ZIPPED, STREAMED])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
def test_checkpoints_of_pytorch(tmp_path, content, suffix):
  path = tmp_path / f"last{suffix}"
  path.write_bytes(_genuine(content))
  check(tensors.read(str(path)), EXPECTED)


# A pickle by hand: what PyTorch writes, and what it never would.


def _text(value: str) -> bytes:
  return b"X" + len(value).to_bytes(4, "little") + value.encode()


def _ints(values) -> bytes:
  return b"(" + b"".join(b"I%d\n" % n for n in values) + b"t"


def _call(module: str, name: str, *arguments: bytes) -> bytes:
  return b"c%s\n%s\n(" % (module.encode(), name.encode()) + (
    b"".join(arguments) + b"tR"
  )


def _tensor(
  key="0", *, offset=0, size=(2,), stride=(1,), kind="FloatStorage", view=b""
) -> bytes:
  storage = b"(%sctorch\n%s\n%s%sI2\n%stQ" % (
    _text("storage"),
    kind.encode(),
    _text(key),
    _text("cpu"),
    view,
  )
  rest = b"I%d\n" % offset + _ints(size) + _ints(stride) + b"\x89"
  hooks = _call("collections", "OrderedDict")
  return _call("torch._utils", "_rebuild_tensor_v2", storage, rest, hooks)


def _dict(**entries: bytes) -> bytes:
  pairs = b"".join(_text(name) + value for name, value in entries.items())
  return b"}(" + pairs + b"u"


def _zip(content: bytes, storages, **files: bytes) -> bytes:
  found = io.BytesIO()
  with zipfile.ZipFile(found, "w") as archive:
    archive.writestr("model/data.pkl", b"\x80\x02" + content + b".")
    for name, text in files.items():
      archive.writestr(f"model/{name}", text)
    for key, array in storages.items():
      archive.writestr(f"model/data/{key}", array.tobytes())
  return found.getvalue()


def _stream(content: bytes, storages, little=True) -> bytes:
  head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": little})
  parts = [pickle.dumps(value, 2) for value in head]
  parts += [b"\x80\x02" + content + b".", pickle.dumps(list(storages), 2)]
  for array in storages.values():
    parts += [array.size.to_bytes(8, "little"), array.tobytes()]
  return b"".join(parts)


@pytest.fixture(params=[_zip, _stream], ids=["zip", "stream"])
def save(request, tmp_path):
  """Writes a file of either format, from a pickle's body and storages."""

  def write(content, storages=None):
    path = tmp_path / "net.pth"
    kept = {"0": _FOUR} if storages is None else storages
    path.write_bytes(request.param(content, kept))
    return path

  return write


_FOUR = np.arange(4, dtype=np.float32)


@pytest.mark.parametrize(
  "options, expected",
  [
    ({}, [0, 1]),
    ({"offset": 2}, [2, 3]),
    ({"stride": (3,)}, [0, 3]),
    ({"size": (2, 2), "stride": (1, 2)}, [[0, 2], [1, 3]]),
    ({"size": (), "stride": (), "offset": 3}, 3),
    ({"size": (3, 2), "stride": (0, 1)}, [[0, 1]] * 3),
    ({"size": (1, 2), "stride": (99, 1)}, [[0, 1]]),
    ({"size": (0, 2), "stride": (2, 1)}, np.zeros((0, 2))),
  ],
)
def test_views(save, options, expected):
  path = save(_dict(w=_tensor(**options)))
  check(tensors.read(path), {"w": np.array(expected, np.float32)})


@pytest.mark.parametrize(
  "kind, dtype",
  [
    ("DoubleStorage", "f8"),
    ("HalfStorage", "f2"),
    ("BFloat16Storage", ml_dtypes.bfloat16),
    ("LongStorage", "i8"),
    ("IntStorage", "i4"),
    ("ShortStorage", "i2"),
    ("CharStorage", "i1"),
    ("ByteStorage", "u1"),
    ("BoolStorage", "?"),
  ],
)
def test_dtypes(save, kind, dtype):
  stored = np.array([0, 1, 1], dtype)
  path = save(_dict(w=_tensor(kind=kind, offset=1)), {"0": stored})
  check(tensors.read(path), {"w": stored[1:]})


def test_empty_storage(save):
  path = save(_dict(w=_tensor(size=(0,))), {"0": _FOUR[:0]})
  check(tensors.read(path), {"w": _FOUR[:0]})


def test_parameters(save):
  hooks = _call("collections", "OrderedDict")
  content = _call(
    "torch._utils", "_rebuild_parameter", _tensor(), b"\x88", hooks
  )
  check(tensors.read(save(_dict(w=content))), {"w": _FOUR[:2]})


@pytest.mark.parametrize(
  "place", ["state_dict", "model", "model_state_dict", "teacher"]
)
def test_weights_in_a_checkpoint_come_before_other_tensors(save, place):
  inner = _dict(**{"module.a": _tensor(), "b": _tensor(offset=1)})
  path = save(_dict(loss=_tensor(offset=2), **{place: inner}))
  check(tensors.read(path), {"a": _FOUR[:2], "b": _FOUR[1:3]})


def _module(name: str, **attributes: bytes) -> bytes:
  """An object as TorchScript pickles it."""
  made = b"c__torch__.clip\n%s\n)\x81" % name.encode()
  return made + _dict(**attributes) + b"b"


def test_modules_of_torchscript(save):
  sizes = _call("torch.jit._pickle", "build_intlist", b"](I1\nI2\ne")
  inner = _module("Linear", weight=_tensor(offset=1), training=b"\x89")
  layers = _module("Sequential", **{"0": inner, "sizes": sizes})
  path = save(_module("CLIP", visual=layers, scale=_tensor(size=(1,))))
  expected = {"visual.0.weight": _FOUR[1:3], "scale": _FOUR[:1]}
  check(tensors.read(path), expected)


def test_a_module_of_torchscript_without_tensors(save):
  with pytest.raises(ValueError, match="holds no tensors by name"):
    tensors.read(save(_module("CLIP", eps=b"I1\n"), {}))
  with pytest.raises(ValueError, match="not a whole file"):
    # It has itself as a part.
    loop = b"c__torch__\nNet\n)\x81q\x01}(" + _text("own") + b"h\x01ub"
    tensors.read(save(loop, {}))
  with pytest.raises(ValueError, match="asks for __torchlike__.Net"):
    tensors.read(save(b"c__torchlike__\nNet\n)\x81", {}))


def test_an_expanded_tensor_takes_no_memory(save):
  path = save(_dict(w=_tensor(size=(10**12,), stride=(0,))))
  assert tensors.read(path)["w"].shape == (10**12,)


@pytest.mark.parametrize(
  "options",
  [
    {"size": (5,)},
    {"offset": 3},
    {"offset": 4, "size": (), "stride": ()},
    {"offset": -1},
    {"offset": 3, "stride": (-1,)},
    {"size": (-2,)},
    {"size": (2, 2), "stride": (3, 2)},
    {"size": (2**62, 2**62), "stride": (2**62, 2**62)},
    {"offset": 2**70},
    {"size": (2, 2), "stride": (1,)},
    {"size": (2**40, 2**40), "stride": (0, 0)},
    {"key": "1"},
  ],
)
def test_tensor_beyond_its_storage(save, options):
  path = save(_dict(w=_tensor(**options)))
  with pytest.raises(ValueError, match=r"net\.pth: not a whole file .*again"):
    tensors.read(path)


def test_storage_shorter_than_it_says(tmp_path):
  content = _stream(_dict(w=_tensor()), {"0": _FOUR})
  path = tmp_path / "net.pth"
  for cut in (content[:-1], content.replace(_count(4), _count(2**62))):
    assert cut != content
    path.write_bytes(cut)
    with pytest.raises(ValueError, match=r"net\.pth: not a whole file"):
      tensors.read(path)


def _count(n: int) -> bytes:
  return n.to_bytes(8, "little")


@pytest.mark.parametrize(
  "module, name", [("os", "system"), ("posix", "system"), ("nt", "system")]
)
def test_code_is_refused_and_does_not_run(save, tmp_path, module, name):
  mark = tmp_path / "ran"
  path = save(_dict(w=_tensor(), x=_call(module, name, _text(f"touch {mark}"))))
  with pytest.raises(
    ValueError,
    match=rf"net\.pth: the pickle asks for {module}\.{name}, which .* Save the"
    r" state_dict alone, best as \.safetensors",
  ):
    tensors.read(path)
  assert not mark.exists()


def test_code_of_pickles_own_writer_does_not_run(tmp_path):
  mark, path = tmp_path / "ran", tmp_path / "net.pt"

  class Evil:
    def __reduce__(self):
      return os.system, (f"touch {mark}",)

  path.write_bytes(pickle.dumps({"state_dict": Evil()}))
  with pytest.raises(ValueError, match=r"asks for (posix|nt)\.system"):
    tensors.read(path)
  assert not mark.exists()


@pytest.mark.parametrize(
  "content",
  [
    _call("builtins", "eval", _text("1")),
    _call("builtins", "getattr", _text(""), _text("join")),
    _call("torch", "load", _text("x")),
    _call("torch.storage", "_load_from_bytes", _text("x")),
    _call("numpy", "load", _text("x")),
    _call("collections", "OrderedDict.fromkeys", _text("x")),
    b"(%sctorch\nFloatStorage\ntQ" % (_text("module") + _text("a")),
    _tensor(view=_ints([1])),
  ],
)
def test_anything_but_tensors_is_refused(save, content):
  with pytest.raises(ValueError, match="net.pth: the pickle asks for .*any c"):
    tensors.read(save(_dict(w=_tensor(), x=content)))


def test_the_reader_cannot_be_changed(save):
  """BUILD with a pair sets attributes on whatever is on the stack."""
  change = _dict(__name__=_text("evil"), __setstate__=_text("evil"))
  function = b"ctorch._utils\n_rebuild_parameter\nN%s\x86b" % change
  before = tensors._parameter.__name__
  check(tensors.read(save(_dict(w=_tensor(), x=function))), {"w": _FOUR[:2]})
  assert tensors._parameter.__name__ == before == "_parameter"
  for fixed in (b"ctorch\nFloatStorage\n", _tensor()):
    path = save(_dict(w=_tensor(), x=fixed + b"N%s\x86b" % change))
    with pytest.raises(ValueError, match="not a whole file"):
      tensors.read(path)


def test_nested_and_endless_dicts(save):
  endless = b"}q\x01(%sh\x01%su" % (_text("state_dict"), _text("w") + _tensor())
  check(tensors.read(save(endless)), {"w": _FOUR[:2]})
  doubled = _dict(a=b"K\x01")
  for turn in range(60):  # Walked in full, 2^60 places.
    memo = bytes([turn + 1])
    doubled = b"}(%s%sq%s%sh%su" % (
      _text("a"),
      doubled,
      memo,
      _text("b"),
      memo,
    )
  with pytest.raises(ValueError, match="net.pth: it holds no tensors by name"):
    tensors.read(save(doubled, {}))


@pytest.mark.parametrize(
  "content", [b"](K\x01e", b"}", _dict(model=_dict(a=b"K\x01")), b"N"]
)
def test_no_tensors_by_name(save, content):
  with pytest.raises(ValueError, match="net.pth: it holds no tensors by name"):
    tensors.read(save(content, {}))


def test_a_tensor_without_a_name(save):
  with pytest.raises(ValueError, match="net.pth: it holds no tensors by name"):
    tensors.read(save(_tensor()))


def test_byte_order(tmp_path):
  path, content = tmp_path / "net.pth", _dict(w=_tensor())
  path.write_bytes(_zip(content, {"0": _FOUR}, byteorder=b"little"))
  check(tensors.read(path), {"w": _FOUR[:2]})
  for whole in (
    _zip(content, {"0": _FOUR}, byteorder=b"big"),
    _stream(content, {"0": _FOUR}, little=False),
  ):
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"net\.pth: it is of a big-endian"):
      tensors.read(path)


def test_other_archives_and_pickles(tmp_path):
  path = tmp_path / "net.pth"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("picture.png", b"")
  with pytest.raises(ValueError, match=r"net\.pth: the archive holds no data"):
    tensors.read(path)
  path.write_bytes(pickle.dumps({"w": 1}))
  with pytest.raises(ValueError, match=r"net\.pth: it does not begin as PyTor"):
    tensors.read(path)


@pytest.mark.parametrize("content", [ZIPPED, STREAMED])
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.3, 0.6, 0.95])
def test_truncated(tmp_path, content, keep):
  path, whole = tmp_path / "net.pth", _genuine(content)
  path.write_bytes(whole[: int(keep * len(whole))])
  with pytest.raises(ValueError, match=r"net\.pth: not a whole .* Fetch it ag"):
    tensors.read(path)


def test_altered_storage_of_a_zip(tmp_path):
  path, content = tmp_path / "net.pth", _zip(_dict(w=_tensor()), {"0": _FOUR})
  one = np.float32(1).tobytes()
  assert content.count(one) == 1
  path.write_bytes(content.replace(one, np.float32(2).tobytes()))
  with pytest.raises(ValueError, match=r"net\.pth: not a whole .*CRC"):
    tensors.read(path)


def test_npz(tmp_path):
  path = tmp_path / "net.npz"
  brain = EXPECTED["brain"]
  arrays = {"a/kernel": _BASE.T, "n": np.int64(3), "brain": brain}
  with open(path, "wb") as file:
    np.savez(file, **arrays)
  check(tensors.read(path), {**arrays, "n": np.array(3)})


def test_npz_of_no_numbers(tmp_path):
  path, mark = tmp_path / "net.npz", tmp_path / "ran"

  class Evil:
    def __reduce__(self):
      return os.system, (f"touch {mark}",)

  np.savez(path, a=_BASE, b=np.array([Evil()], object))
  with pytest.raises(
    ValueError, match=r"net\.npz: b is pickled, .*Save arrays of numbers"
  ):
    tensors.read(path)
  assert not mark.exists()
  np.savez(path, a=np.array(["text"]))
  with pytest.raises(ValueError, match=r"net\.npz: a is of <U4, which is not"):
    tensors.read(path)


def test_damaged_npz(tmp_path):
  path = tmp_path / "net.npz"
  np.savez(path, a=_BASE)
  whole = path.read_bytes()
  for content in (b"", whole[:50], whole[: len(whole) // 2], b"\x93NUMPY"):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"net\.npz: not a whole file"):
      tensors.read(path)
  with open(path, "wb") as file:
    np.save(file, _BASE)
  with pytest.raises(ValueError, match=r"net\.npz: not a whole file"):
    tensors.read(path)


def test_safetensors(tmp_path):
  safetensors = pytest.importorskip("safetensors.numpy")
  path = tmp_path / "net.safetensors"
  arrays = {
    "float": np.ascontiguousarray(EXPECTED["turned"]),
    "half": EXPECTED["half"],
    "brain": EXPECTED["brain"],
    "count": EXPECTED["count"],
    "flags": EXPECTED["flags"],
    "none": _FOUR[:0],
  }
  safetensors.save_file(arrays, path)
  check(tensors.read(path), arrays)
  whole = path.read_bytes()
  path.write_bytes(whole[:-1])
  with pytest.raises(ValueError, match=r"net\.safetensors: not a whole file"):
    tensors.read(path)
  path.write_bytes(whole.replace(b'"F16"', b'"U16"'))
  with pytest.raises(ValueError, match=r"net\.safetensors: half is of U16"):
    tensors.read(path)


def test_safetensors_without_the_package(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "safetensors", None)
  path = tmp_path / "net.safetensors"
  path.write_bytes(b"")
  with pytest.raises(
    ValueError, match=r"net\.safetensors: .*pip install 'ltjax\[pretrained\]'"
  ):
    tensors.read(path)


def test_missing_file(tmp_path):
  for path in (tmp_path / "net.pth", tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{path}: no such file"):
      tensors.read(path)


@pytest.mark.parametrize("name", ["net.h5", "net", "net.pth.tar.gz"])
def test_unknown_suffix(tmp_path, name):
  path = tmp_path / name
  path.write_bytes(b"")
  with pytest.raises(ValueError, match=rf"{name}: the suffix .*\.npz, \.pth"):
    tensors.read(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_writes(tmp_path, zipped):
  torch = pytest.importorskip("torch")
  path = tmp_path / "net.pt"
  base = torch.arange(24.0).reshape(2, 3, 4)
  net = torch.nn.BatchNorm2d(3)
  saved = {
    "turned": base.permute(2, 0, 1)[1:, :, ::2],
    "empty": torch.zeros(0, 3),
    "expanded": torch.ones(1).expand(5, 2),
    "parameter": torch.nn.Parameter(base[1]),
    **{f"module.bn.{name}": value for name, value in net.state_dict().items()},
  }
  torch.save(saved, path, _use_new_zipfile_serialization=zipped)
  expected = {
    name.removeprefix("module."): value.detach().numpy()
    for name, value in saved.items()
  }
  check(tensors.read(path), expected)
