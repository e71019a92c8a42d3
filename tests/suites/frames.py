"""HTTP/2 by hand: frames as bytes, legal or not, and a connection that says in one word what came back.

`hyperframe` reads the proxy's frames and `hpack` its heads; what is sent is put together here, because a library
refuses to write what a suite has to send. Source: RFC 9113 section 4.1, RFC 7541 sections 5 and 6.
"""

import socket
import ssl
import struct

from hpack import Decoder
from hyperframe import frame as known

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
UNKNOWN = 0xBB
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20

CODES = [
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
]


def frame(kind, flags, stream, payload=b""):
    """A frame as it travels."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def integer(value, bits, pattern=0):
    """A number behind a pattern of bits. Source: RFC 7541 section 5.1."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([pattern | value])
    text, value = bytearray([pattern | most]), value - most
    while value >= 128:
        text.append(value % 128 + 128)
        value //= 128
    return bytes(text) + bytes([value])


def literal(name, value, pattern=0x00, bits=4):
    """A header with a name of its own; not indexed, unless the pattern says so. Source: RFC 7541 section 6.2."""
    name, value = (part.encode("latin-1") if isinstance(part, str) else part for part in (name, value))
    return integer(0, bits, pattern) + integer(len(name), 7) + name + integer(len(value), 7) + value


def block(*fields):
    """A head of literals."""
    return b"".join(literal(name, value) for name, value in fields)


def request(method="GET", path="/", *fields):
    """The head of a request that is sound."""
    pseudo = ((":method", method), (":scheme", "http"), (":path", path), (":authority", "suite.example"))
    return block(*pseudo, *fields)


def headers(stream, head=None, flags=END_HEADERS | END_STREAM):
    """A head in one frame; a whole GET where nothing else is said."""
    return frame(HEADERS, flags, stream, request() if head is None else head)


def post(stream, *fields):
    """The head of a request whose body is to come."""
    return headers(stream, request("POST", "/", *fields), END_HEADERS)


def data(stream, payload=b"x", flags=END_STREAM):
    """A piece of a body; the last one where nothing else is said."""
    return frame(DATA, flags, stream, payload)


def settings(*pairs):
    """Settings, as pairs of number and value."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def window_update(stream, by):
    """More room for what is to come."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", by))


def rst_stream(stream, code=8):
    """A request taken back, with CANCEL."""
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def ping(payload=b"foreshad", flags=0, stream=0):
    """A ping."""
    return frame(PING, flags, stream, payload)


def goaway(code=0, stream=0):
    """The client's goodbye."""
    return frame(GOAWAY, 0, stream, struct.pack(">II", 0, code))


def name_of(code):
    """The name of an error code."""
    return CODES[code] if code < len(CODES) else hex(code)


class Wire:
    """A client's connection."""

    def __init__(self, port, tls=False, opening=PREFACE + settings(), patience_s=5):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=patience_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.set_alpn_protocols(["h2"])
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.decoder = Decoder()
        self.unread = b""
        self.send(opening)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *pieces):
        """Sends all of it; False where the proxy has closed, or takes no more."""
        try:
            for piece in pieces:
                self.socket.sendall(piece)
            return True
        except (OSError, TimeoutError):
            return False

    def frame(self):
        """The next frame of the proxy, or None where it has closed. Raises TimeoutError where nothing comes."""
        head = self.exactly(9)
        if head is None:
            return None
        parsed, length = known.Frame.parse_frame_header(memoryview(head))
        body = self.exactly(length)
        if body is None:
            return None
        parsed.parse_body(memoryview(body))
        return parsed

    def exactly(self, length):
        while len(self.unread) < length:
            try:
                piece = self.socket.recv(65536)
            except ConnectionError:
                piece = b""
            if not piece:
                return None
            self.unread += piece
        taken, self.unread = self.unread[:length], self.unread[length:]
        return taken

    def reaction(self):
        """What comes next that means something: `200`, `RST name`, `GOAWAY name`, `PONG`, `CLOSED` or `NOTHING`."""
        status = {}
        while True:
            try:
                came = self.frame()
            except TimeoutError:
                return "NOTHING"
            if came is None:
                return "CLOSED"
            if isinstance(came, known.RstStreamFrame):
                return f"RST {name_of(came.error_code)}"
            if isinstance(came, known.GoAwayFrame):
                return f"GOAWAY {name_of(came.error_code)}"
            if isinstance(came, known.PingFrame) and "ACK" in came.flags:
                return "PONG"
            if isinstance(came, known.HeadersFrame):
                head = dict(self.decoder.decode(came.data))
                status.setdefault(came.stream_id, head.get(":status"))
            if "END_STREAM" in came.flags and came.stream_id in status:
                return status[came.stream_id]

    def data_bytes(self):
        """How many bytes the next frame of data has; none where nothing comes."""
        while True:
            try:
                came = self.frame()
            except TimeoutError:
                return None
            if came is None:
                return None
            if isinstance(came, known.DataFrame):
                return len(came.data)

    def is_closed(self):
        """Whether the proxy closes, in time."""
        while (reaction := self.reaction()) != "CLOSED":
            if reaction == "NOTHING":
                return False
        return True
