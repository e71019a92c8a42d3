"""What foreshade-proxy tells of requests, as the programs of others read it.

    look.py PROXY       starts PROXY, an endpoint and a collector, and makes requests

Spans go to grpcio's server with the messages that OpenTelemetry generates from its own definitions. The metrics are read by
Prometheus' own parsers for Python, of the text format and of OpenMetrics. What those cannot read, or read and do not expect,
ends the program with a traceback.
"""

import http.client
import http.server
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent import futures

import grpc
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2
from prometheus_client import parser as text_parser
from prometheus_client.openmetrics import parser as openmetrics_parser

# Only a broken build takes this long for anything.
PATIENCE_S = 60

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

CONFIG = """
apiVersion: foreshade/v1
admin: {{ address: "127.0.0.1:{admin}" }}
workers: 2
requestId: {{ make: true }}
trace:
  mode: start
  export:
    endpoint: "http://127.0.0.1:{collector}"
    delay: 10ms
    service: edge
    attributes: [{{ name: deployment.environment.name, value: test }}]
listeners:
  - {{ name: web, address: "127.0.0.1:{users}", routes: [{{ cluster: shop }}] }}
clusters:
  - name: shop
    health: off
    endpoints: [{{ name: a, address: "127.0.0.1:{endpoint}", shadow: standby }}]
    shadows: [{{ name: standby, address: "127.0.0.1:{standby}" }}]
"""


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is told."""

    def __init__(self):
        self.requests = []

    def Export(self, request, context):
        # Whatever a newer definition would not know is a mistake of ours.
        assert not unknown(request), request
        self.requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self):
        return [
            span
            for request in self.requests
            for of_resource in request.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]


def unknown(message):
    """Whether it has fields that its definition does not have."""
    copy = type(message)()
    copy.CopyFrom(message)
    copy.DiscardUnknownFields()
    return copy.ByteSize() != message.ByteSize()


class Endpoint(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    heads = []

    def do_GET(self):
        self.heads.append(self.headers)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


def until(what, done):
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, f"never {what}"
        time.sleep(0.02)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def get(port, path, headers=None):
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    client.request("GET", path, headers=headers or {})
    answer = client.getresponse()
    answer.read()
    client.close()
    return answer.status


def is_ready(port):
    try:
        return get(port, "/readyz") == 200
    except OSError:
        return False


def known(attributes):
    values = {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in attributes}
    assert len(values) == len(attributes), attributes
    return values


def samples(families):
    """Name and labels of each sample, with its value."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.startswith("process_")
    }


def check_metrics(ports):
    """Both texts are what their parsers take, and say the same."""
    def page(accept):
        request = urllib.request.Request(f"http://127.0.0.1:{ports['admin']}/metrics", headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.headers["Content-Type"], answer.read().decode()

    # What a worker has counted is found once its tick has been.
    count = "foreshade_answer_latency_seconds_count", (("cluster", "shop"),)
    until("counted", lambda: samples(text_parser.text_string_to_metric_families(page("text/plain")[1])).get(count) == 2)
    kind, text = page("text/plain")
    assert kind.startswith("text/plain; version=0.0.4"), kind
    kind, open_text = page("application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text; version=1.0.0"), kind
    families = list(openmetrics_parser.text_string_to_metric_families(open_text))
    assert len(families) > 50 and {family.type for family in families} == {"counter", "gauge", "histogram"}
    open_samples = samples(families)
    text_samples = samples(text_parser.text_string_to_metric_families(text))
    assert open_samples.keys() == text_samples.keys(), open_samples.keys() ^ text_samples.keys()
    assert open_samples[count] == text_samples[count] == 2, (open_samples[count], text_samples[count])


def check_spans(collector, ports):
    """One request of a caller's trace, and one that begins its own."""
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "a=1", "User-Agent": "look.py"}
    assert get(ports["users"], "/shop/1?key=s3cret", headers) == 200
    assert get(ports["users"], "/shop/2") == 200
    until("four spans", lambda: len(collector.spans()) == 4)
    resource = known(collector.requests[0].resource_spans[0].resource.attributes)
    assert resource["service.name"] == "edge" and resource["deployment.environment.name"] == "test", resource
    scope = collector.requests[0].resource_spans[0].scope_spans[0].scope
    assert scope.name == "foreshade-proxy" and scope.version, scope

    spans = {(known(span.attributes).get("url.path"), span.kind): span for span in collector.spans()}
    server = spans["/shop/1", trace_pb2.Span.SPAN_KIND_SERVER]
    [client] = [span for span in collector.spans() if span.parent_span_id == server.span_id]
    assert client.kind == trace_pb2.Span.SPAN_KIND_CLIENT
    assert server.trace_id.hex() == client.trace_id.hex() == TRACE
    assert server.parent_span_id.hex() == PARENT and server.trace_state == client.trace_state == "a=1"
    assert server.flags == 0x301 and client.flags == 0x101, (server.flags, client.flags)
    now = time.time_ns()
    assert now - PATIENCE_S * 10**9 < server.start_time_unix_nano <= client.start_time_unix_nano
    assert client.end_time_unix_nano <= server.end_time_unix_nano <= now
    assert [event.name for event in client.events] == ["request sent", "answer begun"], client
    assert server.status.code == client.status.code == trace_pb2.Status.STATUS_CODE_UNSET
    of_server, of_client = known(server.attributes), known(client.attributes)
    assert of_server["http.response.status_code"] == of_client["http.response.status_code"] == 200
    assert of_server["user_agent.original"] == "look.py" and of_server["server.port"] == ports["users"]
    assert of_client["server.port"] == ports["endpoint"] and of_client["foreshade.share"] == 0.0, of_client
    assert of_client["foreshade.side"] == "primary" and 0 <= of_client["foreshade.cohort"] < 1, of_client
    assert len(of_server["foreshade.request_id"]) == 32, of_server
    assert "s3cret" not in json_format.MessageToJson(collector.requests[0])
    # What the endpoint was told is the span of the attempt.
    assert Endpoint.heads[0]["traceparent"] == f"00-{TRACE}-{client.span_id.hex()}-01"

    begun = spans["/shop/2", trace_pb2.Span.SPAN_KIND_SERVER]
    assert begun.parent_span_id == b"" and begun.trace_id.hex() != TRACE and begun.flags == 0x103, begun


def main(proxy):
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    endpoint = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=endpoint.serve_forever, daemon=True).start()
    ports = {
        "collector": server.add_insecure_port("127.0.0.1:0"),
        "endpoint": endpoint.server_port,
        "users": free_port(),
        "admin": free_port(),
        "standby": free_port(),
    }
    server.start()
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder, "foreshade.yaml")
        config.write_text(CONFIG.format(**ports))
        process = subprocess.Popen([proxy, "run", "--config", config], stderr=subprocess.DEVNULL)
        try:
            until("ready", lambda: is_ready(ports["admin"]))
            check_spans(collector, ports)
            check_metrics(ports)
        finally:
            process.terminate()
            ended = process.wait(PATIENCE_S)
        assert ended == 0, ended
    server.stop(None)
    print("test result: ok. 2 passed; 0 failed; spans and metrics as others read them")


if __name__ == "__main__":
    main(sys.argv[1])
