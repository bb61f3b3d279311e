"""Pictures with words, on a page that needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
import html
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ltjax.report import html as pages

SIDE = 160  # pixels of a thumbnail
_STYLE = """\
body { max-width: none; }
main { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); }
figure { margin: 0; background: var(--soft); font-size: .8rem;
  overflow-wrap: anywhere; }
figure img { height: 160px; width: 100%; object-fit: contain;
  image-rendering: auto; }
"""


class Shown(NamedTuple):
  """A picture and the lines below it."""

  picture: Image.Image
  lines: Sequence[str]


def page(title: str, about: str, shown: Iterable[Shown]) -> str:
  """Returns HTML with the pictures in it, as thumbnails.

  Args:
    title: of the page.
    about: a line on what is shown.
    shown: in this order.
  """
  figures = "\n".join(
    f'<figure><img alt="" src="data:image/png;base64,{_encoded(each.picture)}">'
    f"<figcaption>{'<br>'.join(map(html.escape, each.lines))}</figcaption>"
    "</figure>"
    for each in shown
  )
  title = html.escape(title)
  body = f"<h1>{title}</h1>\n<p>{html.escape(about)}</p>\n"
  return pages.page(title, f"{body}<main>\n{figures}\n</main>\n", _STYLE)


def of_array(pixels: np.ndarray) -> Image.Image:
  """Returns a picture of uint8 `[H, W, C]`.

  Args:
    pixels: of one channel or three.
  """
  return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def beside(table: Path) -> Path:
  """Returns where the page of a table belongs: the same name, but `.html`."""
  return table.with_suffix(".html")


def _encoded(picture: Image.Image) -> str:
  small = picture.convert("RGB")
  small.thumbnail((SIDE, SIDE))
  file = io.BytesIO()
  small.save(file, "PNG")
  return base64.b64encode(file.getvalue()).decode()
