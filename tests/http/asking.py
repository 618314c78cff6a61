"""Requests to a server on this machine, and what it answers, errors included."""

import json
import urllib.error
import urllib.request
from typing import Any


def ask(url: str, body: Any = None) -> tuple[int, Any]:
    """Status and JSON of a GET, or of a POST if there is a body."""
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode())
    request.add_header("content-type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
