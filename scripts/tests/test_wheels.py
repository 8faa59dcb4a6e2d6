"""Downloads of wheels from an index of our own on loopback, which breaks off, refuses and lies."""

import hashlib
import json
import os
import sys
import tempfile
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import wheels  # noqa: E402

NAME = "big-1.0-py3-none-any.whl"
CONTENT = bytes(range(256)) * 20_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Index(BaseHTTPRequestHandler):
    """An index with one file; `server.plan` says what becomes of each request for it."""

    def do_GET(self):
        if self.server.login and self.headers.get("Authorization") != self.server.login:
            return self.answer(401, b"")
        if self.path == "/simple/big/":
            if self.server.speaks_json:
                page = {"files": [{"filename": NAME, "url": f"/files/{NAME}"}]}
                return self.answer(200, json.dumps(page).encode(), {"Content-Type": "application/vnd.pypi.simple.v1+json"})
            page = f'<a href="../../files/{NAME}#sha256={DIGEST}">{NAME}</a>'
            return self.answer(200, page.encode(), {"Content-Type": "text/html"})
        if self.path != f"/files/{NAME}":
            return self.answer(404, b"")
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        fate = self.server.plan.pop(0) if self.server.plan else "whole"
        if fate == "busy":
            return self.answer(503, b"")
        begin = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        rest = CONTENT[begin:] if fate != "lie" else bytes(len(CONTENT) - begin)
        head = {"Content-Range": f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}"} if asked else {}
        self.send_response(206 if asked else 200)
        for name, value in {**head, "Content-Length": str(len(rest))}.items():
            self.send_header(name, value)
        self.end_headers()
        # Breaks off in the middle of what is left.
        try:
            self.wfile.write(rest[: len(rest) // 2] if fate == "break" else rest)
        except ConnectionError:
            pass  # The other side may have given up.
        self.close_connection = True

    def answer(self, status, body, headers=None):
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Downloads(unittest.TestCase):
    def setUp(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Index)
        self.server.plan, self.server.asked, self.server.login, self.server.speaks_json = [], [], None, True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.url = f"http://127.0.0.1:{self.server.server_port}/simple"
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.use_index(self.url)

    def use_index(self, url):
        patch = mock.patch.dict(os.environ, {"PIP_INDEX_URL": url, "NO_PROXY": "127.0.0.1"})
        patch.start()
        self.addCleanup(patch.stop)

    def fetch(self, digest=DIGEST):
        return wheels.fetch("big", NAME, digest, self.folder, pause=0.0)

    def test_a_wheel_that_is_there_is_not_fetched_again(self):
        wheel = self.fetch()
        self.assertEqual(wheel.read_bytes(), CONTENT)
        self.fetch()
        self.assertEqual(self.server.asked, [None])

    def test_a_page_in_html_serves_as_well(self):
        self.server.speaks_json = False
        self.assertEqual(self.fetch().read_bytes(), CONTENT)

    def test_a_broken_connection_is_resumed_and_not_begun_again(self):
        self.server.plan = ["break", "busy", "break"]
        self.assertEqual(self.fetch().read_bytes(), CONTENT)
        half, quarter = len(CONTENT) // 2, len(CONTENT) * 3 // 4
        self.assertEqual(self.server.asked, [None, f"bytes={half}-", f"bytes={half}-", f"bytes={quarter}-"])

    def test_what_an_ended_process_left_is_used(self):
        (self.folder / f"{NAME}.part").write_bytes(CONTENT[:1000])
        self.assertEqual(self.fetch().read_bytes(), CONTENT)
        self.assertEqual(self.server.asked, ["bytes=1000-"])
        self.assertEqual([path.name for path in self.folder.iterdir()], [NAME])

    def test_a_network_that_stays_away_is_told_and_what_came_is_kept(self):
        self.server.plan = ["break"] + ["busy"] * wheels.TRIES
        with self.assertRaisesRegex(wheels.FetchError, "503.*check the network.*goes on where it stopped"):
            self.fetch()
        self.assertEqual((self.folder / f"{NAME}.part").stat().st_size, len(CONTENT) // 2)

    def test_a_wrong_sum_is_told_and_nothing_is_kept(self):
        self.server.plan = ["lie"]
        with self.assertRaisesRegex(wheels.FetchError, "does not have the sha256"):
            self.fetch()
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_wheel_that_the_index_lacks_is_told(self):
        with self.assertRaisesRegex(wheels.FetchError, "has no file other.whl"):
            wheels.fetch("big", "other.whl", DIGEST, self.folder, pause=0.0)

    @unittest.skipUnless(Path("/dev/full").exists(), "no device that is always full")
    def test_a_full_disk_is_told_with_the_file(self):
        (self.folder / f"{NAME}.part").symlink_to("/dev/full")
        with self.assertRaisesRegex(wheels.FetchError, "No space left on device; free some space"):
            self.fetch()

    def test_an_index_with_a_login_gets_it_for_its_files_too(self):
        self.server.login = "Basic cmFuZ2VyOnQhZ2Vy"
        self.use_index(self.url.replace("127.0.0.1", "ranger:t%21ger@127.0.0.1"))
        self.assertEqual(self.fetch().read_bytes(), CONTENT)


if __name__ == "__main__":
    unittest.main()
