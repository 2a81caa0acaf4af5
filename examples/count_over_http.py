"""
Count a smear over HTTP
=======================

The review page (``hemaest serve``) uses nothing but its HTTP API, and so may your own programs. The
script sends fields, waits for them, and prints the differential count with its intervals. It needs
Python alone, no package, so it also runs where hemaest is not installed:

.. code-block:: console

   $ hemaest serve --no-browser
   $ python count_over_http.py field1.png field2.png

The smear stays on the page, where a person can correct and sign it.
"""

import argparse
import json
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path


class Smear:
    """A session of the review page, opened over its API."""

    def __init__(self, address, name, token=""):
        self._api = f"{address.rstrip('/')}/api"
        self._headers = {"X-Hemaest": "1"}  # every change must carry it
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        opened = self._ask("/sessions", {"name": name})
        self.session = opened["id"]
        self._at = f"/sessions/{self.session}"

    def _ask(self, path, body=None, kind="application/json"):
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        headers = self._headers | ({} if data is None else {"Content-Type": kind})
        request = urllib.request.Request(f"{self._api}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:  # the answer says what is wrong
            raise SystemExit(f"{path}: {json.load(error)['detail']}") from None

    def add(self, path):
        """Send one field."""
        border, name = uuid.uuid4().hex, Path(path).name.replace('"', "_")
        head = (
            f'--{border}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        )
        body = head.encode() + Path(path).read_bytes() + f"\r\n--{border}--\r\n".encode()
        self._ask(f"{self._at}/fields", body, f"multipart/form-data; boundary={border}")

    def wait(self):
        """Wait until all fields are analyzed; return those that failed, with the reasons."""
        while True:
            fields = self._ask(self._at)["fields"]
            if not any(f["state"] in {"queued", "working"} for f in fields):
                return {f["name"]: f["reason"] for f in fields if f["state"] == "failed"}
            time.sleep(0.5)

    def differential(self):
        """Return the differential count."""
        return self._ask(f"{self._at}/differential?observer=script")


def main():
    parser = argparse.ArgumentParser(description="Count a smear over the API of hemaest serve.")
    parser.add_argument("fields", nargs="+", help="images of one smear")
    parser.add_argument("--address", default="http://127.0.0.1:8000")
    parser.add_argument("--token", default="", help="needed where the server is another machine")
    parser.add_argument("--name", default="counted by a script")
    given = parser.parse_args()
    smear = Smear(given.address, given.name, given.token)
    for path in given.fields:
        smear.add(path)
    for name, reason in smear.wait().items():
        print(f"{name} failed: {reason}")
    found = smear.differential()
    print(f"{found['n']} leukocytes, intervals of {found['intervals']}")
    for row in found["rows"]:
        if row["n"]:
            interval = f"{row['low']:.1f} to {row['high']:.1f}"
            print(f"{row['type']:24}{row['n']:6}{row['percent']:8.1f} %  ({interval})")


if __name__ == "__main__":
    main()
