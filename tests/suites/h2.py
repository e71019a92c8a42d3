"""Asks a real proxy for everything in `h2_cases.CASES`, in the clear and over TLS, each case on a connection of its
own.

A case passes where the reaction is one that its section allows, and the proxy goes on as it must: after an error of
one stream the next request of the connection is served, after an error of the connection it is closed. Prints how
many cases ran; none at all is a failure, as is any case that did not pass.
"""

import sys

from frames import END_HEADERS, PREFACE, Wire, data, headers, ping, request, rst_stream, settings
from h2_cases import CASES, MAX_FRAME, UNSPECIFIC
from place import Endpoint, Proxy

# So that one stream more than there may be is no long list.
LISTENER = "http2: { streams: 16 }"
LISTENER_IN_THE_CLEAR = "http2: { enabled: true, streams: 16 }"

# 32 MiB: more than all windows, and what two sockets between proxy and endpoint can hold.
OVERRUN_FRAMES = 2048


def play(wire, steps):
    """Sends what a case sends, and returns what came."""
    for step in steps:
        if callable(step):
            step(wire)
        else:
            wire.send(step)
    return wire.reaction()


def goes_on(wire, reaction):
    """What is wrong with how the connection goes on, if anything."""
    if reaction.startswith("GOAWAY") and not wire.is_closed():
        return "and it was not closed"
    if reaction.startswith("RST"):
        if reaction == "RST REFUSED_STREAM":
            wire.send(rst_stream(1))
        wire.send(headers(999))
        after = wire.reaction()
        if after != "200":
            return f"and the next request got {after}"
    return None


def verdict(case, port, tls, coarse):
    """What is wrong with a case, if anything. Those that end more, or say less, than they need go to `coarse`."""
    section, name, steps, wanted = case
    with Wire(port, tls) as wire:
        try:
            reaction = play(wire, steps)
        except (AssertionError, AttributeError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"
        if reaction not in wanted:
            return f"{reaction}, and not {' or '.join(wanted)}"
        if reaction == UNSPECIFIC != wanted[0]:
            why = "the connection, for one stream" if wanted[0].endswith("PROTOCOL_ERROR") else "PROTOCOL_ERROR"
            coarse[f"{section} {name}"] = f"{why}, and not {wanted[0]}"
        return goes_on(wire, reaction)


def preface(port, tls):
    """RFC 9113 section 3.4: what does not begin as HTTP/2 does is not served as if it had."""
    with Wire(port, tls, opening=b"INVALID CONNECTION PREFACE\r\n\r\n") as wire:
        if not tls:
            # HTTP/1.1 is spoken on the same port, and answers in its own words.
            said = b""
            while piece := wire.socket.recv(65536):
                said += piece
            return None if said.startswith(b"HTTP/1.1 400 ") else f"{said!r}"
        return None if wire.reaction() in ("GOAWAY PROTOCOL_ERROR", "CLOSED") else "it was served"


def without_acknowledgement(port, tls):
    """Section 6.5.3: settings that are acknowledged late, or never, are no reason to wait with requests."""
    with Wire(port, tls, opening=PREFACE + settings() + headers(1) + ping()) as wire:
        came = {wire.reaction(), wire.reaction()}
        return None if came == {"PONG", "200"} else f"{came}"


def overrun(port, tls):
    """Section 6.9.1: more data than there is room for. Nobody takes the body, so no room comes back for long."""
    with Wire(port, tls) as wire:
        wire.send(headers(1, request("POST", "/unread"), END_HEADERS))
        for _ in range(OVERRUN_FRAMES):
            if not wire.send(data(1, bytes(MAX_FRAME), 0)):
                break
        reaction = wire.reaction()
        return None if reaction in ("RST FLOW_CONTROL_ERROR", "GOAWAY FLOW_CONTROL_ERROR") else reaction


def main():
    endpoint = Endpoint()
    ran, failed, coarse = 0, [], {}
    for tls, listener in ((False, LISTENER_IN_THE_CLEAR), (True, LISTENER)):
        how = "TLS" if tls else "clear"
        with Proxy(endpoint.port, listener, tls) as proxy:
            found = [(f"{case[0]} {case[1]}", verdict(case, proxy.port, tls, coarse))
                     for case in CASES]
            found.append(("3.4 a preface of another protocol", preface(proxy.port, tls)))
            found.append(("6.9.1 more data than there is room for", overrun(proxy.port, tls)))
            found.append(("6.5.3 settings without acknowledgement", without_acknowledgement(proxy.port, tls)))
            served = proxy.get() if not tls else 200
            assert served == 200, f"at the end HTTP/1.1 got {served}"
        ran += len(found)
        failed += [f"{how}: {name}: {what}" for name, what in found if what]
    print(*failed, sep="\n", end="\n" if failed else "")
    if "--coarse" in sys.argv[1:]:
        print(*(f"{name}: {what}" for name, what in coarse.items()), sep="\n")
    print(f"h2: {ran} cases, {ran - len(failed)} passed, {len(failed)} failed; "
          f"{len(coarse)} kinds of errors end with less than the best word (--coarse)")
    sys.exit(1 if failed or ran < 2 * 140 else 0)


main()
