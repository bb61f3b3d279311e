"""A download is whole under its name, or is not there."""

import functools
import hashlib
import http.server
import io
import os
import pathlib
import sys
import threading
import urllib.error

import pytest

from ltjax.data.download import fetch as downloads

CONTENT = bytes(range(256)) * 2000
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
  """Serves CONTENT: whole, cut after half of it, or not at all."""

  def do_GET(self):
    if self.path == "/missing":
      self.send_error(404)
      return
    self.send_response(200)
    self.send_header("Content-Length", str(len(CONTENT)))
    self.end_headers()
    half = len(CONTENT) // 2
    self.wfile.write(CONTENT[:half] if self.path == "/cut" else CONTENT)

  def log_message(self, *_):
    pass


@pytest.fixture(scope="module")
def server():
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as running:
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    thread.join()


@pytest.mark.parametrize("checksum", [None, MD5, SHA256])
def test_whole(server, tmp_path, checksum):
  path = tmp_path / "new" / "a.bin"
  assert downloads.fetch(f"{server}/a.bin", path, checksum=checksum) == path
  assert path.read_bytes() == CONTENT
  assert os.listdir(path.parent) == ["a.bin"]
  assert path.stat().st_mode & 0o777 == 0o644


def test_truncated_leaves_nothing(server, tmp_path):
  with pytest.raises(
    ValueError, match="/cut: truncated, 256000 of 512000 bytes"
  ):
    downloads.fetch(f"{server}/cut", tmp_path / "a.bin")
  assert not os.listdir(tmp_path)


def test_truncated_keeps_an_older_file(server, tmp_path):
  (tmp_path / "a.bin").write_bytes(b"old")
  with pytest.raises(ValueError, match="truncated"):
    downloads.fetch(f"{server}/cut", tmp_path / "a.bin")
  assert (tmp_path / "a.bin").read_bytes() == b"old"
  assert os.listdir(tmp_path) == ["a.bin"]


def test_wrong_checksum_leaves_nothing(server, tmp_path):
  with pytest.raises(ValueError, match=r"/a: wrong checksum \(md5 .*, must be"):
    downloads.fetch(
      f"{server}/a", tmp_path / "a.bin", checksum="md5:" + "0" * 32
    )
  assert not os.listdir(tmp_path)


def test_unreachable_makes_no_folder(server, tmp_path):
  with pytest.raises(urllib.error.HTTPError, match="404"):
    downloads.fetch(f"{server}/missing", tmp_path / "new" / "a.bin")
  assert not os.listdir(tmp_path)


def test_interrupted_leaves_nothing(server, tmp_path, monkeypatch):
  def stop(*_, **__):
    raise KeyboardInterrupt

  monkeypatch.setattr(downloads, "verify", stop)
  with pytest.raises(KeyboardInterrupt):
    downloads.fetch(f"{server}/a", tmp_path / "a.bin")
  assert not os.listdir(tmp_path)


def test_disk_full_leaves_nothing(server, tmp_path, monkeypatch):
  def full(_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(downloads.os, "fsync", full)
  with pytest.raises(OSError, match="No space left"):
    downloads.fetch(f"{server}/a", tmp_path / "a.bin")
  assert not os.listdir(tmp_path)


def test_silent_server_times_out(tmp_path):
  import socket

  with socket.create_server(("127.0.0.1", 0)) as silent:
    port = silent.getsockname()[1]
    with pytest.raises(OSError, match="timed out"):
      downloads.fetch(
        f"http://127.0.0.1:{port}/a", tmp_path / "a.bin", timeout=0.2
      )


def test_verify(tmp_path):
  path = tmp_path / "a"
  path.write_bytes(CONTENT)
  downloads.verify(path, None)
  downloads.verify(path, MD5)
  downloads.verify(path, SHA256)
  path.write_bytes(CONTENT[:-1])
  with pytest.raises(ValueError, match="a: wrong checksum .*511999 bytes"):
    downloads.verify(path, SHA256)


def test_check_writable(tmp_path):
  downloads.check_writable(tmp_path)
  assert not os.listdir(tmp_path)
  with pytest.raises(OSError):
    downloads.check_writable(tmp_path / "gone")


class _Terminal(io.StringIO):
  def isatty(self):
    return True


def test_progress_bar_on_a_terminal(monkeypatch):
  monkeypatch.setattr(sys, "stderr", out := _Terminal())
  monkeypatch.setenv("COLUMNS", "100")
  monkeypatch.setenv("TERM", "xterm")
  with downloads.progress("set.tar.gz", 2_000_000) as advance:
    advance(2_000_000)
  assert "set.tar.gz" in out.getvalue()
  assert "2.0/2.0 MB" in out.getvalue()


@pytest.mark.parametrize(
  "total, line",
  [(2_000_000, "fetching set (2.0 MB)\n"), (0, "fetching set\n")],
)
def test_one_line_elsewhere(capsys, total, line):
  with downloads.progress("set", total) as advance:
    advance(10)
  assert capsys.readouterr().err == line


def test_file_urls_work_too(tmp_path):
  source = pathlib.Path(tmp_path / "in")
  source.write_bytes(CONTENT)
  fetch = functools.partial(downloads.fetch, source.as_uri())
  assert fetch(tmp_path / "out", checksum=MD5).read_bytes() == CONTENT
