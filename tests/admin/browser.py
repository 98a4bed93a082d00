"""A headless Chromium, driven by its DevTools protocol over a pipe: no driver program and no package.

A page collects what its console says and every address that it asks, so that a test can hold both
against it.
"""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

ANSWER_SECONDS = 60
NAMES = ["chromium", "chromium-browser", "google-chrome"]
# Without these, the browser would ask other hosts by itself.
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--remote-debugging-pipe",
]


class Browser:
    """Ends with the `with` that it was made for."""

    def __init__(self):
        program = next(filter(None, map(shutil.which, NAMES)), None)
        if program is None:
            raise SystemExit("Chromium is missing: install it, for example the package chromium.")
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        commands, self.commands = os.pipe()
        self.answers, answers = os.pipe()
        # The browser reads at descriptor 3 and writes at 4.
        script = f'exec "$0" "$@" 3<&{commands} 4>&{answers}'
        words = [program, *FLAGS, f"--user-data-dir={self.profile.name}"]
        self.log = open(os.path.join(self.profile.name, "log"), "w+b")
        self.process = subprocess.Popen(
            ["bash", "-c", script, *words], pass_fds=[commands, answers], stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=self.log, start_new_session=True,
        )
        os.close(commands)
        os.close(answers)
        self.unread = b""
        self.last_id = 0
        self.pages = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        os.close(self.commands)
        os.close(self.answers)
        self.log.close()
        self.profile.cleanup()

    def send(self, method, session=None, **parameters):
        """Asks for something; gives back the number of the answer."""
        self.last_id += 1
        message = {"id": self.last_id, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        left = json.dumps(message).encode() + b"\0"
        while left:
            left = left[os.write(self.commands, left):]
        return self.last_id

    def call(self, method, session=None, **parameters):
        """Asks for something, and gives back the answer."""
        asked = self.send(method, session, **parameters)
        until = time.monotonic() + ANSWER_SECONDS
        while True:
            answer = self.receive(until - time.monotonic())
            if answer is None:
                raise TimeoutError(f"the browser does not answer {method}: {self.said()}")
            if answer.get("id") != asked:
                continue
            if "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']['message']}")
            return answer["result"]

    def receive(self, seconds):
        """The next message of the browser, after those that it sends by itself went to their page."""
        while b"\0" not in self.unread:
            if not select.select([self.answers], [], [], max(0, seconds))[0]:
                return None
            chunk = os.read(self.answers, 1 << 20)
            if not chunk:
                raise RuntimeError(f"the browser has ended: {self.said()}")
            self.unread += chunk
        raw, self.unread = self.unread.split(b"\0", 1)
        message = json.loads(raw)
        page = self.pages.get(message.get("sessionId"))
        if page is not None and "method" in message:
            page.take(message["method"], message["params"])
        return message

    def said(self):
        self.log.seek(0)
        return self.log.read()[-400:].decode(errors="replace")

    def open(self, address, **look):
        return Page(self, address, **look)


class Page:
    """One page of the browser, as wide and in such colours as it was asked for."""

    def __init__(self, browser, address, width=1200, height=900, dark=False):
        self.browser = browser
        self.console = []
        self.made_up = ""
        self.asked = []
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self.target, self.session = target, attached["sessionId"]
        browser.pages[self.session] = self
        for domain in ["Page", "Runtime", "Log", "Network"]:
            self.call(f"{domain}.enable")
        self.look(width, height, dark)
        self.call("Page.navigate", url=address)

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)
        del self.browser.pages[self.session]

    def look(self, width, height=900, dark=False):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 640,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def take(self, event, parameters):
        if event == "Runtime.consoleAPICalled":
            words = [str(word.get("value", word.get("description"))) for word in parameters["args"]]
            self.console.append(" ".join(words))
        elif event == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.console.append(details.get("exception", {}).get("description", details["text"]))
        elif event == "Log.entryAdded":
            self.console.append(parameters["entry"]["text"])
        elif event == "Network.requestWillBeSent":
            self.asked.append(parameters["request"]["url"])
        elif event == "Fetch.requestPaused":
            self.browser.send(
                "Fetch.fulfillRequest", self.session, requestId=parameters["requestId"],
                responseCode=200, body=base64.b64encode(self.made_up.encode()).decode(),
            )

    def answer(self, pattern, body):
        """Answers requests for such addresses in place of the server."""
        self.made_up = body
        self.call("Fetch.enable", patterns=[{"urlPattern": pattern}])

    def evaluate(self, expression):
        """What JavaScript makes of it, as JSON can say it."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def wait(self, seconds):
        """Lets time pass, and takes note of what happens."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.browser.receive(left)

    def wait_until(self, expression, seconds=20):
        """Waits until it is true."""
        until = time.monotonic() + seconds
        while not self.evaluate(expression):
            if time.monotonic() > until:
                why = f"in {seconds} s it never came to: {expression}; console: {self.console}"
                raise TimeoutError(why)
            self.wait(0.1)

    def press(self, key):
        for kind in ["rawKeyDown", "keyUp"]:
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def point(self, x, y):
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def save_picture(self, path):
        """The whole page, however high."""
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        with open(path, "wb") as file:
            file.write(base64.b64decode(picture["data"]))
