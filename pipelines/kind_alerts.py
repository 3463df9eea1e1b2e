"""A stand-in for Slack on the cluster: its log is what alerts it got."""

import json
from typing import Any

from pipelines.kind_cluster import Cluster

NAME, PORT = "alert-sink", 8080
SECRET = "feedrank-alerts"
LABELS = {"app": NAME}
SERVER = f"""
import http.server

class Sink(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.rfile.read(int(self.headers["Content-Length"])).decode(), flush=True)
        self.send_response(200)
        self.end_headers()

http.server.HTTPServer(("", {PORT}), Sink).serve_forever()
"""
VALUES: dict[str, Any] = {
    "monitor": {"alerts": {"existingSecret": SECRET}},
    "networkPolicy": {
        "egress": [{"to": [{"podSelector": {"matchLabels": LABELS}}], "ports": [{"port": PORT, "protocol": "TCP"}]}]
    },
}
"""Of the chart, for a release whose monitor alerts it."""


def start(cluster: Cluster) -> None:
    """Starts it, without what an earlier one has got, and puts its address where the monitor looks for Slack's."""
    cluster.kubectl("delete", "pod", NAME, "--ignore-not-found", "--grace-period=1")
    secret = {"kind": "Secret", "stringData": {"FEEDRANK_SLACK_WEBHOOK": f"http://{NAME}:{PORT}/"}}
    service = {"kind": "Service", "spec": {"selector": LABELS, "ports": [{"port": PORT}]}}
    pod = {"kind": "Pod", "spec": cluster.pod_spec(["python", "-c", SERVER])}
    for name, content in ((SECRET, secret), (NAME, service), (NAME, pod)):
        metadata = {"name": name, "labels": LABELS}
        cluster.kubectl("apply", "--filename", "-", content={"apiVersion": "v1", "metadata": metadata, **content})
    cluster.kubectl("wait", "--for=condition=Ready", f"pod/{NAME}", "--timeout=60s")


def delivered(cluster: Cluster) -> list[str]:
    """The texts of the alerts that arrived, the oldest first."""
    return [json.loads(line)["text"] for line in cluster.kubectl("logs", NAME).splitlines() if line.startswith("{")]
