"""Opens the page of a server in Chromium as a person does: chooses a photograph, waits, and looks at what is shown.

usage: page.py CHROMIUM URL PHOTO FILE_THAT_IS_NONE SCREENSHOT      prints one JSON object
"""
import base64
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import websocket

PATIENCE = 60

# Of the canvas: its size, and how many pixels have the colour of a box around an animal.
LOOK = """(() => {
  const canvas = document.getElementById('picture');
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let marked = 0;
  for (let i = 0; i < data.length; i += 4)
    if (data[i] === 255 && data[i + 1] === 176 && data[i + 2] === 32) marked += 1;
  const rows = [...document.getElementById('found').tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.textContent));
  return { size: [canvas.width, canvas.height], marked, rows, is_shown: !document.getElementById('found').hidden };
})()"""


class Page:
    """A tab, over the DevTools protocol."""

    def __init__(self, folder):
        port = wait_for(lambda: (Path(folder) / "DevToolsActivePort").read_text().splitlines()[0])
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
            [tab] = [tab for tab in json.load(answer) if tab["type"] == "page"]
        self.socket = websocket.create_connection(tab["webSocketDebuggerUrl"], suppress_origin=True, timeout=PATIENCE)
        self.number = 0
        self.complaints = []
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.ask(f"{domain}.enable")

    def ask(self, method, **params):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.complaints.append(message["params"])
            if message.get("id") == self.number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]

    def value(self, expression):
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def choose(self, file):
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        node = self.ask("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        self.ask("DOM.setFileInputFiles", nodeId=node, files=[str(Path(file).resolve())])

    def status(self):
        return self.value("document.getElementById('status').textContent")


def wait_for(look):
    until = time.monotonic() + PATIENCE
    while True:
        try:
            if seen := look():
                return seen
        except (OSError, IndexError):
            pass
        if time.monotonic() > until:
            raise TimeoutError("the page does not get there")
        time.sleep(0.05)


def main(chromium, url, photo, no_photo, screenshot):
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0", "--window-size=900,900"]
        browser = subprocess.Popen([chromium, *options, f"--user-data-dir={folder}", "about:blank"], stderr=subprocess.DEVNULL)
        try:
            page = Page(folder)
            page.ask("Page.navigate", url=url)
            wait_for(lambda: page.value("document.readyState === 'complete' && !!document.getElementById('file')"))
            page.choose(photo)
            wait_for(lambda: page.status() not in ("", "looking …"))
            seen = page.value(LOOK) | {"status": page.status()}
            Path(screenshot).write_bytes(base64.b64decode(page.ask("Page.captureScreenshot")["data"]))
            complaints = list(page.complaints)
            page.choose(no_photo)
            wait_for(lambda: page.value("document.getElementById('status').className") == "problem")
            seen |= {"refused": page.status(), "complaints": complaints}
            print(json.dumps(seen))
        finally:
            browser.kill()
            browser.wait()


main(*sys.argv[1:])
