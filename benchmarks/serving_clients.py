"""Clients of a server of completions on this machine, each a connection that reads a stream.

    python benchmarks/serving_clients.py URL < asked.json > found.json

It runs as a process of its own, so that it takes no time of the server's threads. What is asked: a
list of groups of clients, see `Clients`; what is found: for each client of each group its streams.
"""

import asyncio
import json
import random
import sys
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Clients:
    """Clients that do alike."""

    count: int
    """How many there are."""
    prompt: int
    """Tokens of each prompt, drawn anew for each request."""
    tokens: int
    """Asked for in each request."""
    seconds: float
    """They begin requests for so long, and end those that have begun; 0 is one request each."""
    after: float = 0.0
    """Seconds until they begin."""
    shared: int = 0
    """Tokens that all their prompts begin with."""


@dataclass
class Stream:
    """What a request was answered."""

    prompt: list[int]
    begin: float
    """Seconds since the clients began."""
    at: list[float]
    """When each token came."""
    text: str
    finished: str | None
    error: str | None


async def ask(url: str, model: str, prompt: list[int], tokens: int, origin: float) -> Stream:
    """One request, read to its end."""
    host = urlsplit(url)
    body = json.dumps(
        {"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True}
        | {"logit_bias": {"256": -1000}}  # the end of text, so that each has all its tokens
    ).encode()
    found = Stream(prompt, time.perf_counter() - origin, [], "", None, None)
    reader, writer = await asyncio.open_connection(host.hostname, host.port, limit=1 << 24)
    try:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: {host.netloc}\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        status = (await reader.readline()).decode().split()[1:2]
        if status != ["200"]:
            found.error = f"status {status}: {(await reader.read())[-300:]!r}"
            return found
        ended = False
        while line := await reader.readline():
            if line.startswith(b"data: [DONE]"):
                ended = True
            elif line.startswith(b"data: "):
                event = json.loads(line[6:])
                if "error" in event:
                    found.error = event["error"]["message"]
                    return found
                found.at.append(time.perf_counter() - origin)
                (choice,) = event["choices"]
                found.text += choice["text"]
                found.finished = choice["finish_reason"]
        if not ended:
            found.error = "the stream broke off"
    except OSError as error:
        found.error = f"{type(error).__name__}: {error}"
    finally:
        writer.close()
    return found


async def client(url: str, model: str, of: Clients, seed: int, origin: float) -> list[Stream]:
    """One client's requests, one after the other."""
    draw = random.Random(seed)
    shared = random.Random(-1).choices(range(97, 123), k=of.shared)
    await asyncio.sleep(max(0.0, origin + of.after - time.perf_counter()))
    found: list[Stream] = []
    while not found or time.perf_counter() - origin < of.after + of.seconds:
        prompt = shared + draw.choices(range(97, 123), k=of.prompt - of.shared)
        found.append(await ask(url, model, prompt, of.tokens, origin))
        if found[-1].error is not None:
            break
    return found


async def run(url: str, model: str, groups: list[Clients]) -> list[list[list[Stream]]]:
    """All groups at once: of each group, of each client, its streams."""
    origin = time.perf_counter()
    of_groups = [
        asyncio.gather(
            *(client(url, model, group, 1000 * i + j, origin) for j in range(group.count))
        )
        for i, group in enumerate(groups)
    ]
    return list(await asyncio.gather(*of_groups))


def main() -> None:
    """Reads what is asked, and writes what was found."""
    url, model = sys.argv[1:]
    groups = [Clients(**each) for each in json.load(sys.stdin)]
    found: Any = asyncio.run(run(url, model, groups))
    json.dump([[[vars(s) for s in one] for one in group] for group in found], sys.stdout)


if __name__ == "__main__":
    main()
