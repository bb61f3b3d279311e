"""`report.html`: the report as one page that needs nothing beside it.

The Markdown is rendered, its pictures are put in as SVG where there is one, and
a style sheet is added. Class names are text: what is not letters in them is
escaped, and the browser has the fonts.
"""

from __future__ import annotations

import base64
import pathlib
import re

import markdown_it

_STYLE = """\
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.55 system-ui, "Noto Sans", "Noto Sans CJK SC", sans-serif;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.25; margin-top: 2.2rem; }
h2 { border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums;
  font-size: .9rem; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
tbody tr:hover { background: var(--soft); }
blockquote { margin: 1rem 0; padding: .3rem 1rem;
  border-left: 4px solid #d55e00;
  background: var(--soft); }
pre { overflow: auto; max-height: 24rem; padding: .8rem; font-size: .8rem; }
pre { background: var(--soft); }
figure { margin: 1rem 0; background: #fff; border-radius: 6px; padding: .5rem; }
figure svg, figure img { max-width: 100%; height: auto; display: block;
  margin: auto; }
"""
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
{body}</body>
</html>
"""
_IMAGE = re.compile(r'<p><img src="([^"]+)" alt="([^"]*)" ?/?></p>')


def render(markdown: str, folder: pathlib.Path) -> str:
  """Returns a report as a page.

  Args:
    markdown: the report; pictures stand in lines of their own.
    folder: that their paths start from; `NAME.svg` is taken for `NAME.png`
      where it is there.
  """
  parser = markdown_it.MarkdownIt("commonmark", {"html": False}).enable("table")
  body = parser.render(markdown)
  body = _IMAGE.sub(lambda found: _figure(folder, *found.groups()), body)
  body = body.replace("<table>", '<div class="table"><table>')
  body = body.replace("</table>", "</table></div>")
  heading = re.search(r"<h1>(.*?)</h1>", body)
  return page(heading.group(1) if heading else "report", body)


def page(title: str, body: str, style: str = "") -> str:
  """Returns a page that needs nothing beside it.

  Args:
    title, body: HTML.
    style: CSS beside that of all pages.
  """
  return _PAGE.format(title=title, style=_STYLE + style, body=body)


def _figure(folder: pathlib.Path, source: str, words: str) -> str:
  """Returns a picture with its bytes in it; of a file that is not there, words.

  Args:
    folder: of the report.
    source: path of the PNG file.
    words: what it shows, escaped.
  """
  path = folder / source
  drawing = path.with_suffix(".svg")
  if drawing.exists():
    text = drawing.read_text(encoding="utf-8")
    inside = text[text.index("<svg") :].replace(
      "<svg", f'<svg role="img" aria-label="{words}"', 1
    )
  elif path.exists():
    data = base64.b64encode(path.read_bytes()).decode()
    inside = f'<img alt="{words}" src="data:image/png;base64,{data}">'
  else:
    return f"<p>{words}</p>"
  return f"<figure>{inside}</figure>"
