"""Calls of gRPC through foreshade-proxy, made by grpcio's client and answered by its server.

    calls.py PROXY            starts PROXY and two endpoints, and makes the calls
    calls.py endpoint PORT    is one of the endpoints

Messages are bytes, so that nothing has to be generated. What is wrong ends the program with a traceback.
"""

import collections
import json
import pathlib
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent import futures

import grpc

# Only a broken build takes this long for anything.
PATIENCE_S = 60

# Users who call at the same time while traffic moves.
USERS = 12

# What an endpoint takes for a message, well and slow: more than what a busy machine adds to it.
WELL_S, SLOW_S = 0.03, 0.3

SERVICE = "shop.Orders"


class Endpoint(grpc.GenericRpcHandler):
    """What an endpoint does with each method. Slow once it is told to be."""

    def __init__(self):
        self.delay_s = WELL_S
        self.cancelled = 0
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        self.methods = {
            f"/{SERVICE}/Get": unary(self.get),
            f"/{SERVICE}/Refuse": unary(self.refuse),
            f"/{SERVICE}/Hang": unary(self.hang),
            f"/{SERVICE}/Cancelled": unary(lambda _, __: str(self.cancelled).encode()),
            f"/{SERVICE}/Count": grpc.unary_stream_rpc_method_handler(self.count),
            f"/{SERVICE}/Add": grpc.stream_unary_rpc_method_handler(self.add),
            f"/{SERVICE}/Echo": stream(self.echo),
            # SERVING, in the message of the health service.
            "/grpc.health.v1.Health/Check": unary(lambda _, __: b"\x08\x01"),
        }

    def service(self, details):
        return self.methods.get(details.method)

    def get(self, message, context):
        time.sleep(self.delay_s)
        context.send_initial_metadata((("x-head", "h"),))
        context.set_trailing_metadata((("x-tail", "t"), ("x-binary-bin", b"\x00\xff")))
        return b"<" + message + b">"

    def refuse(self, message, context):
        context.set_trailing_metadata((("x-tail", "t"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "caf\u00e9 is closed")

    def hang(self, message, context):
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait()
        self.cancelled += 1
        return b""

    def count(self, message, context):
        for number in range(int(message)):
            yield b"%d" % number

    def add(self, messages, context):
        return b"%d" % sum(len(message) for message in messages)

    def echo(self, messages, context):
        for message in messages:
            time.sleep(self.delay_s)
            yield message

    def be_slow(self, *_):
        self.delay_s = SLOW_S


def serve(port):
    endpoint = Endpoint()
    server = grpc.server(futures.ThreadPoolExecutor(4 * USERS))
    server.add_generic_rpc_handlers((endpoint,))
    assert server.add_insecure_port(f"127.0.0.1:{port}") == port
    server.start()
    signal.signal(signal.SIGUSR1, endpoint.be_slow)
    # In good order: what is under way is finished, and nothing new is begun.
    signal.signal(signal.SIGTERM, lambda *_: server.stop(10))
    server.wait_for_termination()


def until(what, done):
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, f"never {what}"
        time.sleep(0.05)


def refused(call, *arguments, **keys):
    """The error by which a call ends."""
    try:
        call(*arguments, **keys)
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call was answered")


class Calls:
    """The methods of a service at a proxy."""

    def __init__(self, address, user="nobody", options=()):
        self.channel = grpc.insecure_channel(address, options=options)
        self.terms = {"timeout": PATIENCE_S, "metadata": (("x-user", user),)}

    def unary(self, method):
        return self.channel.unary_unary(f"/{SERVICE}/{method}")

    def streams(self):
        """All four forms, with metadata and trailers."""
        answer, call = self.unary("Get").with_call(b"one", **self.terms)
        assert answer == b"<one>", answer
        head, tail = dict(call.initial_metadata()), dict(call.trailing_metadata())
        assert head["x-head"] == "h" and tail["x-tail"] == "t", (head, tail)
        assert tail["x-binary-bin"] == b"\x00\xff", tail
        large = bytes(1_000_000)
        assert self.unary("Get")(large, **self.terms) == b"<" + large + b">"
        count = self.channel.unary_stream(f"/{SERVICE}/Count")(b"5000", **self.terms)
        assert [int(number) for number in count] == list(range(5000))
        add = self.channel.stream_unary(f"/{SERVICE}/Add")
        assert add(iter([bytes(100_000)] * 30), **self.terms) == b"3000000"

    def conversation(self):
        """Each side speaks when it has heard the other."""
        said = queue.Queue()
        heard = self.channel.stream_stream(f"/{SERVICE}/Echo")(iter(said.get, None), **self.terms)
        for message in (b"one", b"", b"three"):
            said.put(message)
            assert next(heard) == message
        said.put(None)
        assert list(heard) == [] and heard.code() == grpc.StatusCode.OK

    def errors(self):
        """An endpoint's own, with its words and trailers, and the proxy's."""
        error = refused(self.unary("Refuse"), b"", **self.terms)
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION and error.details() == "caf\u00e9 is closed"
        assert dict(error.trailing_metadata())["x-tail"] == "t"
        error = refused(self.unary("Nothing"), b"", **self.terms)
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
        error = refused(self.channel.unary_unary("/shop.Nobody/Get"), b"", **self.terms)
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
        assert error.details() == "foreshade: no route for this request", error
        error = refused(self.channel.unary_unary("/shop.Gone/Get"), b"", **self.terms)
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error
        assert error.details() == "foreshade: the endpoint did not answer", error

    def ends(self):
        """A deadline and a cancellation come to the endpoint."""
        error = refused(self.unary("Hang"), b"", timeout=0.3)
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
        call = self.unary("Hang").future(b"", **self.terms)
        time.sleep(0.1)
        assert call.cancel()
        cancelled = lambda: int(self.unary("Cancelled")(b"", **self.terms))
        until("two calls were taken back", lambda: cancelled() == 2)


def user(name, address, calls, over):
    """One of the users, who calls until it is over."""
    own = Calls(address, name, options=[("grpc.use_local_subchannel_pool", 1)])
    while not over.is_set():
        for call in (lambda: own.unary("Get")(b"one", **own.terms), own.conversation):
            try:
                call()
                calls["served"] += 1
            except grpc.RpcError as error:
                calls[f"{error.code()}: {error.details()}"] += 1
            except AssertionError as error:
                calls[f"wrong: {error}"] += 1


def shift(address, admin, primary):
    """A primary becomes slow, traffic moves to its shadow; then it leaves altogether. Nobody's call fails."""
    def share():
        with urllib.request.urlopen(f"http://{admin}/v1/endpoints") as answer:
            clusters = json.load(answer)["clusters"]
        orders = next(cluster for cluster in clusters if cluster["name"] == "orders")
        return next(one for one in orders["endpoints"] if one["name"] == "a")["share"]

    calls, over = collections.Counter(), threading.Event()
    users = [threading.Thread(target=user, args=(f"user-{n}", address, calls, over)) for n in range(USERS)]
    for one in users:
        one.start()
    try:
        until("enough is known of the primary", lambda: calls["served"] > 1200)
        primary.send_signal(signal.SIGUSR1)
        until("traffic moves", lambda: share() > 0)
        until("most of it has", lambda: share() >= 0.5)
        primary.send_signal(signal.SIGTERM)
        assert primary.wait(PATIENCE_S) == 0
        before = calls["served"]
        until("the shadow serves alone", lambda: calls["served"] > before + 200)
    finally:
        over.set()
        for one in users:
            one.join()
    served = calls.pop("served")
    assert not calls, f"{served} were served, and not: {dict(calls)}\n{counted(admin)}"
    return served


def counted(admin):
    """What the proxy counts of failures."""
    with urllib.request.urlopen(f"http://{admin}/metrics") as page:
        lines = page.read().decode().splitlines()
    telling = ("attempts_total", "failovers_total", "kept_failures", "answers_total", "risk_ratio")
    return "\n".join(line for line in lines if line[0] != "#" and any(name in line for name in telling))


CONFIG = """
apiVersion: foreshade/v1
admin: {{ address: "{admin}" }}
workers: 2
listeners:
  - name: calls
    address: "{users}"
    http2: {{ enabled: true }}
    routes:
      - {{ match: {{ path: {{ prefix: /shop.Orders }} }}, cluster: orders, timeout: 30s }}
      - {{ match: {{ path: {{ prefix: /shop.Gone }} }}, cluster: gone }}
clusters:
  - name: orders
    protocol: http2
    health: {{ grpc: {{}}, timeout: 1s }}
    cohort: {{ header: x-user }}
    slowStart: 0s
    endpoints: [{{ name: a, address: "{a}", shadow: a-standby }}]
    shadows: [{{ name: a-standby, address: "{standby}" }}]
  - name: gone
    protocol: http2
    health: off
    endpoints: [{{ name: nobody, address: "{nobody}" }}]
"""


def web(address):
    """The same from a page's point of view."""
    script = pathlib.Path(__file__).with_name("web.js")
    subprocess.run(["node", str(script), address], check=True, timeout=PATIENCE_S)


def free_addresses(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    return [f"127.0.0.1:{one.getsockname()[1]}" for one in held]


def main(proxy):
    names = ("admin", "users", "a", "standby", "nobody")
    places = dict(zip(names, free_addresses(len(names))))
    started = []

    def start(*command):
        started.append(subprocess.Popen(command))
        return started[-1]

    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "foreshade.yaml")
        file.write_text(CONFIG.format(**places))
        try:
            endpoints = [
                start(sys.executable, __file__, "endpoint", places[name].rsplit(":")[1]) for name in ("a", "standby")
            ]
            # A primary that is not there yet would be failed over before the first call.
            for name in ("a", "standby"):
                grpc.channel_ready_future(grpc.insecure_channel(places[name])).result(PATIENCE_S)
            start(proxy, "run", "--config", str(file))
            calls = Calls(places["users"])
            until("there is a proxy", lambda: ready(places["admin"]))
            for part in (calls.streams, calls.conversation, calls.errors, calls.ends):
                part()
                print(f"ok: {part.__name__}")
            web(places["users"])
            print("ok: web")
            served = shift(places["users"], places["admin"], endpoints[0])
            print(f"ok: shift, {served} calls and none of them failed")
        finally:
            for one in started:
                one.kill()
                one.wait()


def ready(admin):
    try:
        return urllib.request.urlopen(f"http://{admin}/readyz").status == 200
    except OSError:
        return False


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["endpoint", port]:
            serve(int(port))
        case [proxy]:
            main(proxy)
        case _:
            sys.exit(__doc__)
