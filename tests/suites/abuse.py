"""Does to a real proxy what has been done to others over HTTP/2, and watches what it costs.

Each attack has a connection of its own and its number of frames, so all of it is bounded. Held against each: how it
ends, as docs/http2.md promises; that it is counted, where it is refused; that neighbours, who ask in HTTP/1.1 and in
HTTP/2 all the while, are served every time; that the proxy's memory grows by no more than `GROWTH_MAX`; and that it
rests once the attack is over. Processor time is printed, and held to what the same number of honest requests would
take.
"""

import sys
import threading
import time

from frames import *
from place import Endpoint, Proxy

LISTENER = (
    "http2: { enabled: true }, idleTimeout: 2s, limits: { headerTimeout: 2s, bodyTimeout: 1s, answerTimeout: 1s }"
)

# Resident memory of the proxy beside what it has at rest, while one client does his worst: a few windows of bodies and
# answers, docs/http2.md has their bounds.
GROWTH_MAX = 32 << 20

# Of a debug build, for a frame of the worst kind. An honest request takes several times as much.
CPU_PER_FRAME_MAX_S = 0.002

CALM = "GOAWAY ENHANCE_YOUR_CALM"
HELD = request("GET", "/held")
LARGE = request("GET", "/large")


def streams(count, first=1):
    """Numbers of that many streams."""
    return range(first, first + 2 * count, 2)


def flood(wire, pieces):
    """Sends until it is through, or the proxy has closed or takes no more; whether it got through."""
    return all(wire.send(piece) for piece in pieces)


def last_word(wire):
    """How the connection ends, or `OPEN` where a ping is answered still."""
    wire.send(ping())
    while True:
        reaction = wire.reaction()
        if reaction == "PONG":
            return "OPEN"
        if reaction in ("CLOSED", "NOTHING") or reaction.startswith("GOAWAY"):
            return reaction


def batches(pieces, size=100):
    """Pieces, many in one write."""
    pieces = list(pieces)
    return [b"".join(pieces[at:at + size]) for at in range(0, len(pieces), size)]


def broken_by(*frames_of):
    """Requests that are each broken by frames that a server has to reset them for (CVE-2025-8671)."""
    return lambda: [headers(n, HELD) + b"".join(one(n) for one in frames_of) for n in streams(2000)]


def bomb(n, copies):
    """A head that names one large header of the table again and again."""
    return headers(n, request() + integer(62, 7, 0x80) * copies)


def header_bomb(wire):
    """Fills the table once, and then says in a kilobyte what would be 4 MB (CVE-2016-6581)."""
    wire.send(headers(1, request() + literal("x-filler", "y" * 4000, 0x40, 6)))
    wire.reaction()
    flood(wire, (bomb(n, 1000) for n in streams(200, 3)))


def slow_reader(wire):
    """Asks for as much as may be asked for, and opens no window for it."""
    wire.send(settings((4, 0)), *[headers(n, LARGE) for n in streams(128)])
    assert {wire.reaction() for _ in streams(128)} == {"RST CANCEL"}


def dripping_reader(wire):
    """The same, a byte of window at a time: moving, and far below the pace that is asked for."""
    wire.send(settings((4, 0)), *[headers(n, LARGE) for n in streams(32)])
    given_up = 0
    wire.socket.settimeout(0.05)
    for _ in range(400):
        wire.send(*[window_update(n, 1) for n in streams(32)])
        while (reaction := wire.reaction()) != "NOTHING":
            given_up += reaction == "RST CANCEL"
        if given_up == 32:
            break
    wire.socket.settimeout(5)
    assert given_up == 32, f"{given_up} of 32 were given up"


def too_many(wire):
    """Half as many requests again as may be under way."""
    wire.send(*batches(headers(n, HELD) for n in streams(192)))
    refused = [wire.reaction() for _ in range(192 - 128)]
    assert set(refused) == {"RST REFUSED_STREAM"}, set(refused)


def deaf(piece):
    """Sends what has to be answered, and takes no answer: at some time the proxy must not read on, and then let go."""
    def act(wire):
        wire.socket.settimeout(3)
        assert not flood(wire, batches([piece] * 2_000_000, 10_000)), "it took everything"
        return "CLOSED" if wire.is_closed() else "OPEN"
    return act


def window_churn(wire):
    """Changes the window of all streams again and again: each change is work for every stream that is open."""
    wire.send(*[headers(n, HELD) for n in streams(128)])
    flood(wire, batches(settings((4, 65535 + n % 2)) for n in range(10_000)))


def endless_head(wire):
    """A head that comes a byte at a time, and no other frame."""
    wire.send(headers(1, b"", END_STREAM))
    for byte in request():
        if not wire.send(frame(CONTINUATION, 0, 1, bytes([byte]))):
            return
        time.sleep(0.3)


def unfinished_head(wire):
    """A head that does not end, and nothing behind it."""
    wire.send(headers(1, request(), END_STREAM))
    return wire.reaction()


def body_of(piece, count):
    """A body in that many pieces."""
    return lambda: [headers(1, request("POST"), END_HEADERS), *batches([piece] * count)]


def frames_flood(pieces):
    """An attack that only sends, and reads how it ends."""
    def act(wire):
        flood(wire, pieces())
        return last_word(wire)
    return act


# Name; frames at most; what is done; how it may end; the reason for which it has to be counted.
ATTACKS = [
    ("rapid reset", 20_000, frames_flood(lambda: batches(headers(n, HELD) + rst_stream(n) for n in streams(10_000))),
     CALM, "http2_flood"),
    ("made you reset: no more room", 6_000, frames_flood(broken_by(lambda n: window_update(n, 0))),
     "GOAWAY PROTOCOL_ERROR", "http2_protocol"),
    ("made you reset: too much room", 6_000, frames_flood(broken_by(lambda n: window_update(n, 0x7FFFFFFF))),
     CALM, "http2_flood"),
    ("made you reset: more body than was said", 6_000, frames_flood(lambda: [
        post(n, ("content-length", "1")) + data(n, b"ab") for n in streams(2000)]), CALM, "http2_flood"),
    ("made you reset: malformed heads", 2_000, frames_flood(lambda: [
        headers(n, request("GET", "/", (":status", "200"))) for n in streams(2000)]), CALM, "http2_flood"),
    ("made you reset: data on half-closed streams", 6_000, frames_flood(broken_by(data)),
     "GOAWAY PROTOCOL_ERROR", "http2_protocol"),
    ("CONTINUATION without end", 10_001, frames_flood(lambda: [
        headers(1, request(), END_STREAM), *batches([frame(CONTINUATION, 0, 1, block(("x", "y" * 100)))] * 10_000)]),
     CALM, "http2_flood"),
    ("empty CONTINUATION without end", 10_001, frames_flood(lambda: [
        headers(1, request(), END_STREAM), *batches([frame(CONTINUATION, 0, 1)] * 10_000)]), CALM, "http2_flood"),
    ("header bomb", 201, header_bomb, CALM, "http2_flood"),
    ("PING", 100_000, frames_flood(lambda: batches([ping()] * 100_000, 1000)), "OPEN", None),
    ("SETTINGS", 100_000, frames_flood(lambda: batches([settings()] * 100_000, 1000)), "OPEN", None),
    ("PING, and no pong is taken", 2_000_000, deaf(ping()), "CLOSED", None),
    ("SETTINGS, and no acknowledgement is taken", 2_000_000, deaf(settings()), "CLOSED", None),
    ("empty DATA", 50_001, frames_flood(body_of(data(1, b"", 0), 50_000)), CALM, "http2_flood"),
    ("DATA of one byte", 50_001, frames_flood(body_of(data(1, b"x", 0), 50_000)), CALM, "http2_flood"),
    ("DATA of nothing but padding", 20_001, frames_flood(body_of(
        frame(DATA, PADDED, 1, bytes([255]) + bytes(255)), 20_000)), CALM, "http2_flood"),
    ("PRIORITY", 100_000, frames_flood(lambda: batches(
        (frame(PRIORITY, 0, n, bytes(4) + b"\x0f") for n in streams(100_000)), 1000)), "OPEN", None),
    ("frames of an unknown type", 100_000, frames_flood(lambda: batches([frame(UNKNOWN, 0, 0, b"x")] * 100_000, 1000)),
     "OPEN", None),
    ("RST_STREAM of a stream that is over", 100_002, frames_flood(lambda: [
        headers(1, HELD), *batches([rst_stream(1)] * 100_000, 1000)]), "OPEN", None),
    ("WINDOW_UPDATE", 100_001, frames_flood(lambda: [
        headers(1, HELD), *batches([window_update(1, 1)] * 100_000, 1000)]), "OPEN", None),
    ("windows that change all the time", 10_128, window_churn, "OPEN", None),
    ("half as many requests again as there may be", 192, too_many, "OPEN", None),
    ("ten times as many requests as there may be", 1280, frames_flood(lambda: batches(
        headers(n, HELD) for n in streams(1280))), CALM, "http2_flood"),
    ("answers that nobody takes", 129, slow_reader, "OPEN", "answer_slow"),
    ("answers that are taken byte by byte", 13_000, dripping_reader, "OPEN", "answer_slow"),
    ("a head that does not end", 1, unfinished_head, "GOAWAY NO_ERROR", None),
    ("a head that comes byte by byte", 60, endless_head, CALM, "http2_flood"),
]


class Neighbours:
    """Two clients who ask all the while, and have to be served."""

    def __init__(self, proxy):
        self.over, self.served, self.bad = threading.Event(), 0, []
        self.threads = [threading.Thread(target=self.ask, args=(way, proxy), daemon=True)
                        for way in (self.in_http_1, self.in_http_2)]
        for thread in self.threads:
            thread.start()

    def ask(self, way, proxy):
        """At least one request, and then until it is over."""
        while True:
            status = way(proxy)
            self.served += 1
            if status not in (200, "200"):
                self.bad.append(status)
            if self.over.wait(0.05):
                return

    def in_http_1(self, proxy):
        return proxy.get()

    def in_http_2(self, proxy):
        with Wire(proxy.port, patience_s=20) as wire:
            wire.send(headers(1))
            return wire.reaction()

    def end(self):
        """What went wrong for them, and how often they were served."""
        self.over.set()
        for thread in self.threads:
            thread.join()
        return self.bad, self.served


def rests(proxy):
    """Whether it uses little of a processor within a few seconds; its clock runs on, and so a little is used."""
    for _ in range(20):
        before = proxy.cpu_s()
        time.sleep(0.25)
        if proxy.cpu_s() - before < 0.1:
            return True
    return False


def verdict(proxy, attack):
    """What is wrong, if anything; and the figures."""
    name, frames_max, act, wanted, reason = attack
    counted = proxy.refused(reason) if reason else 0
    proxy.forget_peak()
    memory, cpu = proxy.memory_bytes(), proxy.cpu_s()
    neighbours, wrong = Neighbours(proxy), []
    with Wire(proxy.port) as wire:
        try:
            end = act(wire)
            end = end if isinstance(end, str) else last_word(wire)
        except AssertionError as error:
            end = f"unlike what was expected: {error}"
        if end != wanted:
            wrong.append(f"it ended with {end}, and not {wanted}")
    bad, served = neighbours.end()
    if bad:
        wrong.append(f"neighbours got {bad}")
    if reason:
        proxy.wait_until(f"aware of {name} as {reason}", lambda: proxy.refused(reason) > counted)
    if not rests(proxy):
        wrong.append("it does not rest afterwards")
    grown, used = proxy.memory_bytes("VmHWM") - memory, proxy.cpu_s() - cpu
    if grown > GROWTH_MAX:
        wrong.append(f"it grew by {grown >> 20} MiB")
    if used > 1 + CPU_PER_FRAME_MAX_S * (frames_max + 20 * served):
        wrong.append(f"it took {used:.1f} s of processor time")
    print(f"{'FAILED' if wrong else 'ok':6} {name:44} {end:26} +{grown / (1 << 20):4.1f} MiB {used:5.2f} s cpu, "
          f"neighbours served {served}", *wrong, sep="; ", flush=True)
    return wrong


def main():
    chosen = [attack for attack in ATTACKS if not sys.argv[1:] or attack[0] in sys.argv[1:]]
    with Proxy(Endpoint().port, LISTENER) as proxy:
        assert proxy.get() == 200
        failed = [attack[0] for attack in chosen if verdict(proxy, attack)]
    print(f"abuse: {len(chosen)} attacks, {len(chosen) - len(failed)} stood, {len(failed)} not")
    sys.exit(1 if failed or not chosen else 0)


main()
