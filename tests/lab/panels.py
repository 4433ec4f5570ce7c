"""Asks a Prometheus each query of a Grafana dashboard, and prints those that it answered; exit 1 names those that have no data.

    panels.py http://127.0.0.1:9090 DASHBOARD.json
"""

import json
import sys
import urllib.parse
import urllib.request

prometheus, dashboard = sys.argv[1], json.load(open(sys.argv[2]))
VALUES = {"$instance": ".*", "$service": ".*", "$__rate_interval": "10s"}


def answer(query):
    url = f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    with urllib.request.urlopen(url, timeout=10) as answered:
        return json.load(answered)["data"]["result"]


missing = []
for panel in dashboard["panels"]:
    for target in panel.get("targets", []):
        query = target["expr"]
        for name, value in VALUES.items():
            query = query.replace(name, value)
        (print if answer(query) else missing.append)(f"{panel['title']}: {query}")
if missing:
    print("no data:", *missing, sep="\n  ", file=sys.stderr)
    sys.exit(1)
