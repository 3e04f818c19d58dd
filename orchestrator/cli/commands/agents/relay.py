"""Relays MCP messages between a client's pipes and the API's endpoint.

Theory of operation. The main thread reads standard input, a message a line. Each message becomes one POST in a thread
of its own, at most ``MAX_OPEN`` at once, so that the reader is always free for a cancellation. An answer is one JSON
document or a stream of events; each message in it becomes a line of standard output at once, under one lock. To cancel
a request, its connection is shut down, as usual in HTTP; its thread then ends without an answer. The end of standard
input ends the relay: open requests have ``GRACE_SECONDS`` (``FIRST_GRACE_SECONDS`` before the first answer), then their
connections are shut down.

A request is retried only if the API certainly has not accepted it: after refused connections while the API restarts,
and after the refusals 429 and 503.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from mayfly import ApiUnreachable, MayflyError, NotMayfly
from mayfly.connections import Answer, Connections, Server
from mayfly.errors import refused
from mayfly.exchange import FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS, Exchange, Token
from mayfly.sse import EventParser
from mayfly.steps import ConnectionLost, NotConnected, Send
from orchestrator.cli.commands.agents import messages
from orchestrator.cli.commands.agents.delivery import Cancelled, Delivery
from orchestrator.cli.commands.agents.messages import InvalidMessage, Message
from orchestrator.cli.console import complain
from orchestrator.cli.verdict import refusal

PATH = "/mcp"
MAX_OPEN = 64
MAX_MESSAGE_BYTES = 64 * 2**20
PATIENCE_SECONDS = 15.0
SILENCE_SECONDS = 86_400.0  # the client decides how long an answer may take
GRACE_SECONDS = 1.0  # clients kill a server two seconds after they end it
FIRST_GRACE_SECONDS = 10.0  # before any answer: an API loads the MCP library with its first request
SENT_AGAIN = frozenset({429, 503})
NO_ENDPOINT = (
    "The Mayfly API at {url} has no MCP endpoint: it is an older version, or MCP is off. "
    "Set MAYFLY_MCP_ENABLED=true where the API runs."
)


class Relay:
    """Messages to the API at ``url``; ``write`` gets each message for the client, a whole line.

    Raises :class:`mayfly.InvalidConfiguration`.
    """

    def __init__(self, url: str, token: Token, write: Callable[[bytes], None]) -> None:
        exchange = Exchange(url, token, PATIENCE_SECONDS)
        self._url, self._authorization = exchange.url, exchange.authorization
        self._connections = Connections(Server.at(exchange.url), exchange.headers)
        self._write = write
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._open: dict[threading.Thread, Delivery] = {}
        self._version: str | None = None
        self._marks: dict[str, str] = {}  # headers of each request: the client's name, and the session if there is one
        self._reached = False
        self._reader_gone = False

    def run(self, source: BinaryIO) -> None:
        """Relay until the source ends."""
        for line in _lines(source):
            if self._reader_gone:
                break
            if line.strip():
                self.take(line)
        self.close()

    def take(self, line: bytes) -> None:
        """Start to relay the message in a line, or answer with its mistake."""
        try:
            message = messages.parse(line)
        except InvalidMessage as error:
            self._answer(messages.failure(error.id, error.code, str(error)))
            return
        if message.method == messages.CANCELLED:
            self._cancel(message)
            if self._is_modern:
                return  # in this era the end of the connection is the cancellation
        delivery = Delivery(message)
        thread = threading.Thread(target=self._carry, args=(delivery,), daemon=True)
        with self._lock:
            full = len(self._open) >= MAX_OPEN
            if not full:
                self._open[thread] = delivery
        if full:
            text = f"{MAX_OPEN} requests are open, which is the bound. Wait for an answer, then send the request again."
            self._fail(message, text, code="too_many_requests")
        else:
            thread.start()

    def close(self) -> None:
        """Wait a moment for open requests, then cancel the remaining ones."""
        deadline = time.monotonic() + (GRACE_SECONDS if self._reached else FIRST_GRACE_SECONDS)
        for _ in range(2):
            with self._lock:
                left = list(self._open.items())
            for thread, _delivery in left:
                thread.join(max(0.0, deadline - time.monotonic()))
            for thread, delivery in left:
                if thread.is_alive():
                    delivery.cancel()
            deadline = time.monotonic() + GRACE_SECONDS / 2
        self._connections.close()

    @property
    def _is_modern(self) -> bool:
        return (self._version or "") >= messages.FIRST_MODERN_VERSION

    def _cancel(self, cancellation: Message) -> None:
        id = cancellation.cancelled_id
        with self._lock:
            for delivery in self._open.values():
                same = delivery.message.id == id and type(delivery.message.id) is type(id)
                if id is not None and delivery.message.is_request and same:
                    delivery.cancel()

    def _carry(self, delivery: Delivery) -> None:
        message = delivery.message
        try:
            self._exchange(delivery)
        except Cancelled:
            pass
        except MayflyError as error:
            if not delivery.is_cancelled:
                self._fail(message, refusal(error), code=error.code, status=error.status, request_id=error.request_id)
        finally:
            with self._lock:
                del self._open[threading.current_thread()]

    def _exchange(self, delivery: Delivery) -> None:
        """Send a message and relay its whole answer. Raises :class:`Cancelled` and :class:`MayflyError`."""
        message = delivery.message
        self._version = message.version or self._version
        if message.client is not None:
            self._marks |= {"User-Agent": f"{message.client} mayfly"}
        content = Send(
            "POST",
            PATH,
            content=message.line,
            headers=messages.headers(message, self._version) | self._marks | self._authorization(),
            timeout_seconds=SILENCE_SECONDS,
        )
        try:
            with self._sent(content, delivery) as answer:
                if message.method == messages.INITIALIZE and (session := answer.headers.get("mcp-session-id")):
                    self._marks |= {"Mcp-Session-Id": session}
                try:
                    answered = self._relay(answer, message)
                finally:
                    delivery.attach(None)  # the connection may carry another message next
        except ConnectionLost as error:
            if delivery.is_cancelled:
                raise Cancelled from error
            raise ApiUnreachable(self._url, error) from error
        if delivery.is_cancelled or answered or not message.is_request:
            return
        if message.method == messages.LISTEN:
            self._answer(messages.end_of_subscription(message.id))
        else:
            raise ApiUnreachable(self._url, ConnectionLost("its stream ended before the answer"))

    def _sent(self, request: Send, delivery: Delivery) -> Answer:
        """The start of an answer, from the first attempt that the API accepted."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        pause = FIRST_PAUSE_SECONDS
        while True:
            wanted = pause
            try:
                answer = self._connections.request(request, delivery.attach)
            except NotConnected:
                if not self._reached or time.monotonic() + wanted > deadline:
                    raise
            else:
                self._reached = True
                after = answer.headers.get("retry-after", "")
                wanted = float(after) if after.isdecimal() and after.isascii() else pause
                if answer.status not in SENT_AGAIN or time.monotonic() + wanted > deadline:
                    return answer
                delivery.attach(None)
                answer.close()
            delivery.pause(wanted)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)

    def _relay(self, answer: Answer, message: Message) -> bool:
        """Write each message of the answer's body. Returns whether the message's answer was among them.

        Raises :class:`MayflyError` for a refusal, :class:`ConnectionLost`.
        """
        if answer.headers.get("content-type", "").partition(";")[0].strip() == "text/event-stream":
            parser, answered = EventParser(MAX_MESSAGE_BYTES), False
            for piece in iter(answer.piece, b""):
                for event in parser.feed(piece):
                    answered |= bool(event.data.strip()) and self._pass_on(event.data.encode(), message)
            return answered
        body = _bounded(answer)
        if body.strip() and self._pass_on(body, message, answer):
            return True
        if not 200 <= answer.status < 300:
            raise self._refused(answer, body)
        return False

    def _pass_on(self, text: bytes, message: Message, answer: Answer | None = None) -> bool:
        """Write a message of the API. Returns whether it is the answer. Raises :class:`NotMayfly` for other JSON."""
        try:
            document = json.loads(text)
        except ValueError:
            document = None
        if not isinstance(document, dict) or "jsonrpc" not in document:
            if answer is None or 200 <= answer.status < 300:
                raise NotMayfly(f"The server at {self._url} does not speak MCP. Set MAYFLY_URL to a Mayfly API.")
            return False
        is_answer = "method" not in document
        if is_answer:
            if not message.is_request:
                return False  # notifications have no answer
            if document.get("id") is None:  # a refusal before the API had read the id
                text = json.dumps({**document, "id": message.id}).encode()
            result = document.get("result")
            if message.method == messages.INITIALIZE and isinstance(result, dict):
                self._version = str(result.get("protocolVersion"))
        self._answer(b" ".join(text.splitlines()))
        return is_answer

    def _refused(self, answer: Answer, body: bytes) -> MayflyError:
        try:
            problem = dict(json.loads(body))
        except (TypeError, ValueError):
            problem = {}
        if answer.status in (404, 405):
            return NotMayfly(NO_ENDPOINT.format(url=self._url), status=answer.status)
        return refused(self._url + PATH, answer.status, problem, answer.headers.get("x-request-id"), None)

    def _fail(self, message: Message, text: str, **data: Any) -> None:
        if message.is_request:
            known = {name: value for name, value in data.items() if value is not None}
            self._answer(messages.failure(message.id, messages.FAILED, text, known))
        else:
            complain(f"{message.method or 'an answer'} was not delivered: {text}")

    def _answer(self, line: bytes) -> None:
        try:
            with self._writing:
                self._write(line + b"\n")
        except BrokenPipeError:
            self._reader_gone = True
            with self._lock:
                for delivery in self._open.values():
                    delivery.cancel()


def _lines(source: BinaryIO) -> Iterator[bytes]:
    """Lines; a line that is too long is replaced by a line that no parser accepts."""
    while line := source.readline(MAX_MESSAGE_BYTES):
        whole = line.endswith(b"\n") or len(line) < MAX_MESSAGE_BYTES
        yield line if whole else b"a line of more than %d bytes" % MAX_MESSAGE_BYTES
        while not whole and line and not line.endswith(b"\n"):
            line = source.readline(MAX_MESSAGE_BYTES)


def _bounded(answer: Answer) -> bytes:
    """The whole body. Raises :class:`ConnectionLost`, also for a body that is too large."""
    pieces, size = [], 0
    for piece in iter(answer.piece, b""):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_MESSAGE_BYTES:
            raise ConnectionLost(f"the answer has more than {MAX_MESSAGE_BYTES} bytes")
    return b"".join(pieces)
