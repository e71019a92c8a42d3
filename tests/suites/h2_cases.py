"""What a server of HTTP/2 owes its clients, as a table: section, what is sent, and every reaction that the section
allows.

A case's steps are sent one after the other, behind preface and settings; a step that is a function is called with the
wire. `/held` is never answered, so a stream of it stays half-closed; an answer that has been taken leaves it closed.
Reactions are the words of `frames.Wire.reaction`. Where a section leaves a choice between an error of the stream and
one of the connection, both stand there; no case allows silence where the section demands a reaction.
"""

from frames import *

NO_REACTION = ("PONG",)
OK = ("200",)
PROTOCOL = ("GOAWAY PROTOCOL_ERROR",)
MALFORMED = ("RST PROTOCOL_ERROR", "GOAWAY PROTOCOL_ERROR")
# Section 8.1.1: a server may answer a malformed request before it resets the stream, or instead.
MALFORMED_OR_400 = (*MALFORMED, "400")
# The library (h2) ends the connection with this code for most of what it finds while it decodes a frame, also where
# the section has a code of its own. The connection is over all the same; docs/suites.md has what such cases are.
UNSPECIFIC = "GOAWAY PROTOCOL_ERROR"
CLOSED_STREAM = ("RST STREAM_CLOSED", "GOAWAY STREAM_CLOSED", UNSPECIFIC)
SIZE = ("GOAWAY FRAME_SIZE_ERROR", UNSPECIFIC)
STREAM_SIZE = ("RST FRAME_SIZE_ERROR", *SIZE)
COMPRESSION = ("GOAWAY COMPRESSION_ERROR", UNSPECIFIC)
FLOW_CONTROL = ("GOAWAY FLOW_CONTROL_ERROR", UNSPECIFIC)

GET, POST, HELD = headers(1), post(1), headers(1, request("GET", "/held"))
OPEN = headers(1, flags=END_STREAM)  # A head whose end is to come.
MAX_FRAME = 16384


def answered(wire):
    """Takes the answer of stream 1, which is closed from then on."""
    reaction = wire.reaction()
    assert reaction == "200", f"the request before was answered by {reaction}"


def first_is_settings(wire):
    """The server's preface is a frame of settings."""
    assert wire.frame().type == SETTINGS


def settings_acknowledged(wire):
    """Reads on until the client's settings are acknowledged."""
    while True:
        came = wire.frame()
        if came.type == SETTINGS and "ACK" in came.flags:
            return


def first_data(*lengths):
    """The answer's data come in frames of these lengths."""
    def check(wire):
        for length in lengths:
            assert wire.data_bytes() == length, f"not {length} bytes"
    return check


def push_back(wire):
    """Waits for the pong of a ping that was sent, and for no second one."""
    came = wire.frame()
    while came.type != PING:
        came = wire.frame()
    assert came.opaque_data == b"foreshad" and "ACK" in came.flags


def without(name):
    """A request without one of its pseudo-headers."""
    fields = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "suite.example")]
    return block(*[field for field in fields if field[0] != name])


def padded(pad, payload):
    """A payload with so many bytes of padding said, and as many there."""
    return bytes([pad]) + payload + bytes(pad)


PRIORITY_BYTES = struct.pack(">IB", 0, 15)
HEADER_OF_4K = ("x-filler", "y" * 4000)

# Each line: section of RFC 9113, or of RFC 7541 with an H; what is sent, in words; the steps; what may come.
CASES = [
    # How a connection begins.
    ("3.4", "the first frame of the server is SETTINGS", [first_is_settings, GET], OK),
    ("3.4", "requests before the settings of the server have been seen", [GET], OK),
    ("3.4", "a frame of data where the settings should be", [data(1)], PROTOCOL),
    # Frames.
    ("4.1", "a frame of an unknown type", [frame(UNKNOWN, 0, 0, b"12345678"), ping()], NO_REACTION),
    ("4.1", "a frame of an unknown type on an unknown stream", [frame(UNKNOWN, 0xFF, 77, b"1"), ping()], NO_REACTION),
    ("4.1", "flags that mean nothing", [ping(flags=0x16)], NO_REACTION),
    ("4.1", "a reserved bit that is set", [frame(PING, 0, 1 << 31, b"foreshad")], NO_REACTION),
    ("4.2", "data as long as a frame may be", [POST, data(1, bytes(MAX_FRAME))], OK),
    ("4.2", "data longer than a frame may be", [POST, data(1, bytes(MAX_FRAME + 1))], STREAM_SIZE),
    ("4.2", "a head longer than a frame may be", [headers(1, request() + bytes(MAX_FRAME))], SIZE),
    ("4.2", "an unknown frame that is too long", [frame(UNKNOWN, 0, 0, bytes(MAX_FRAME + 1))], SIZE),
    # Heads.
    ("4.3", "a head that ends within a header", [headers(1, request()[:-1])], COMPRESSION),
    ("4.3", "PRIORITY within a head", [OPEN, frame(PRIORITY, 0, 1, PRIORITY_BYTES)], PROTOCOL),
    ("4.3", "the head of another stream within a head", [OPEN, headers(3)], PROTOCOL),
    ("4.3", "PING within a head", [OPEN, ping()], PROTOCOL),
    # States of a stream.
    ("5.1", "idle: DATA", [data(1)], PROTOCOL),
    ("5.1", "idle: RST_STREAM", [rst_stream(1)], PROTOCOL),
    ("5.1", "idle: WINDOW_UPDATE", [window_update(1, 100)], PROTOCOL),
    ("5.1", "idle: CONTINUATION", [frame(CONTINUATION, END_HEADERS, 1, request())], PROTOCOL),
    ("5.1", "idle: PRIORITY", [frame(PRIORITY, 0, 1, PRIORITY_BYTES), ping()], NO_REACTION),
    ("5.1", "half-closed: DATA", [HELD, data(1)], CLOSED_STREAM),
    ("5.1", "half-closed: HEADERS", [HELD, GET], CLOSED_STREAM),
    ("5.1", "half-closed: CONTINUATION", [HELD, frame(CONTINUATION, END_HEADERS, 1, request())],
     CLOSED_STREAM),
    ("5.1", "half-closed: WINDOW_UPDATE", [HELD, window_update(1, 100), ping()], NO_REACTION),
    ("5.1", "half-closed: PRIORITY", [HELD, frame(PRIORITY, 0, 1, PRIORITY_BYTES), ping()], NO_REACTION),
    ("5.1", "half-closed: RST_STREAM", [HELD, rst_stream(1), ping()], NO_REACTION),
    ("5.1", "closed by RST_STREAM: DATA", [HELD, rst_stream(1), data(1)], CLOSED_STREAM),
    ("5.1", "closed by RST_STREAM: HEADERS", [HELD, rst_stream(1), GET], CLOSED_STREAM),
    ("5.1", "closed by RST_STREAM: CONTINUATION", [HELD, rst_stream(1), frame(CONTINUATION, END_HEADERS, 1, request())],
     CLOSED_STREAM),
    ("5.1", "closed: DATA", [GET, answered, data(1)], CLOSED_STREAM),
    ("5.1", "closed: HEADERS", [GET, answered, GET], CLOSED_STREAM),
    ("5.1", "closed: CONTINUATION", [GET, answered, frame(CONTINUATION, END_HEADERS, 1, request())],
     CLOSED_STREAM),
    ("5.1", "closed: WINDOW_UPDATE", [GET, answered, window_update(1, 100), ping()], NO_REACTION),
    ("5.1", "closed: RST_STREAM", [GET, answered, rst_stream(1), ping()], NO_REACTION),
    ("5.1", "closed: PRIORITY", [GET, answered, frame(PRIORITY, 0, 1, PRIORITY_BYTES), ping()], NO_REACTION),
    ("5.1.1", "a stream with an even number", [headers(2)], PROTOCOL),
    ("5.1.1", "a stream below one that was", [headers(5), answered, headers(3)], PROTOCOL),
    ("5.1.1", "numbers that are left out", [headers(101), answered, headers(2001)], OK),
    ("5.1.1", "the highest number that there is", [headers(0x7FFFFFFF)], OK),
    ("5.1.2", "one request more than may be under way",
     [headers(1 + 2 * n, request("GET", "/held")) for n in range(17)], ("RST REFUSED_STREAM", "RST PROTOCOL_ERROR")),
    ("5.1.2", "as many requests as may be under way",
     [*[headers(1 + 2 * n, request("GET", "/held")) for n in range(16)], ping()], NO_REACTION),
    # Priorities mean nothing any more, and do no harm.
    ("5.3.2", "a head with a priority", [headers(1, PRIORITY_BYTES + request(),
                                                 END_HEADERS | END_STREAM | WITH_PRIORITY)], OK),
    # What is not known.
    ("5.5", "a setting that is not known", [settings((0xFF, 1)), GET], OK),
    ("5.5", "an unknown frame within a head", [OPEN, frame(UNKNOWN, 0, 1, b"x")], PROTOCOL),
    # DATA.
    ("6.1", "DATA on stream 0", [data(0)], PROTOCOL),
    ("6.1", "padding", [POST, data(1, padded(7, b"x"), END_STREAM | PADDED)], OK),
    ("6.1", "padding as long as the frame", [POST, data(1, b"\x06hello", END_STREAM | PADDED)], PROTOCOL),
    ("6.1", "padding without a byte for its length", [POST, data(1, b"", END_STREAM | PADDED)], SIZE),
    ("6.1", "nothing, and then the end", [POST, data(1, b"", 0), data(1, b"")], OK),
    # HEADERS.
    ("6.2", "HEADERS on stream 0", [headers(0)], PROTOCOL),
    ("6.2", "padding", [headers(1, padded(9, request()), END_HEADERS | END_STREAM | PADDED)], OK),
    ("6.2", "padding longer than the frame", [headers(1, b"\xff" + request(), END_HEADERS | END_STREAM | PADDED)],
     PROTOCOL),
    ("6.2", "padding and priority", [headers(1, padded(2, PRIORITY_BYTES + request()),
                                             END_HEADERS | END_STREAM | PADDED | WITH_PRIORITY)], OK),
    # PRIORITY.
    ("6.3", "PRIORITY on stream 0", [frame(PRIORITY, 0, 0, PRIORITY_BYTES)], PROTOCOL),
    ("6.3", "PRIORITY of four bytes", [HELD, frame(PRIORITY, 0, 1, PRIORITY_BYTES[:4])], STREAM_SIZE),
    # RST_STREAM.
    ("6.4", "RST_STREAM on stream 0", [rst_stream(0)], PROTOCOL),
    ("6.4", "RST_STREAM of three bytes", [HELD, frame(RST_STREAM, 0, 1, bytes(3))], SIZE),
    # SETTINGS.
    ("6.5", "an acknowledgement with something in it", [frame(SETTINGS, ACK, 0, bytes(6))], SIZE),
    ("6.5", "SETTINGS of a stream", [frame(SETTINGS, 0, 1, bytes(6))], PROTOCOL),
    ("6.5", "SETTINGS of five bytes", [frame(SETTINGS, 0, 0, bytes(5))], SIZE),
    ("6.5.2", "ENABLE_PUSH that is neither 0 nor 1", [settings((2, 2))], PROTOCOL),
    ("6.5.2", "a window that is too wide", [settings((4, 1 << 31))], FLOW_CONTROL),
    ("6.5.2", "frames that are too short", [settings((5, MAX_FRAME - 1))], PROTOCOL),
    ("6.5.2", "frames that are too long", [settings((5, 1 << 24))], PROTOCOL),
    ("6.5.2", "a header table of nothing", [settings((1, 0)), GET], OK),
    ("6.5.3", "settings are acknowledged", [settings_acknowledged, settings((3, 5)), settings_acknowledged, GET], OK),
    ("6.5.3", "a setting twice: the later one holds", [settings((4, 0), (4, 3)), GET, first_data(3), ping()],
     NO_REACTION),
    # PUSH_PROMISE.
    ("6.6", "PUSH_PROMISE of a client", [frame(PUSH_PROMISE, END_HEADERS, 1, struct.pack(">I", 2) + request())],
     PROTOCOL),
    # PING.
    ("6.7", "a ping is answered with what it said", [ping(), push_back, GET], OK),
    ("6.7", "the answer to a ping is not answered", [ping(b"12345678", ACK), ping(), push_back, GET], OK),
    ("6.7", "PING of a stream", [ping(stream=1)], PROTOCOL),
    ("6.7", "PING of six bytes", [ping(b"123456")], SIZE),
    # GOAWAY.
    ("6.8", "GOAWAY of a stream", [goaway(stream=1)], PROTOCOL),
    ("6.8", "GOAWAY of seven bytes", [frame(GOAWAY, 0, 0, bytes(7))], SIZE),
    ("6.8", "what has begun is finished after a goodbye", [POST, goaway(), data(1)], OK),
    # WINDOW_UPDATE.
    ("6.9", "no more room, for the connection", [window_update(0, 0)], PROTOCOL),
    ("6.9", "no more room, for a stream", [HELD, window_update(1, 0)], MALFORMED),
    ("6.9", "WINDOW_UPDATE of three bytes", [frame(WINDOW_UPDATE, 0, 0, bytes(3))], SIZE),
    ("6.9.1", "a window of one byte", [settings((4, 1)), GET, first_data(1), ping()], NO_REACTION),
    ("6.9.1", "the connection's window overflows", [window_update(0, 0x7FFFFFFF), window_update(0, 0x7FFFFFFF)],
     FLOW_CONTROL),
    ("6.9.1", "a stream's window overflows", [HELD, window_update(1, 0x7FFFFFFF)],
     ("RST FLOW_CONTROL_ERROR", "GOAWAY FLOW_CONTROL_ERROR")),
    ("6.9.2", "a window that is opened behind the head",
     [settings((4, 0)), GET, settings((4, 1)), first_data(1), ping()], NO_REACTION),
    ("6.9.2", "a window that becomes negative, and opens again",
     [settings((4, 3)), GET, first_data(3), settings((4, 2)), window_update(1, 2), first_data(1), ping()], NO_REACTION),
    ("6.9.2", "a new window that makes an open one overflow", [HELD, window_update(1, 0x7FFFFFFF - 65535),
                                                              settings((4, 65536))], FLOW_CONTROL),
    # CONTINUATION.
    ("6.10", "a head in many pieces", [frame(HEADERS, END_STREAM, 1, request()[:5]),
                                       *[frame(CONTINUATION, 0, 1, bytes([byte])) for byte in request()[5:9]],
                                       frame(CONTINUATION, END_HEADERS, 1, request()[9:])], OK),
    ("6.10", "data within a head", [headers(1, flags=0), data(1)], PROTOCOL),
    ("6.10", "CONTINUATION on stream 0", [OPEN, frame(CONTINUATION, END_HEADERS, 0)], PROTOCOL),
    ("6.10", "CONTINUATION of another stream", [OPEN, frame(CONTINUATION, END_HEADERS, 3)], PROTOCOL),
    ("6.10", "CONTINUATION behind a whole head", [POST, frame(CONTINUATION, END_HEADERS, 1, request())], PROTOCOL),
    ("6.10", "CONTINUATION behind an end in CONTINUATION", [
        headers(1, request(), 0), frame(CONTINUATION, END_HEADERS, 1), frame(CONTINUATION, END_HEADERS, 1)], PROTOCOL),
    ("6.10", "CONTINUATION behind data", [POST, data(1, b"x", 0), frame(CONTINUATION, END_HEADERS, 1)], PROTOCOL),
    # Codes.
    ("7", "RST_STREAM with a code that is not known", [HELD, rst_stream(1, 0xFF), headers(3)], OK),
    # Messages.
    ("8.1", "a body without a length", [POST, data(1, b"ab", 0), data(1, b"cd")], OK),
    ("8.1", "trailers", [POST, data(1, b"x", 0), headers(1, block(("x-sum", "1")))], OK),
    ("8.1", "trailers that do not end the stream", [POST, headers(1, block(("x-sum", "1")), END_HEADERS)], MALFORMED),
    # To be treated as malformed; the library drops the pseudo-headers instead, and the proxy all trailers.
    ("8.1", "pseudo-headers in trailers", [POST, data(1, b"x", 0), headers(1, block((":path", "/")))], MALFORMED + OK),
    ("8.1.1", "more data than the length says", [post(1, ("content-length", "1")), data(1, b"ab")], MALFORMED),
    ("8.1.1", "less data than the length says", [post(1, ("content-length", "3")), data(1, b"ab")], MALFORMED),
    ("8.1.1", "more data in pieces", [post(1, ("content-length", "3")), data(1, b"ab", 0), data(1, b"cd")], MALFORMED),
    ("8.1.1", "a length, and no data at all", [headers(1, request("POST", "/", ("content-length", "3")))], MALFORMED),
    ("8.2.1", "capitals in a name", [headers(1, request("GET", "/", ("X-Capital", "1")))], MALFORMED_OR_400),
    ("8.2.1", "a space in a name", [headers(1, request("GET", "/", ("x y", "1")))], MALFORMED_OR_400),
    ("8.2.1", "a colon in a name", [headers(1, request("GET", "/", ("x:y", "1")))], MALFORMED_OR_400),
    ("8.2.1", "an empty name", [headers(1, request("GET", "/", ("", "1")))], MALFORMED_OR_400),
    ("8.2.1", "NUL in a value", [headers(1, request("GET", "/", ("x", "a\0b")))], MALFORMED_OR_400),
    ("8.2.1", "CR in a value", [headers(1, request("GET", "/", ("x", "a\rb")))], MALFORMED_OR_400),
    ("8.2.1", "LF in a value", [headers(1, request("GET", "/", ("x", "a\nb")))], MALFORMED_OR_400),
    ("8.2.1", "a space around a value", [headers(1, request("GET", "/", ("x", " a")))], MALFORMED_OR_400),
    ("8.2.2", "Connection", [headers(1, request("GET", "/", ("connection", "keep-alive")))], MALFORMED_OR_400),
    ("8.2.2", "Keep-Alive", [headers(1, request("GET", "/", ("keep-alive", "5")))], MALFORMED_OR_400),
    ("8.2.2", "Proxy-Connection", [headers(1, request("GET", "/", ("proxy-connection", "close")))], MALFORMED_OR_400),
    ("8.2.2", "Transfer-Encoding", [headers(1, request("GET", "/", ("transfer-encoding", "chunked")))],
     MALFORMED_OR_400),
    ("8.2.2", "Upgrade", [headers(1, request("GET", "/", ("upgrade", "websocket")))], MALFORMED_OR_400),
    ("8.2.2", "TE with something else than trailers", [headers(1, request("GET", "/", ("te", "gzip")))],
     MALFORMED_OR_400),
    ("8.2.2", "TE with trailers", [headers(1, request("GET", "/", ("te", "trailers")))], OK),
    ("8.2.3", "cookies in crumbs", [headers(1, request("GET", "/", ("cookie", "a=1"), ("cookie", "b=2")))], OK),
    ("8.3", "a pseudo-header that is not known", [headers(1, request("GET", "/", (":x", "1")))], MALFORMED),
    ("8.3", "a pseudo-header of answers", [headers(1, request("GET", "/", (":status", "200")))], MALFORMED),
    ("8.3", "a pseudo-header behind a header", [headers(1, block(("x", "1")) + request())], MALFORMED),
    ("8.3.1", "no method", [headers(1, without(":method"))], MALFORMED),
    ("8.3.1", "no scheme", [headers(1, without(":scheme"))], MALFORMED_OR_400),
    ("8.3.1", "no path", [headers(1, without(":path"))], MALFORMED_OR_400),
    ("8.3.1", "an empty path", [headers(1, request("GET", ""))], MALFORMED_OR_400),
    ("8.3.1", "two methods", [headers(1, block((":method", "GET")) + request())], MALFORMED),
    ("8.3.1", "two schemes", [headers(1, block((":scheme", "http")) + request())], MALFORMED),
    ("8.3.1", "two paths", [headers(1, block((":path", "/")) + request())], MALFORMED),
    ("8.3.1", "two authorities", [headers(1, block((":authority", "suite.example")) + request())], MALFORMED),
    ("8.3.1", "Host without an authority", [headers(1, without(":authority") + block(("host", "suite.example")))], OK),
    ("8.3.1", "neither authority nor Host", [headers(1, without(":authority"))], MALFORMED_OR_400),
    ("8.3.1", "Host that is not the authority", [headers(1, request("GET", "/", ("host", "other.example")))],
     MALFORMED_OR_400),
    ("8.3.1", "a method of another kind: HEAD", [headers(1, request("HEAD"))], OK),
    ("8.3.1", "a method of another kind: OPTIONS *", [headers(1, request("OPTIONS", "*"))], OK + ("404",)),
    ("8.5", "CONNECT, which is not offered", [headers(1, block((":method", "CONNECT"), (":authority", "a:1")))],
     ("405", *MALFORMED)),
    ("8.6", "a request to upgrade", [headers(1, request("GET", "/", ("upgrade", "h2c"), ("http2-settings", "")))],
     MALFORMED_OR_400),
    # HPACK.
    ("H2.3.3", "an index that no table has", [headers(1, request() + integer(70, 7, 0x80))], COMPRESSION),
    ("H2.3.3", "a name of an index that no table has", [headers(1, request() + integer(70, 4) + b"\x01x")],
     COMPRESSION),
    ("H2.3.2", "a header of the dynamic table", [
        headers(1, request() + literal(*HEADER_OF_4K, 0x40, 6)), answered,
        headers(3, request() + integer(62, 7, 0x80))], OK),
    ("H4.2", "a new size of the table behind the headers", [headers(1, request() + integer(0, 5, 0x20))], COMPRESSION),
    ("H4.2", "a header that is larger than its table", [
        headers(1, integer(100, 5, 0x20) + request() + literal(*HEADER_OF_4K, 0x40, 6)), answered, headers(3)], OK),
    ("H4.3", "a header that a smaller table has lost", [
        headers(1, request() + literal("x", "y", 0x40, 6)), answered,
        headers(3, integer(0, 5, 0x20) + request() + integer(62, 7, 0x80))], COMPRESSION),
    ("H5.1", "a number that does not end", [headers(1, request() + b"\xff" + b"\xff" * 10)], COMPRESSION),
    ("H5.2", "a string in Huffman's code", [headers(1, request() + b"\x00\x01x\x81\x1f")], OK),
    ("H5.2", "more than seven bits of padding", [headers(1, request() + b"\x00\x01x\x82\x1f\xff")], COMPRESSION),
    ("H5.2", "padding with zeros", [headers(1, request() + b"\x00\x01x\x81\x18")], COMPRESSION),
    ("H5.2", "the end-of-string symbol", [headers(1, request() + b"\x00\x01x\x84\xff\xff\xff\xff")], COMPRESSION),
    ("H5.2", "a string longer than its block", [headers(1, request() + b"\x00\x01x\x7e1")], COMPRESSION),
    ("H6.1", "a header of the static table", [headers(1, b"\x82\x86\x84" + literal(":authority", "suite.example"))],
     OK),
    ("H6.1", "index 0", [headers(1, request() + b"\x80")], COMPRESSION),
    ("H6.2.2", "a header that is not to be indexed", [headers(1, request() + literal("x", "y", 0x00, 4))], OK),
    ("H6.2.3", "a header that is never to be indexed", [headers(1, request() + literal("x", "y", 0x10, 4))], OK),
    ("H6.3", "a table larger than was agreed on", [headers(1, integer(4097, 5, 0x20) + request())], COMPRESSION),
    ("H6.3", "a smaller table, and then a larger one again", [
        headers(1, integer(0, 5, 0x20) + integer(4096, 5, 0x20) + request())], OK),
]
