"""Fetches wheels from the package index that pip is set to use: checked against a sha256, and resumed where they broke off.

pip itself begins a broken download again, and libtorch is half a gigabyte.
"""

import base64
import hashlib
import http.client
import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from html.parser import HTMLParser
from pathlib import Path

TRIES = 10
TIMEOUT_SECONDS = 60
CHUNK_BYTES = 1 << 20
ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"


class FetchError(Exception):
    """Why a wheel could not be had, and what to do; for people."""


def fetch(package, name, digest, folder, pause=2.0):
    """The path of the wheel `name` of `package` in `folder`, with this sha256; downloads what of it is missing."""
    wheel = folder / name
    if wheel.exists() and sha256(wheel) == digest:
        return wheel
    wheel.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{name}.part"
    index = index_url()
    for attempt in range(1, TRIES + 1):
        before = size(part)
        try:
            download(find(index, package, name), part)
            break
        except urllib.error.HTTPError as error:
            # The server has another idea of how long the file is: from the beginning.
            if error.code == 416:
                part.unlink(missing_ok=True)
            elif error.code < 500 and error.code != 429:
                raise FetchError(f"{name}: the package index answers {error.code} {error.reason}; "
                                 "check pip's index-url, or PIP_INDEX_URL") from None
            reason = f"the package index answers {error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "filename", None):
                raise FetchError(f"{error.filename}: {error.strerror}; free some space, "
                                 "or set SAFARI_CACHE to another folder") from None
            reason = getattr(error, "reason", None) or error
        if attempt == TRIES:
            raise FetchError(f"{name} could not be downloaded: {reason}; check the network and run scripts/setup "
                             "again, it goes on where it stopped")
        print(f"  {reason}; trying again", file=sys.stderr, flush=True)
        # A connection that brings something may break as often as it likes.
        time.sleep(0 if size(part) > before else pause * attempt)
    if sha256(part) != digest:
        part.unlink()
        raise FetchError(f"{name} does not have the sha256 in scripts/libtorch.lock and was removed; "
                         "run scripts/setup again")
    part.rename(wheel)
    return wheel


def find(index, package, name):
    """The address of a file, from the index's page about its package (PEP 503, or PEP 691 where it is spoken)."""
    page = f"{index.rstrip('/')}/{re.sub(r'[-_.]+', '-', package).lower()}/"
    with get(page, {"Accept": ACCEPT}) as answer:
        base, text = answer.url, answer.read()
        if "json" in answer.headers.get("Content-Type", ""):
            links = [(file["filename"], file["url"]) for file in json.loads(text)["files"]]
        else:
            links = links_of(text.decode())
    for filename, url in links:
        if filename == name:
            return with_login(urllib.parse.urljoin(base, url).split("#")[0], page)
    raise FetchError(f"the package index has no file {name}; check pip's index-url, or PIP_INDEX_URL")


def download(url, part):
    """Appends to `part` what it lacks, and tells how far it is."""
    have = size(part)
    with get(url, {"Range": f"bytes={have}-"} if have else {}) as answer:
        resumed = answer.status == 206
        have = have if resumed else 0
        total = have + int(answer.headers["Content-Length"])
        with open_part(part, "ab" if resumed else "wb") as file:
            told = time.monotonic()
            while chunk := answer.read(CHUNK_BYTES):
                write(file, chunk, part)
                have += len(chunk)
                if time.monotonic() - told > (0.2 if sys.stderr.isatty() else 10):
                    told = time.monotonic()
                    show(have, total)
    if have < total:
        raise ConnectionError(f"the connection broke off at {have // 1_000_000} of {total // 1_000_000} MB")
    show(have, total, last=True)


def show(have, total, last=False):
    text = f"  {have // 1_000_000} of {total // 1_000_000} MB"
    if sys.stderr.isatty():
        print(f"\r{text}", end="\n" if last else "", file=sys.stderr, flush=True)
    elif not last:
        print(text, file=sys.stderr, flush=True)


def open_part(part, mode):
    try:
        return part.open(mode)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(part)) from None


def write(file, chunk, part):
    """Names the file when the disk is full, which tells such an error from one of the network."""
    try:
        file.write(chunk)
        file.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(part)) from None


def get(url, headers):
    parts = urllib.parse.urlsplit(url)
    if parts.username:
        login = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        headers = {**headers, "Authorization": "Basic " + base64.b64encode(login.encode()).decode()}
        host = parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"
        url = urllib.parse.urlunsplit(parts._replace(netloc=host))
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)


def with_login(url, page):
    """Files on the index's own host want its login too."""
    index, file = urllib.parse.urlsplit(page), urllib.parse.urlsplit(url)
    if not index.username or (index.hostname, index.port) != (file.hostname, file.port):
        return url
    return urllib.parse.urlunsplit(file._replace(netloc=index.netloc))


def index_url():
    """The index that pip would ask."""
    pip = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(pip, capture_output=True, text=True).stdout
    settings = dict(line.split("=", 1) for line in listed.splitlines() if "=" in line)
    for name in (":env:.index-url", "download.index-url", "global.index-url"):
        if name in settings:
            return settings[name].strip("'\"")
    default = [sys.executable, "-c", "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"]
    found = subprocess.run(default, capture_output=True, text=True)
    if found.returncode != 0:
        raise FetchError("pip is missing; install Debian's package python3-venv, or python3-pip, and run scripts/setup again")
    return found.stdout.strip()


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        url = dict(attributes).get("href") if tag == "a" else None
        if url:
            path = urllib.parse.urlsplit(url).path
            self.found.append((urllib.parse.unquote(path.rsplit("/", 1)[-1]), url))


def links_of(page):
    parser = Links()
    parser.feed(page)
    return parser.found


def size(path):
    return path.stat().st_size if path.exists() else 0


def sha256(path):
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
