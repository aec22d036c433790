"""Who may ask what: the name that a request was sent to, the token, requests of other sites, sizes, headers."""

import hmac
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, cookie_parser
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jaxcd.base.errors import ConfigError

TOKEN_COOKIE = "jaxcd_token"
CSRF_HEADER = "x-jaxcd"
MOST_BYTES = 4 * 2**20
"""Of a request's body, but for files."""
MOST_FILE_BYTES = 64 * 2**20
_SECRET = "secret"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?P<port>:[0-9]{1,5})?")
_NOT_THE_PAGE = ("/api/", "/tiles/")  # others may lead to the page, but not have the server work for theirs
_SAFE = ("GET", "HEAD", "OPTIONS")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# A page of our own leads on to the page: a browser that came by a link of another site (a mail) would not send a
# cookie of SameSite=Strict along a redirect.
_ARRIVED = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/"><title>jaxcd</title>'


@dataclass(frozen=True)
class Secrets:
    """What signs cookies and opens the door; kept with the store, so that a restart sends nobody away."""

    key: bytes

    @property
    def token(self) -> str:
        """What the link to a server that others can reach has to hold."""
        return hmac.digest(self.key, b"token", "sha256").hex()[:40]

    def cookie(self, name: str) -> str:
        """Name a cookie for this store alone: browsers send cookies to every port of a machine."""
        return f"{name}_{hmac.digest(self.key, b'cookie', 'sha256').hex()[:8]}"

    def signed(self, text: str) -> str:
        """Return a text with its signature."""
        content = text.encode().hex()
        return f"{content}.{self._signature(content)}"

    def read(self, signed: str) -> str | None:
        """Return the text that was signed here, or None."""
        content, _, signature = signed.partition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(content).encode()):
            return None
        return bytes.fromhex(content).decode()

    def _signature(self, content: str) -> str:
        return hmac.digest(self.key, b"person " + content.encode(), "sha256").hex()


def read_secrets(store: Path) -> Secrets:
    """Read the key that lies in a store's folder; the first call makes it, for the owner's eyes only.

    Raises:
        ConfigError: the file holds something else.
    """
    file = store / _SECRET
    try:
        store.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600, exist_ok=False)
        file.write_text(secrets.token_hex(32), encoding="ascii")
    except FileExistsError:
        pass
    try:
        key = bytes.fromhex(file.read_text(encoding="ascii"))
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConfigError(f"{file}: not a key of jaxcd.label; delete it, and a new one is made")
    return Secrets(key)


class Guard:
    """The outermost part of the server: refuses what must not come in, and adds headers to all that goes out."""

    def __init__(self, app: ASGIApp, *, private: bool, secrets: Secrets, read_only: bool):
        self._app = app
        self._private = private
        self._token, self._cookie = secrets.token, secrets.cookie(TOKEN_COOKIE)
        self._read_only = read_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = MOST_FILE_BYTES if scope["path"].endswith("/import") else MOST_BYTES
        refusal = self._refusal(scope, headers) or _oversize(headers, limit)
        if refusal is not None:
            await refusal(scope, receive, _with_headers(send))
            return
        await _bounded(self._app, limit, scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        hosts = headers.getlist("host")
        host = _HOST.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
        if host is None or (self._private and host["name"] not in _LOOPBACK):
            return refused(403, "this server answers at its own address only")
        if not self._private:
            answer = self._without_token(scope, headers)
            if answer is not None:
                return answer
        site = headers.get("sec-fetch-site", "same-origin")
        if site == "cross-site" and scope["path"].startswith(_NOT_THE_PAGE):
            return refused(403, "a request of another site")
        if scope["method"] in _SAFE:
            return None
        if self._read_only:
            return refused(403, "labels can be looked at here, not changed: the server was started with --read_only")
        origins = headers.getlist("origin")
        foreign = any(_site(origin) != hosts[0].lower() for origin in origins)
        if foreign or site not in ("same-origin", "none"):
            return refused(403, "a request of another site")
        if headers.get(CSRF_HEADER) != "1":
            return refused(403, "the header X-Jaxcd: 1 is missing")
        return None

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        """Let in who has the token: by cookie, or by the link, which sets the cookie."""
        if _equal(cookie_parser(headers.get("cookie", "")).get(self._cookie, ""), self._token):
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token")
            return HTMLResponse(_ARRIVED) if given and scope["path"] == "/" else None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] != "/" or scope["method"] != "GET" or not _equal(given, self._token):
            return refused(403, "open the link with ?token= that jaxcd.label printed when it was started")
        answer = HTMLResponse(_ARRIVED)
        set_cookie(answer, self._cookie, self._token, secure=scope.get("scheme") == "https")
        return answer


def set_cookie(answer: Response, name: str, value: str, *, secure: bool) -> None:
    """Set a cookie that scripts cannot read and other sites cannot use."""
    answer.set_cookie(name, value, max_age=365 * 86400, httponly=True, samesite="strict", secure=secure)


def refused(status: int, why: str) -> JSONResponse:
    """Make the answer to a request that is refused."""
    return JSONResponse({"error": why}, status)


def _site(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _equal(given: str, wanted: str) -> bool:
    return secrets.compare_digest(given.encode(), wanted.encode())


def _oversize(headers: Headers, limit: int) -> Response | None:
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        return refused(400, "Content-Length is no number")
    return refused(413, _too_large(limit)) if int(length) > limit else None


def _too_large(limit: int) -> str:
    return f"more than {limit // 2**20} MiB; send less at a time"


async def _bounded(app: ASGIApp, limit: int, scope: Scope, receive: Receive, send: Send) -> None:
    """Run the app on a body whose bytes are counted as they come: Content-Length may be missing."""
    taken, started = 0, False

    async def counting() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        return {"type": "http.disconnect"} if taken > limit else message

    async def sending(message: Message) -> None:
        nonlocal started
        if taken <= limit or started:
            started = True
            await send(message)

    try:
        await app(scope, counting, sending)
    except ClientDisconnect:
        pass
    if taken > limit and not started:
        await refused(413, _too_large(limit))(scope, receive, send)


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sending
