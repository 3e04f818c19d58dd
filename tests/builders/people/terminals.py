"""A user's home and terminal: `mayfly` without a key, and a browser at an issuer's pages."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx2

from tests.builders.people.own_users import OwnUser
from tests.harness import Stack


class Terminal:
    """A user's home, in which the command is called without a key."""

    def __init__(self, api: Stack, home: Path) -> None:
        self.home, self.file = home, home / "mayfly" / "logins.json"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MAYFLY_")}
        self.env = {**kept, "XDG_CONFIG_HOME": str(home), "MAYFLY_URL": api.env["MAYFLY_URL"], "BROWSER": "true"}

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "orchestrator.cli", *words]

    def call(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words), env=self.env, cwd=self.home, input=given, capture_output=True, text=True, timeout=120
        )

    def begin(self, *words: str) -> tuple[subprocess.Popen[str], str]:
        """A command that runs, and its first line on standard error."""
        child = subprocess.Popen(
            self.command(*words), env=self.env, cwd=self.home, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert child.stderr is not None
        return child, child.stderr.readline()

    def log_in(self, user: OwnUser) -> None:
        done = self.call("login", "--name", user.name, given=f"{user.password}\n")
        assert done.returncode == 0, done.stderr

    def login(self) -> dict[str, Any]:
        """The one log-in of the file."""
        (found,) = json.loads(self.file.read_text()).values()
        return dict(found)

    def let_expire(self) -> None:
        """As time would."""
        logins = json.loads(self.file.read_text())
        self.file.write_text(json.dumps({url: {**login, "expires_at": 0} for url, login in logins.items()}))


class Browser:
    """Fills in the forms of an issuer's pages until there is none left."""

    def __init__(self) -> None:
        self.client = httpx2.Client(follow_redirects=True, timeout=60)

    def visit(self, url: str, abort: bool = False) -> str:
        """The text of the last page."""
        with self.client:
            return self._visit(url, abort)

    def _visit(self, url: str, abort: bool) -> str:
        page = self.client.get(url)
        for _ in range(6):
            form = re.search(r"<form[^>]*>.*?</form>", page.text, re.DOTALL)
            if form is None:
                return page.text
            action = re.search(r'action="([^"]*)"', form[0])
            fields = dict(re.findall(r'<input[^>]*name="([^"]*)"[^>]*value="([^"]*)"', form[0]))
            fields |= dict.fromkeys(re.findall(r'<input[^>]*name="(login|password)"', form[0]), "ann")
            if abort and (link := re.search(r'href="([^"]*/abort)"', page.text)):
                return self.client.get(urljoin(str(page.url), html.unescape(link[1]))).text
            target = urljoin(str(page.url), html.unescape(action[1]) if action else "")
            page = self.client.post(target, data=fields)
        raise AssertionError(page.text)
