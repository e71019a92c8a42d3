"""Plays the Autobahn test suite against one WebSocket server, directly and through a real proxy, in the clear and in
TLS.

What is asked is not how good the server is, but that nothing gets worse on the way: a case that the server passes
directly has to pass through the proxy. Cases that are slow and say little about a proxy (large messages, compression)
are a sample; with `AUTOBAHN_CASES=--all` every one is played, for much longer than half an hour. Called by
`scripts/suites`, which knows a Python 2.7.
"""

import asyncio
import json
import logging
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import websockets
from websockets.asyncio.server import serve

from place import Proxy

CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*", "9.1.1", "9.1.3", "9.2.1", "9.2.3", "9.3.5", "9.4.5",
         "9.5.1", "9.6.1", "9.7.1", "9.8.1", "12.1.1", "12.2.1", "12.3.1", "13.1.1", "13.4.1"]
# What these are, as the suite counts them.
CASES_MIN = 260
# How good an outcome is. Between the first three the suite itself sees no fault, but another timing.
PASSED = {"OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED"}


async def echo(connection):
    """Says everything again."""
    try:
        async for message in connection:
            await connection.send(message)
    except websockets.ConnectionClosed:
        pass


class Server:
    """A server of the `websockets` library, on a thread of its own."""

    def __init__(self):
        logging.disable(logging.CRITICAL)
        started = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self.serve(started)), daemon=True).start()
        started.wait()

    async def serve(self, started):
        async with serve(echo, "127.0.0.1", 0, max_size=None) as server:
            self.port = server.sockets[0].getsockname()[1]
            started.set()
            await asyncio.get_running_loop().create_future()


def play(command, way, url, cases):
    """Outcomes of all cases, by their number."""
    with tempfile.TemporaryDirectory(prefix="foreshade-autobahn-") as folder:
        folder = Path(folder)
        settings = {"outdir": str(folder), "servers": [{"agent": way, "url": url}], "cases": cases,
                    "exclude-cases": [], "exclude-agent-cases": {}}
        (folder / "settings.json").write_text(json.dumps(settings))
        subprocess.run([*command, "-m", "fuzzingclient", "-s", folder / "settings.json"],
                       check=True, stdin=subprocess.DEVNULL, capture_output=True)
        return {case: (said["behavior"], said["behaviorClose"])
                for case, said in json.loads((folder / "index.json").read_text())[way].items()}


def worse(through, direct):
    """Cases that pass directly, and not through the proxy."""
    return [case for case, outcome in direct.items()
            if any(before in PASSED and now not in PASSED
                   for now, before in zip(through.get(case, ("MISSING", "MISSING")), outcome))]


def passed(outcomes):
    """How many cases the suite is content with."""
    return sum(set(outcome) <= PASSED for outcome in outcomes.values())


def main():
    *command, which = sys.argv[1:]
    cases = ["*"] if which == "--all" else CASES
    server = Server()
    with Proxy(server.port, "") as plain, Proxy(server.port, "", tls=True) as tls:
        ways = {"direct": f"ws://127.0.0.1:{server.port}", "plain": f"ws://127.0.0.1:{plain.port}",
                "tls": f"wss://127.0.0.1:{tls.port}"}
        with ThreadPoolExecutor(len(ways)) as beside:
            played = dict(zip(ways, beside.map(lambda way: play(command, way, ways[way], cases), ways)))
        direct, wrong = played["direct"], []
        for way, outcomes in played.items():
            # The suite gives a peer a second to close, which a busy machine may not have: such a case is played again.
            if again := worse(outcomes, direct):
                outcomes.update(play(command, way, ways[way], again))
            print(f"websocket: {way}: {len(outcomes)} cases, {passed(outcomes)} passed")
            wrong += [f"{way}: case {case} is {outcomes.get(case)}, and {direct[case]} directly"
                      for case in worse(outcomes, direct)]
        for proxy in (plain, tls):
            proxy.wait_until("rid of all connections", lambda: "\nforeshade_connections_open 0\n" in
                             proxy.operators("/metrics")[1])
    if len(direct) < CASES_MIN:
        wrong.append(f"{len(direct)} cases are no whole run")
    print(*wrong, sep="\n", end="\n" if wrong else "")
    print(f"websocket: {sum(map(len, played.values()))} cases, {len(wrong)} worse through the proxy")
    sys.exit(1 if wrong else 0)


main()
