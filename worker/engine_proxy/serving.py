"""Answers the calls of workers, one thread for each connection.

Every permitted call is one request to the engine, written anew. An attached connection becomes a pair of byte streams:
the engine's bytes are passed on at once, the client's only after the container's mounts were verified.
"""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import h11
import structlog

from orchestrator.host.posture import INSTALLATION_LABEL, UID_LABEL
from worker.engine_proxy import binds
from worker.engine_proxy.bodies import Bodies
from worker.engine_proxy.calls import Call, Refused, parse, refuse_headers, refuse_other_filters
from worker.engine_proxy.containers import Containers
from worker.engine_proxy.engine import SWITCHED, Answer, ClientGone, Engine, EngineGone, ask
from worker.engine_proxy.reporting import Reports
from worker.engine_proxy.streams import copy, end

READ_BYTES = 64 * 1024
MOST_BODY_BYTES = 256 * 1024
DRAIN_SECONDS = 2.0  # for the rest of a refused request
UPGRADED = [("Content-Type", "application/vnd.docker.raw-stream"), ("Connection", "Upgrade"), ("Upgrade", "tcp")]
CREATED, REDIRECTED, BAD_REQUEST, REFUSED, NOT_FOUND, BAD_GATEWAY = 201, 300, 400, 403, 404, 502
BODILESS = (204, 304)
log = structlog.get_logger()


class Gate:
    """Decides about calls and forwards them. Thread-safe."""

    def __init__(self, engine: Engine, bodies: Bodies, installation: str, reports: Reports) -> None:
        self.engine, self.reports = engine, reports
        self._bodies, self._installation = bodies, installation
        self.containers = Containers()
        self._loading = threading.Lock()

    def answer(self, call: Call, body: bytes, client: socket.socket) -> Answer:
        """The answer to a call other than ``attach``. Raises :class:`Refused`, :class:`EngineGone`, and
        :class:`ClientGone`.
        """
        if body and not call.route.has_body:
            raise Refused("body", f"{call.name} has no body.")
        match call.name:
            case "create":
                return self._create(call, body)
            case "list":
                return self._list(call, client)
            case "image":
                return self._image(call, client)
            case "start":
                return self._start(call, client)
            case "inspect":
                return self._inspect(call, client)
            case "update":
                changes = self._bodies.update(body, self.containers.made(call.subject).creation)
                return self._forward(call, json.dumps(changes).encode(), client)
            case "wait" | "kill":
                self._refuse_foreign(call.subject)
                return self._forward(call, b"", client)
            case "remove":  # without the client, whose hang-up would leave the container in the table
                self._refuse_foreign(call.subject)
                return self._forward(call, b"", None)
            case _:
                return self._forward(call, b"", client)

    def _forward(self, call: Call, body: bytes, client: socket.socket | None) -> Answer:
        answer = self.engine.ask(call.route.method, call.target, body, client)
        if answer.status == NOT_FOUND or (call.name == "remove" and answer.status < REDIRECTED):
            self.containers.forget(call.subject)
        return answer

    def _create(self, call: Call, body: bytes) -> Answer:
        if "name" not in call.query:
            raise Refused("query", "The container has no name.")
        creation = self._bodies.creation(body)
        with self.containers.reserve():  # and without the client: the engine makes the container in spite of a hang-up
            answer = self._forward(call, json.dumps(creation.config).encode(), None)
            if answer.status == CREATED:
                self.containers.add(json.loads(answer.body)["Id"], creation)
        return answer

    def _list(self, call: Call, client: socket.socket) -> Answer:
        """This installation's containers; without a filter, only the uids of all installations' running containers."""
        if "filters" in call.query:
            refuse_other_filters(call.query["filters"], self._installation)
            return self._forward(call, b"", client)
        query = urlencode({"filters": json.dumps({"label": [INSTALLATION_LABEL]})})
        answer = self.engine.ask("GET", f"{call.version}/containers/json?{query}", client=client)
        if answer.status >= REDIRECTED:
            return answer
        labels = [one["Labels"] for one in json.loads(answer.body)]
        shown = [{"Labels": {name: one.get(name, "") for name in (INSTALLATION_LABEL, UID_LABEL)}} for one in labels]
        return Answer(answer.status, body=json.dumps(shown).encode())

    def _image(self, call: Call, client: socket.socket) -> Answer:
        """An image of the host's table, which the proxy loads where the engine does not have it."""
        archive = self._bodies.image(call.subject)
        answer = self._forward(call, b"", client)
        if answer.status != NOT_FOUND:
            return answer
        with self._loading:
            answer = self._forward(call, b"", client)
            if answer.status == NOT_FOUND:
                log.info("image.load", archive=str(archive))
                try:
                    self.engine.load(archive)
                except OSError as error:
                    raise EngineGone(f"{archive}: {error.strerror}") from error
                answer = self._forward(call, b"", client)
        if answer.status == NOT_FOUND:
            raise EngineGone(f"{archive} does not have the image of its table.")
        return answer

    def _start(self, call: Call, client: socket.socket) -> Answer:
        made = self.containers.start(call.subject)
        lease, sources = made.creation.lease, made.creation.sources
        try:
            before = binds.look(lease, sources)
            answer = self._forward(call, b"", client)
            binds.refuse_changes(before, binds.look(lease, sources))
        except (Refused, EngineGone, ClientGone):
            with suppress(EngineGone):
                self.engine.ask("DELETE", f"{call.version}/containers/{call.subject}?force=1&v=1")
            self.containers.forget(call.subject)
            raise
        made.verified = answer.status < REDIRECTED
        made.decided.set()
        return answer

    def _inspect(self, call: Call, client: socket.socket) -> Answer:
        answer = self._forward(call, b"", client)
        if answer.status < REDIRECTED and not self.containers.are_ours(call.subject):
            self._refuse_other(answer, call.subject)
        return answer

    def _refuse_foreign(self, id: str) -> None:
        """Refuse a container whose labels are not this installation's. Raises :class:`Refused`."""
        if self.containers.are_ours(id):
            return
        answer = self.engine.ask("GET", f"/containers/{id}/json")
        if answer.status < REDIRECTED:
            self._refuse_other(answer, id)
        elif answer.status != NOT_FOUND:
            raise EngineGone(f"The engine answered {answer.status}.")

    def _refuse_other(self, answer: Answer, asked: str) -> None:
        found: dict[str, Any] = json.loads(answer.body)
        if (found["Config"]["Labels"] or {}).get(INSTALLATION_LABEL) != self._installation:
            raise Refused("container", "The container is not one of this installation.")
        if asked == found["Id"]:
            self.containers.add_ours(asked)


class Connection:
    """One client's connection."""

    def __init__(self, client: socket.socket, gate: Gate) -> None:
        self._client, self._gate = client, gate
        self._http = h11.Connection(h11.SERVER)
        self._request = ""  # what is logged of the current request

    def serve(self) -> None:
        """Answer calls until the client closes, is refused, or attaches a container."""
        try:
            while self._serve_one():
                self._http.start_next_cycle()
        except Refused as refused:
            self._gate.reports.add(refused, self._request)
            self._refuse(Answer(REFUSED, body=_message(f"The engine proxy refuses this call: {refused.detail}")))
        except h11.RemoteProtocolError as error:
            self._gate.reports.add(Refused("http", f"The request cannot be read: {error}."), self._request)
            self._refuse(Answer(BAD_REQUEST, body=_message("The request cannot be read.")))
        except EngineGone as error:
            log.warning("engine.failed", request=self._request, detail=str(error)[:1000])
            self._reply(Answer(BAD_GATEWAY, body=_message("The container engine does not answer.")), is_last=True)
        except (ClientGone, OSError):
            return  # the client has gone, and gets no answer

    def _serve_one(self) -> bool:
        """Answer one call. Returns whether another may follow on this connection."""
        received = self._receive()
        if received is None:
            return False
        call, body = received
        if call.name == "attach":
            self._attach(call, body)
            return False
        self._reply(self._gate.answer(call, body, self._client))
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    def _receive(self) -> tuple[Call, bytes] | None:
        call: Call | None = None
        body = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(self._client.recv(READ_BYTES))
            elif isinstance(event, h11.Request):
                method, target = event.method.decode("ascii"), event.target.decode("ascii")
                self._request = f"{method} {target}"
                call = parse(method, target)
                refuse_headers(event.headers, call.route)
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MOST_BODY_BYTES:
                    raise Refused("body", "The body is larger than that of any permitted call.")
            elif isinstance(event, h11.EndOfMessage) and call is not None:
                return call, bytes(body)
            else:
                return None

    def _attach(self, call: Call, body: bytes) -> None:
        if body:
            raise Refused("body", "attach has no body.")
        made = self._gate.containers.attach(call.subject)
        with self._gate.engine.connect() as engine:
            answer = ask(engine, call.route.method, call.target, client=self._client, upgrade=True)
            if answer.status != SWITCHED:
                self._reply(answer)
                return
            head = h11.InformationalResponse(status_code=SWITCHED, headers=UPGRADED, reason=b"UPGRADED")
            self._client.sendall(self._http.send(head) or b"")
            output = threading.Thread(target=copy, args=(engine, self._client, answer.rest), name="output", daemon=True)
            output.start()
            made.decided.wait()
            if made.verified:
                copy(self._client, engine, self._http.trailing_data[0])
            else:
                end(self._client, engine)
            output.join()

    def _refuse(self, answer: Answer) -> None:
        """Answer, and read the rest of the request within bounds: a client that still sends would get no answer."""
        self._reply(answer, is_last=True)
        left = MOST_BODY_BYTES
        with suppress(OSError):  # the client has gone, or sends nothing
            self._client.shutdown(socket.SHUT_WR)
            self._client.settimeout(DRAIN_SECONDS)
            while left > 0 and (received := len(self._client.recv(READ_BYTES))):
                left -= received

    def _reply(self, answer: Answer, is_last: bool = False) -> None:
        """Send an answer. The last one says so: a client must not send its next call on a connection that closes."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        headers = [("Content-Type", answer.content_type)]
        bodiless = answer.status in BODILESS or self._request.startswith("HEAD ")
        headers += [] if bodiless else [("Content-Length", str(len(answer.body)))]
        if is_last or self._http.their_state is not h11.DONE:  # the rest of the request is not read
            headers.append(("Connection", "close"))
        parts = [self._http.send(h11.Response(status_code=answer.status, headers=headers))]
        parts += [] if bodiless else [self._http.send(h11.Data(data=answer.body))]
        parts += [self._http.send(h11.EndOfMessage())]
        with suppress(OSError):  # the client has gone
            self._client.sendall(b"".join(part for part in parts if part))


def _message(text: str) -> bytes:
    """An error as the engine writes it."""
    return json.dumps({"message": text}).encode()


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Listens on a Unix socket, with a bounded number of connections."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: str, gate: Gate, connections: int) -> None:
        self._gate = gate
        self._free = threading.BoundedSemaphore(connections)
        super().__init__(path, socketserver.BaseRequestHandler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own; close it where all are in use."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            log.warning("engine_proxy.full")
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            Connection(request, self._gate).serve()
        finally:
            self._free.release()
            self.shutdown_request(request)
