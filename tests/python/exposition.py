"""Reads metrics with the parser that Prometheus itself publishes, and writes them as JSON.

Usage: exposition.py prometheus|openmetrics < text
"""

import json
import sys

if sys.argv[1] == "openmetrics":
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
else:
    from prometheus_client.parser import text_string_to_metric_families as parse

families = [
    {
        "name": family.name,
        "type": family.type,
        "help": family.documentation,
        "samples": [{"name": s.name, "labels": s.labels, "value": s.value} for s in family.samples],
    }
    for family in parse(sys.stdin.read())
]
json.dump(families, sys.stdout)
