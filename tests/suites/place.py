"""A real proxy with a real endpoint behind it, on free ports of the loopback interface, as every suite here needs
one.

The endpoint is a thread of the suite: it takes a whole request before it answers, keeps what is asked for under
`/held` for ever, reads no body under `/unread`, and answers a megabyte under `/large`. The proxy is the program that
was built, with a configuration of its own.
"""

import http.client
import http.server
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "foreshade-proxy"

# Only a broken build takes this long for anything.
PATIENCE_S = 20

SMALL = b"a small answer\n"
LARGE = b"x" * 1_000_000


def free_ports(count):
    """Ports of the loopback interface that nobody listens on."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


class Endpoint:
    """Answers in HTTP/1.1."""

    def __init__(self):
        self.server = Server(("127.0.0.1", 0), Answering)
        # What an abused connection leaves behind is no news.
        self.server.handle_error = lambda *_: None
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Server(http.server.ThreadingHTTPServer):
    """Takes as many connections at once as a proxy may open."""

    daemon_threads = True
    request_queue_size = 1024


class Answering(http.server.BaseHTTPRequestHandler):
    """One connection of a proxy."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        if self.path.startswith("/unread"):
            time.sleep(PATIENCE_S)
            self.close_connection = True
            return
        self.take_body()
        if self.path.startswith("/held"):
            self.rfile.read(1)
            return
        body = LARGE if self.path.startswith("/large") else SMALL
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def take_body(self):
        if self.headers.get("transfer-encoding") is None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            return
        while size := int(self.rfile.readline(), 16):
            self.rfile.read(size + 2)
        self.rfile.readline()

    do_GET = do_HEAD = do_POST = do_PUT = do_OPTIONS = answer

    def log_message(self, *_):
        pass


class Proxy:
    """A running proxy. `listener` is YAML of the keys of its one listener, beside name, address and routes; `tls` says
    whether it speaks TLS, or that and further keys of the section `tls`."""

    def __init__(self, endpoint_port, listener, tls=False):
        self.port, self.admin = free_ports(2)
        self.folder = Path(tempfile.mkdtemp(prefix="foreshade-suite-"))
        keys = [listener] if listener else []
        if tls:
            keys.append(f"tls: {{ {self.certificate()}{', ' + tls if isinstance(tls, str) else ''} }}")
        config = self.folder / "foreshade.yaml"
        config.write_text(
            "apiVersion: foreshade/v1\n"
            f'admin: {{ address: "127.0.0.1:{self.admin}" }}\n'
            "workers: 1\n"
            f'listeners: [{{ name: web, address: "127.0.0.1:{self.port}", {"".join(f"{key}, " for key in keys)}'
            "routes: [{ cluster: shop, timeout: 60s }] }]\n"
            "clusters:\n  - name: shop\n    health: off\n"
            f'    endpoints: [{{ name: a, address: "127.0.0.1:{endpoint_port}" }}]\n'
        )
        self.log = open(self.folder / "log", "wb")
        self.process = subprocess.Popen([PROGRAM, "run", "--config", config], stdout=self.log, stderr=self.log)

    def certificate(self):
        """A certificate for localhost of an authority of its own (`authority.pem`), for `tls.certificates`."""
        def issue(name, *how):
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                 "-days", "89", "-keyout", self.folder / f"{name}.key", "-out", self.folder / f"{name}.pem", *how],
                check=True, capture_output=True,
            )
        authority, key = self.folder / "authority", self.folder / "localhost.key"
        issue("authority", "-subj", "/CN=authority of a suite")
        issue("localhost", "-subj", "/CN=localhost", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key",
              "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE",
              "-addext", "keyUsage=critical,digitalSignature", "-addext", "extendedKeyUsage=serverAuth",
              "-addext", "crlDistributionPoints=URI:http://localhost/nothing.crl")
        key.chmod(0o600)
        return f"certificates: [{{ certFile: {self.folder / 'localhost.pem'}, keyFile: {key} }}]"

    def __enter__(self):
        self.wait_until("ready", lambda: self.operators("/readyz")[0] == 200)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def wait_until(self, what, done):
        """Waits until `done` holds; fails where the proxy ends before, or it does not come to hold."""
        begun = time.monotonic()
        while not done():
            if self.process.poll() is not None:
                raise SystemExit(f"the proxy ended before it was {what}: {(self.folder / 'log').read_text()}")
            if time.monotonic() - begun > PATIENCE_S:
                raise SystemExit(f"the proxy is still not {what}")
            time.sleep(0.02)

    def operators(self, path):
        """Status and text of what operators are told."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=PATIENCE_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except ConnectionRefusedError:
            return 0, ""
        finally:
            connection.close()

    def refused(self, reason):
        """How often something was refused for this reason."""
        found = re.search(rf'^foreshade_refused_total{{reason="{reason}"}} (\d+)', self.operators("/metrics")[1], re.M)
        return int(found.group(1)) if found else 0

    def memory_bytes(self, which="VmRSS"):
        """Resident memory; `VmHWM` is the most that it ever was."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"^{which}:\s+(\d+) kB", status, re.M).group(1)) * 1024

    def forget_peak(self):
        """Has `VmHWM` begin anew. Source: proc(5), clear_refs."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def cpu_s(self):
        """Processor time that it has used, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def get(self, path="/"):
        """The status that another client gets, who speaks HTTP/1.1."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()
