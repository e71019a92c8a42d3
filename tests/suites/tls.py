"""Has testssl.sh look at a listener with TLS: one with the settings it has by itself, one with the strictest there
are.

A finding above `LOW` that `tls-accepted.txt` does not list, with a reason, is a failure; so is one that it lists and
that is not found any more, and a run that found next to nothing.
"""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from place import Endpoint, Proxy

# What the sections below find in a healthy run is well above it; fewer are a run that broke off.
FINDINGS_MIN = 50
HARMLESS = {"OK", "INFO", "LOW", "DEBUG"}
# About testssl.sh's own OpenSSL.
OF_THE_SCANNER = {"engine_problem"}
# What a listener says of TLS, and what is looked at; the vulnerabilities are those of versions before 1.3.
ALWAYS = ["--protocols", "--server-preference", "--fs", "--server-defaults"]
SETTINGS = {
    "default": (True, [*ALWAYS, "--std", "--headers", "--vulnerable"]),
    "strict": ("profile: modern", ALWAYS),
}
ACCEPTED = Path(__file__).with_name("tls-accepted.txt")


def accepted():
    """Findings that are accepted: id, and of which settings."""
    lines = [line.split(" | ") for line in ACCEPTED.read_text().splitlines() if line and not line.startswith("#")]
    assert all(len(line) == 3 and len(line[2]) > 20 for line in lines), "id | settings | reason"
    return {(settings, name) for name, which, _ in lines for settings in which.split(", ")}


def look(settings):
    """What testssl.sh finds. Where it says that it could not look, as on a busy machine, it is asked once more."""
    tls, sections = SETTINGS[settings]
    with Proxy(Endpoint().port, "", tls) as proxy:
        for _ in range(2):
            report = proxy.folder / "report.json"
            report.unlink(missing_ok=True)
            subprocess.run(
                ["testssl", "--quiet", "--color", "0", "--warnings", "off", "--openssl-timeout", "30",
                 "--ip", "127.0.0.1", "--add-ca", proxy.folder / "authority.pem", "--jsonfile", report, *sections,
                 f"localhost:{proxy.port}"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
            )
            found = [one for one in json.loads(report.read_text()) if one["id"] not in OF_THE_SCANNER]
            if not any(one["severity"] == "WARN" for one in found):
                break
        return [(settings, one) for one in found]


def main():
    with ThreadPoolExecutor(len(SETTINGS)) as beside:
        findings = [one for run in beside.map(look, SETTINGS) for one in run]
    wrong = []
    for settings in SETTINGS:
        number = sum(of == settings for of, _ in findings)
        print(f"tls: {settings}: {number} findings")
        if number < FINDINGS_MIN:
            wrong.append(f"{settings}: {number} findings are no whole run")
    grave = {(of, finding["id"]): finding for of, finding in findings if finding["severity"] not in HARMLESS}
    for of, name in sorted(grave.keys() - accepted()):
        finding = grave[of, name]
        wrong.append(f"{of}: {finding['severity']} {name}: {finding['finding']}")
    wrong += [f"{of}: {name} is accepted, and not found" for of, name in sorted(accepted() - grave.keys())]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    print(f"tls: {len(findings)} findings, {len(grave)} above LOW, {len(wrong)} of them not accepted")
    sys.exit(1 if wrong else 0)


main()
