"""The report as one page: complete, and safe whatever classes are called."""

from html import parser
import re

from ltjax.report import html

REPORT = """\
# sslt, seed 0

**SSLT: test accuracy 78.8 %.** Nothing was selected.

> Warning: it is below its baseline.

| class | right |
| ----- | ----: |
| 猫 | 70.0 |
| <script>alert(1)</script> | 60.0 |
| a & b "c" | 50.0 |

![Training images of each class](plots/bars.png)

![Confusion](plots/only.png)

![Not drawn <b>](plots/none.png)

```json
{"a": "<b>"}
```
"""


class Reader(parser.HTMLParser):
  """Collects tags with their attributes, text, and what stays open."""

  def __init__(self, page):
    super().__init__()
    self.tags, self.text, self.open = [], "", []
    self.feed(page)

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    if tag not in ("meta", "img", "br", "hr", "path", "use", "rect"):
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text += data


def page(tmp_path):
  plots = tmp_path / "plots"
  plots.mkdir()
  (plots / "bars.png").write_bytes(b"png")
  (plots / "bars.svg").write_text(
    '<?xml version="1.0"?>\n<svg width="3"><text>猫</text></svg>',
    encoding="utf-8",
  )
  (plots / "only.png").write_bytes(b"png")
  return html.render(REPORT, tmp_path)


def test_the_page_is_whole_and_needs_nothing_beside_it(tmp_path):
  text = page(tmp_path)
  read = Reader(text)
  assert read.open == []
  assert text.startswith("<!doctype html>")
  names = [tag for tag, _ in read.tags]
  assert "script" not in names and "link" not in names
  assert names.count("table") == 1 and names.count("svg") == 1
  for _, attributes in read.tags:
    for name in ("src", "href"):
      assert attributes.get(name, "data:").startswith("data:")
  assert not re.search(r"https?://", text.replace("http://www.w3.org", ""))


def test_class_names_are_text(tmp_path):
  read = Reader(page(tmp_path))
  for name in ("猫", "<script>alert(1)</script>", 'a & b "c"', '{"a": "<b>"}'):
    assert name in read.text


def test_pictures_are_drawings_where_there_are_and_words_where_not(tmp_path):
  read = Reader(page(tmp_path))
  (svg,) = [attributes for tag, attributes in read.tags if tag == "svg"]
  assert svg["aria-label"] == "Training images of each class"
  (image,) = [attributes for tag, attributes in read.tags if tag == "img"]
  assert image == {"alt": "Confusion", "src": "data:image/png;base64,cG5n"}
  assert "Not drawn <b>" in read.text
  assert "Warning: it is below its baseline." in read.text


def test_the_title_is_the_first_heading(tmp_path):
  assert "<title>sslt, seed 0</title>" in page(tmp_path)
  assert "<title>report</title>" in html.render("no heading", tmp_path)
