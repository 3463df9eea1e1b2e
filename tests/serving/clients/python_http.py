"""Python's HTTP libraries, each used the way its documentation shows."""

import asyncio
import gzip
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import geventhttpclient
import httpx
import requests
import urllib3

from .script import TIMEOUT_SECONDS, Exchange, Reply, Sender

JSON_TYPE = {"Content-Type": "application/json"}
GZIPPED = JSON_TYPE | {"Content-Encoding": "gzip"}


def _headers(exchange: Exchange) -> dict[str, str]:
    return JSON_TYPE if exchange.method == "POST" else {}


def by_urllib(url: str, exchanges: Sequence[Exchange]) -> list[Reply]:
    """A connection for each request; other statuses than 2xx are exceptions."""
    replies = []
    for e in exchanges:
        request = urllib.request.Request(url + e.path, e.body or None, _headers(e), method=e.method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
                replies.append(Reply(response.status, response.read()))
        except urllib.error.HTTPError as error:
            replies.append(Reply(error.code, error.read()))
    return replies


def by_http_client(url: str, exchanges: Sequence[Exchange]) -> list[Reply]:
    """One connection; headers and body in two segments."""
    replies = []
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_SECONDS)
    for e in exchanges:
        connection.request(e.method, e.path, e.body or None, _headers(e))
        response = connection.getresponse()
        replies.append(Reply(response.status, response.read()))
    connection.close()
    return replies


def by_requests(url: str, exchanges: Sequence[Exchange]) -> list[Reply]:
    """A session; JSON by `json=`."""
    replies = []
    with requests.Session() as session:
        for e in exchanges:
            body = json.loads(e.body) if e.body else None
            response = session.request(e.method, url + e.path, json=body, timeout=TIMEOUT_SECONDS)
            replies.append(Reply(response.status_code, response.content))
    return replies


def by_requests_gzipped(url: str, exchanges: Sequence[Exchange]) -> list[Reply]:
    """A session; bodies compressed by the caller."""
    replies = []
    with requests.Session() as session:
        for e in exchanges:
            given: dict[str, Any] = {"data": gzip.compress(e.body), "headers": GZIPPED} if e.body else {}
            response = session.request(e.method, url + e.path, timeout=TIMEOUT_SECONDS, **given)
            replies.append(Reply(response.status_code, response.content))
    return replies


def by_urllib3(url: str, exchanges: Sequence[Exchange]) -> list[Reply]:
    """A pool; JSON by `json=`."""
    replies = []
    with urllib3.PoolManager(timeout=TIMEOUT_SECONDS, retries=False) as pool:
        for e in exchanges:
            given = {"json": json.loads(e.body)} if e.body else {}
            response = pool.request(e.method, url + e.path, **given)
            replies.append(Reply(response.status, response.data))
    return replies


def by_httpx(url: str, exchanges: Sequence[Exchange]) -> list[Reply]:
    """A client; JSON by `json=`."""
    replies = []
    with httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS) as client:
        for e in exchanges:
            response = client.request(e.method, e.path, json=json.loads(e.body) if e.body else None)
            replies.append(Reply(response.status_code, response.content))
    return replies


def by_httpx_streamed(url: str, exchanges: Sequence[Exchange]) -> list[Reply]:
    """An async client whose bodies come in chunks."""

    async def parts(body: bytes) -> AsyncIterator[bytes]:
        yield body[:10]
        await asyncio.sleep(0)
        yield body[10:]

    async def send() -> list[Reply]:
        replies = []
        async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS) as client:
            for e in exchanges:
                content = parts(e.body) if e.body else None
                response = await client.request(e.method, e.path, content=content, headers=_headers(e))
                replies.append(Reply(response.status_code, response.content))
        return replies

    return asyncio.run(send())


def by_aiohttp(**options: Any) -> Sender:
    """A session; JSON by `json=`, with options of its POST requests."""

    async def send(url: str, exchanges: Sequence[Exchange]) -> list[Reply]:
        replies = []
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(url, timeout=timeout) as session:
            for e in exchanges:
                given = {"json": json.loads(e.body), **options} if e.body else {}
                async with session.request(e.method, e.path, **given) as response:
                    replies.append(Reply(response.status, await response.read()))
        return replies

    return lambda url, exchanges: asyncio.run(send(url, exchanges))


def by_geventhttpclient(url: str, exchanges: Sequence[Exchange]) -> list[Reply]:
    """What tritonclient is built on."""
    replies = []
    client = geventhttpclient.HTTPClient.from_url(url, connection_timeout=TIMEOUT_SECONDS)
    for e in exchanges:
        response = client.request(e.method, e.path, e.body, _headers(e))
        replies.append(Reply(response.status_code, bytes(response.read())))
    client.close()
    return replies
