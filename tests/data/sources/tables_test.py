"""Tables in the forms that people have them, and what is said of wrong ones."""

import importlib.util
import json
import pathlib
from typing import NamedTuple

import numpy as np
import pytest

from ltjax.data.files import tables as files
from ltjax.data.sources import tables

PLAIN = "path,label\na.jpg,owl\nb.jpg,newt\nc.jpg,owl\n"


class Case(NamedTuple):
  """A table, and what it comes to."""

  text: str | bytes
  names: tuple[str, ...] = ("newt", "owl")
  labels: tuple[int, ...] = (1, 0, 1)
  columns: dict = {}
  suffix: str = ".csv"
  test: tuple[int, ...] = ()
  validation: tuple[int, ...] = ()
  unlabeled: tuple[str, ...] = ()
  told: str = ""
  pictures: tuple[str, ...] = tuple(f"{c}.jpg" for c in "abcdefg")
  found: tuple[str, ...] = ()


def lines(*rows, header="path,label"):
  return "\n".join([header, *rows]) + "\n"


NUMBERS = ("0", "1")
CASES = {
  "comma": Case(PLAIN, told="separated by comma, UTF-8"),
  "semicolon": Case(PLAIN.replace(",", ";"), told="semicolon"),
  "tab": Case(PLAIN.replace(",", "\t"), suffix=".tsv", told="by tab"),
  "bar": Case(PLAIN.replace(",", "|"), told="by bar"),
  "txt": Case(PLAIN.replace(",", "\t"), suffix=".txt"),
  "windows": Case(PLAIN.replace("\n", "\r\n")),
  "old mac": Case(PLAIN.replace("\n", "\r")),
  "no last newline": Case(PLAIN.rstrip("\n")),
  "mark of UTF-8": Case("\ufeff" + PLAIN, told="UTF-8"),
  "UTF-16 of Excel": Case(
    PLAIN.replace(",", "\t").encode("utf-16"), told="UTF-16"
  ),
  "Windows-1252": Case(
    lines("a.jpg,Bär", "b.jpg,Amsel", "c.jpg,Bär").encode("cp1252"),
    ("Amsel", "Bär"),
    told="Windows-1252, as it is not UTF-8",
  ),
  "quotes": Case(
    '"path","label"\n"a.jpg","owl, grey"\n"b.jpg","a ""b"""\nc.jpg,"owl, grey"',
    ('a "b"', "owl, grey"),
  ),
  "spaces": Case(" path , label \n a.jpg , owl\nb.jpg,newt \n c.jpg, owl \n"),
  "other scripts": Case(
    lines("a.jpg,フクロウ", "b.jpg,Ёж", "c.jpg,フクロウ"), ("Ёж", "フクロウ")
  ),
  "two spellings of one letter": Case(
    lines("a.jpg,bär", "b.jpg,ant", "c.jpg,ba\u0308r"), ("ant", "bär")
  ),
  "upper and lower case": Case(
    lines("a.jpg,owl", "b.jpg,Owl", "c.jpg,owl"),
    ("Owl", "owl"),
    told="Owl and owl are different classes",
  ),
  "numbers by value": Case(
    lines("a.jpg,10", "b.jpg,9", "c.jpg,10"), ("9", "10")
  ),
  "numbers with gaps": Case(lines("a.jpg,7", "b.jpg,0", "c.jpg,7"), ("0", "7")),
  "floats": Case(lines("a.jpg,1.0", "b.jpg,0.0", "c.jpg,1.0"), NUMBERS),
  "1 and 1.0": Case(
    lines("a.jpg,1", "b.jpg,0", "c.jpg,1.0"),
    NUMBERS,
    told="1 and 1.0 are the same class",
  ),
  "numbers and names": Case(
    lines("a.jpg,other", "b.jpg,10", "c.jpg,other"), ("10", "other")
  ),
  "unlabeled rows": Case(
    lines("a.jpg,owl", "d.jpg,", "b.jpg,newt", "e.jpg,nan", "c.jpg,owl"),
    unlabeled=("d.jpg", "e.jpg"),
    told="3 train, 2 unlabeled",
  ),
  "unlabeled is -1": Case(
    lines("a.jpg,1", "d.jpg,-1", "b.jpg,0", "c.jpg,1"),
    NUMBERS,
    unlabeled=("d.jpg",),
  ),
  "splits": Case(
    lines(
      "a.jpg,owl,TRAIN",
      "d.jpg,newt,Test",
      "b.jpg,newt,training",
      "e.jpg,owl,valid",
      "f.jpg,newt,val",
      "g.jpg,owl,unlabeled",
      "c.jpg,owl,train",
      header="path,label,split",
    ),
    test=(0,),
    validation=(1, 0),
    unlabeled=("g.jpg",),
    told="3 train, 2 validation, 1 test, 1 unlabeled",
  ),
  "splits by another name": Case(
    lines(
      "a.jpg,owl,train",
      "d.jpg,newt,test",
      "b.jpg,newt,train",
      "c.jpg,owl,train",
      header="filepaths,labels,data set",
    ),
    test=(0,),
  ),
  "a name of splits for something else": Case(
    lines(
      "a.jpg,owl,train",
      "b.jpg,newt,rosendahl",
      "c.jpg,owl,train",
      header="path,label,dataset",
    )
  ),
  "rows without label or split": Case(
    lines(
      "a.jpg,owl,train",
      "d.jpg,,",
      "b.jpg,newt,train",
      "c.jpg,owl,train",
      header="path,label,split",
    ),
    unlabeled=("d.jpg",),
  ),
  "repeated rows": Case(
    PLAIN + "a.jpg,owl\n./b.jpg,newt\n", told="2 repeated rows merged"
  ),
  "empty rows": Case(
    lines("a.jpg,owl", "", ",", "b.jpg,newt", "c.jpg,owl"),
    told="1 rows without any value",
  ),
  "separators at the end": Case(
    lines("a.jpg,owl,", "b.jpg,newt,,", "c.jpg,owl,", header="path,label,")
  ),
  "usual names in any case": Case(
    PLAIN.replace("path,label", "Image File,Species"),
    told="path 'Image File', label 'Species'",
  ),
  "an index as pandas writes it": Case(
    lines("0,a.jpg,owl", "1,b.jpg,newt", "2,c.jpg,owl", header=",path,label")
  ),
  "unusual names": Case(
    PLAIN.replace("path,label", "foto,tier"),
    columns={"path": "foto", "label": "tier", "split": ""},
  ),
  "one of several": Case(
    lines(
      "a.jpg,1,owl",
      "b.jpg,1,newt",
      "c.jpg,0,owl",
      header="path,target,class",
    ),
    columns={"label": "class"},
  ),
  "number and name": Case(
    lines(
      "a.jpg,0,owl", "b.jpg,1,newt", "c.jpg,0,owl", header="path,label,class"
    ),
    told="label 'class'",
  ),
  "one-hot": Case(
    lines(
      "a.jpg,0.0,1.0",
      "b.jpg,1.0,0.0",
      "c.jpg,0,1",
      "d.jpg,0,0",
      header="image,newt,owl",
    ),
    columns={"label": "newt, owl"},
    unlabeled=("d.jpg",),
  ),
  "HAM10000": Case(
    lines(
      "H1,I_1,nv,histo,80.0,male",
      "H1,I_2,bkl,histo,80.0,male",
      "H2,I_3,nv,follow_up,,female",
      header="lesion_id,image_id,dx,dx_type,age,sex",
    ),
    ("bkl", "nv"),
    pictures=("part_1/I_1.jpg", "part_1/I_2.jpg", "part_2/I_3.jpg"),
    found=("part_1/I_1.jpg", "part_1/I_2.jpg", "part_2/I_3.jpg"),
    told="data.group_by='lesion_id' would keep",
  ),
  "without suffix, in folders": Case(
    lines("x/1,owl", "x/2,newt", "y/1,owl"),
    pictures=("x/1.png", "x/2.png", "y/1.png"),
    found=("x/1.png", "x/2.png", "y/1.png"),
  ),
  "as Windows writes folders": Case(
    lines("x\\1.png,owl", "x\\2.png,newt", "y\\1.png,owl"),
    pictures=("x/1.png", "x/2.png", "y/1.png"),
    found=("x/1.png", "x/2.png", "y/1.png"),
  ),
  "the one in the folder before others below": Case(
    PLAIN,
    pictures=("a.jpg", "b.jpg", "c.jpg", "old/a.jpg"),
    found=("a.jpg", "b.jpg", "c.jpg"),
  ),
  "weights": Case(
    lines(
      "a.jpg,owl,1", "b.jpg,newt,2", "c.jpg,owl,1", header="path,label,weight"
    ),
    told="column 'weight' is not used",
  ),
  "JSON lines": Case(
    "".join(
      json.dumps(row) + "\n"
      for row in (
        {"path": "a.jpg", "label": 3},
        {"path": "d.jpg"},
        {"label": 1.0, "path": "b.jpg", "more": None},
        {"path": "c.jpg", "label": 3},
      )
    ),
    ("1", "3"),
    suffix=".jsonl",
    unlabeled=("d.jpg",),
    told="JSON lines, UTF-8",
  ),
}


def write(folder: pathlib.Path, case: Case) -> str:
  for name in case.pictures:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()
  path = folder / f"table{case.suffix}"
  text = case.text
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  return str(path)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_tables(case, tmp_path):
  found = tables.read_set(write(tmp_path, case), columns=case.columns)
  assert found.names == case.names
  assert found.train.labels.tolist() == list(case.labels)
  assert found.train.labels.dtype == np.int32
  expected = case.found or ("a.jpg", "b.jpg", "c.jpg")
  assert found.train.files == [tmp_path / name for name in expected]
  for part, labels in (
    (found.test, case.test),
    (found.validation, case.validation),
  ):
    assert (part and part.labels.tolist()) == (list(labels) or None)
  unlabeled = [tmp_path / name for name in case.unlabeled]
  assert found.unlabeled == (unlabeled or None)
  assert case.told in found.understood
  assert found.groups is None


WRONG = {
  "no header": (
    "a.jpg,owl\nb.jpg,newt\n",
    "first line names a picture .a.jpg, owl.; put a line",
  ),
  "no path": (PLAIN.replace("path", "where"), "set data.columns.path. The tab"),
  "no class": (
    PLAIN.replace("label", "beast"),
    "the table has the columns path, beast; set data.columns.label",
  ),
  "one-hot": (
    lines("a.jpg,0,1", "b.jpg,1,0", header="image,newt,owl"),
    'if newt, owl are classes .* joined by commas, "newt,owl"',
  ),
  "several": (
    lines("a.jpg,0,0", "b.jpg,1,0", "c.jpg,0,1", header="path,label,target"),
    "columns label, target could be the class; set data.columns.label",
  ),
  "measurements": (
    lines("a.jpg,1", "b.jpg,0.25", "c.jpg,3"),
    "line 3: .* column 'label' is 0.25, no whole number",
  ),
  "unknown split": (
    lines(
      "a.jpg,owl,train",
      "b.jpg,owl,fold1",
      "c.jpg,owl,",
      header="path,label,split",
    ),
    "line 3: column 'split' has the values '', 'fold1'; it may have train",
  ),
  "test without class": (
    lines(
      "a.jpg,owl,train", "b.jpg,,test", "c.jpg,,test", header="path,label,split"
    ),
    "line 3: 2 test rows have no class",
  ),
  "class of the test alone": (
    lines(
      "a.jpg,owl,train",
      "b.jpg,newt,train",
      "d.jpg,newt,train",
      "c.jpg,elk,test",
      header="path,label,split",
    ),
    "line 5: class 'elk' has test pictures but none for training",
  ),
  "nothing to train on": (
    lines("a.jpg,owl,test", header="path,label,split"),
    "no row is for training and has a class",
  ),
  "one class": (lines("a.jpg,owl", "b.jpg,owl"), "one class, 'owl'"),
  "a class each": (
    lines("a.jpg,u", "b.jpg,v", "c.jpg,w"),
    "3 classes of one picture each; is data.columns.label",
  ),
  "two classes of a picture": (
    PLAIN + "a.jpg,newt\n",
    "a.jpg has the class 'owl' in line 2 and 'newt' in line 5; keep one",
  ),
  "a picture in two parts": (
    lines(
      "a.jpg,owl,train",
      "b.jpg,newt,train",
      "a.jpg,owl,test",
      header="path,label,split",
    ),
    "a.jpg has the split 'train' in line 2 and 'test' in line 4",
  ),
  "no path in a row": (PLAIN + ",owl\n", "line 5: column 'path' is empty"),
  "short row": (PLAIN + "d.jpg\n", "line 5: it has 1 values for the 2 columns"),
  "long row": (PLAIN + "d.jpg,owl,3\n", "line 5: it has 3 values for the 2"),
  "open quote": (PLAIN + '"d.jpg,owl\n', "quotes that do not close"),
  "two columns of a name": (
    lines("a.jpg,owl,owl", header="path,label,label"),
    "two columns are named 'label'",
  ),
  "empty": ("", "the table is empty"),
  "header alone": ("path,label\n", "the table has no rows"),
  "binary": (b"PK\x03\x04\0\0\0", "not a text; save it as CSV"),
}


@pytest.mark.parametrize("text, message", WRONG.values(), ids=WRONG)
def test_wrong_tables(text, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    tables.read_set(write(tmp_path, Case(text)))


@pytest.mark.parametrize(
  "columns, message",
  [
    ({"label": "klass"}, "data.columns.label is 'klass', but the table has"),
    ({"lable": "label"}, "data.columns is 'lable'; choose one of path, label"),
    ({"path": "nothing"}, "none is named 'nothing'"),
  ],
)
def test_wrong_names_of_columns(columns, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    tables.read_set(write(tmp_path, Case(PLAIN)), columns=columns)


def test_one_hot_of_two_classes(tmp_path):
  text = lines("a.jpg,0,1", "b.jpg,1,1", header="image,newt,owl")
  with pytest.raises(ValueError, match="line 3: of the columns newt, owl of"):
    tables.read_set(write(tmp_path, Case(text)), columns={"label": "newt,owl"})


def test_files_that_are_no_tables(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"x\.csv: no such table"):
    tables.read_set(str(tmp_path / "x.csv"))
  with pytest.raises(ValueError, match="suffixes .csv, .tsv, .*export it"):
    tables.read_set(str(tmp_path / "x.xls"))
  with pytest.raises(ValueError, match="one table is read, not several; join"):
    tables.read_set("train.csv,test.csv")
  for text in ("{", "[1]"):
    path = write(tmp_path, Case(text, suffix=".jsonl"))
    with pytest.raises(ValueError, match="line 1: (damaged|a line must be)"):
      tables.read_set(path)


def test_missing_and_ambiguous_pictures(tmp_path):
  case = Case(PLAIN, pictures=("x/a.jpg", "y/a.jpg", "b.jpg"))
  with pytest.raises(ValueError, match="'a.jpg' may be .*; write the folder"):
    tables.read_set(write(tmp_path, case))
  (tmp_path / "y" / "a.jpg").unlink()
  with pytest.raises(FileNotFoundError, match="1 of 3 pictures are missing"):
    tables.read_set(write(tmp_path, case._replace(pictures=())))


def test_a_root_of_its_own(tmp_path):
  root = tmp_path / "pictures"
  path = write(root, Case(PLAIN))
  path = pathlib.Path(path).rename(tmp_path / "table.csv")
  found = tables.read_set(str(path), str(root))
  assert found.train.files[0] == root / "a.jpg"


def test_groups_by_column_and_by_path(tmp_path):
  text = lines(
    "x/1.jpg,owl,p2,train",
    "x/2.jpg,newt,p2,train",
    "y/1.jpg,owl,p1,train",
    "z/1.jpg,owl,p3,test",
    "z/2.jpg,owl,p3,unlabeled",
    "x/3.jpg,owl,p2,unlabeled",
    "w/1.jpg,owl,,unlabeled",
    header="path,label,patient,split",
  )
  names = [f"{c}/{i}.jpg" for c in "wxyz" for i in (1, 2, 3)]
  path = write(tmp_path, Case(text, pictures=tuple(names)))
  found = tables.read_set(path, group_by="patient")
  assert found.groups.tolist() == [0, 0, 1]
  # Unlabeled pictures of a test patient are not to be trained on.
  assert [f.parent.name for f in found.unlabeled] == ["x", "w"]
  assert found.unlabeled_groups.tolist() == [0, -1]
  for told in (
    "2 in training, by column 'patient'; the largest, p2, has 2 images",
    "1 in test; 1 unlabeled images of groups held out are left out",
  ):
    assert told in found.understood
  by_path = tables.read_set(path, group_by=r"^(\w)/")
  assert by_path.groups.tolist() == [0, 0, 1]
  assert by_path.unlabeled_groups.tolist() == [0, 2]
  for group_by, message in (
    ("patients", "but the table has the columns path, label, patient, split"),
    (r"patient_(\d+)", "does not match 3 of 3 pictures: x/1.jpg, x/2.jpg"),
  ):
    with pytest.raises(ValueError, match=message):
      tables.read_set(path, group_by=group_by)
  path = write(tmp_path, Case(text.replace("p1", "")))
  with pytest.raises(ValueError, match="line 4: column 'patient' .* 1 rows"):
    tables.read_set(path, group_by="patient")
  path = write(tmp_path, Case(text.replace("p3", "p1")))
  with pytest.raises(ValueError, match=r"100.0 % of the test .* such as p1\."):
    tables.read_set(path, group_by="patient")


def test_pools(tmp_path):
  text = lines(
    "a.jpg,owl,train", "b.jpg,elk,", "c.jpg,,train", header="path,label,split"
  )
  text = text.replace("elk,\n", "elk,unlabeled\n")
  path = write(tmp_path, Case(text + "d.jpg,owl,test\n"))
  found = tables.read_pool(path, class_names=("newt", "owl"))
  assert [file.name for file in found.files] == ["a.jpg", "b.jpg", "c.jpg"]
  assert found.labels.tolist() == [1, -1, -1]
  # A list of paths is a table, too, and the names of columns may be others.
  path = write(tmp_path, Case("file\na.jpg\nb.jpg\n"))
  found = tables.read_pool(path, columns={"path": "foto", "label": "tier"})
  assert found.labels.tolist() == [-1, -1]
  path = write(tmp_path, Case("file,split\na.jpg,test\n"))
  with pytest.raises(ValueError, match="no pictures to train on"):
    tables.read_pool(path)


@pytest.mark.skipif(
  not importlib.util.find_spec("pyarrow"), reason="needs pyarrow"
)
def test_parquet(tmp_path):
  import pyarrow as pa
  from pyarrow import parquet

  path = write(tmp_path, Case("", suffix=".parquet"))
  with pytest.raises(ValueError, match="no Parquet file"):
    tables.read_set(path)
  content = {
    "image": pa.array([b"1", b"2", b"3", b"4"]),  # not its path
    "file_name": pa.array(["a.jpg", "b.jpg", "c.jpg", "d.jpg"]),
    "label": pa.array([1.0, 0.0, 1.0, None]),
    "split": pa.array(["train"] * 4).dictionary_encode(),
  }
  parquet.write_table(pa.table(content), path)
  found = tables.read_set(path)
  assert found.names == NUMBERS and found.train.labels.tolist() == [1, 0, 1]
  assert found.unlabeled == [tmp_path / "d.jpg"]
  assert "Parquet" in found.understood


def test_excel(tmp_path, monkeypatch):
  path = write(tmp_path, Case("", suffix=".xlsx"))
  if not importlib.util.find_spec("openpyxl"):
    with pytest.raises(ValueError, match="needs openpyxl: pip install"):
      tables.read_set(path)
    return
  import openpyxl

  with pytest.raises(ValueError, match="no Excel file"):
    tables.read_set(path)
  book = openpyxl.Workbook()
  for row in (
    ("path", "class"),
    ("a.jpg", 2),
    ("b.jpg", 1.0),
    (None, None),
    ("c.jpg", 2),
  ):
    book.active.append(row)
  book.create_sheet("notes")
  book.save(path)
  with monkeypatch.context() as patch:
    patch.setattr(files, "_MAX_BYTES", 100)
    with pytest.raises(ValueError, match="it unfolds to 0.0 GiB"):
      tables.read_set(path)
  found = tables.read_set(path)
  assert found.names == ("1", "2") and found.train.labels.tolist() == [1, 0, 1]
  assert "sheet 'Sheet' (the first of 2)" in found.understood
