"""Answers DNS on UDP and TCP and HTTP, on all addresses: the other end of traffic.sh."""

import http.server
import socket
import socketserver
import struct
import threading


def name(text):
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".")) + b"\0"


def record(kind, data, owner=b"\xc0\x0c"):
    return owner + struct.pack(">HHIH", kind, 1, 300, len(data)) + data


ANSWERS = {
    (b"\3web\4test\0", 1): [
        record(5, name("front.web.test")),
        record(1, bytes([10, 9, 0, 1]), name("front.web.test")),
        record(1, bytes([10, 9, 0, 7]), name("front.web.test")),
    ],
    (b"\3web\4test\0", 28): [record(28, socket.inet_pton(socket.AF_INET6, "fd09::1"))],
    (b"\4long\4test\0", 16): [record(16, b"\x0bhello world" + b"\x05again")],
    (b"\4mail\4test\0", 15): [record(15, struct.pack(">H", 10) + b"\2mx\xc0\x0c")],
    (b"\5_http\4_tcp\4test\0", 33): [record(33, struct.pack(">HHH", 1, 2, 8000) + name("web.test"))],
}


def answer(query):
    end = query.index(b"\0", 12) + 1
    kind = struct.unpack(">H", query[end : end + 2])[0]
    found = ANSWERS.get((query[12:end].lower(), kind), [])
    flags = 0x8580 if found else 0x8183
    return query[:2] + struct.pack(">HHHHH", flags, 1, len(found), 0, 0) + query[12 : end + 4] + b"".join(found)


class Datagram(socketserver.BaseRequestHandler):
    def handle(self):
        self.request[1].sendto(answer(self.request[0]), self.client_address)


class Stream(socketserver.BaseRequestHandler):
    def handle(self):
        length = struct.unpack(">H", self.request.recv(2, socket.MSG_WAITALL))[0]
        message = answer(self.request.recv(length, socket.MSG_WAITALL))
        self.request.sendall(struct.pack(">H", len(message)) + message)


class Pages(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.reply(404 if "missing" in self.path else 200, bytes(1000000 if "big" in self.path else 20))

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.reply(201, b"taken")


def serve(kind, handler, port):
    class Server(kind):
        address_family = socket.AF_INET6
        allow_reuse_address = True
        daemon_threads = True

        def handle_error(self, request, client_address):
            pass

    threading.Thread(target=Server(("::", port), handler).serve_forever).start()


serve(socketserver.ThreadingUDPServer, Datagram, 53)
serve(socketserver.ThreadingTCPServer, Stream, 53)
serve(socketserver.ThreadingTCPServer, Pages, 8000)
print("ready", flush=True)
