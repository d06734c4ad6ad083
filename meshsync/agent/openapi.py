"""The OpenAPI 3.1 description of the local API. `python -m meshsync.agent.openapi > docs/openapi.json` writes it.

Invariant: made from the route table alone, so the file in `docs/` is right exactly if it equals the output.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import msgspec

from meshsync.agent.api_routes import ROUTES, Route
from meshsync.agent.api_schema import PageAddress, Problem
from meshsync.agent.local_api import PREFIX

_STREAMS = {
    "/cat": ("The content of one version", "application/octet-stream", ("path", "version", "at")),
    "/events": ("Server-sent events with gap-free ids; replayed after Last-Event-ID", "text/event-stream", ()),
}


def describe() -> dict[str, Any]:
    """Return the OpenAPI document as plain JSON values."""
    kinds: set[type] = {
        PageAddress,
        Problem,
        *(kind for route in ROUTES for kind in (route.answer, route.request, route.result) if kind),
    }
    ordered = sorted(kinds, key=lambda kind: kind.__name__)
    _, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(PREFIX + route.path, {})[route.method.lower()] = _operation(route)
    for path, (summary, media, query) in _STREAMS.items():
        answer = {"200": {"description": summary, "content": {media: {}}}}
        parameters = [_parameter(name, "query", name) for name in query]
        paths[PREFIX + path] = {"get": {"summary": summary, "parameters": parameters, "responses": answer}}
    page = {
        "description": "An address that opens once",
        "content": {"application/json": {"schema": _reference(PageAddress)}},
    }
    paths[PREFIX + "/page"] = {"post": {"summary": "Open the local page", "responses": {"200": page}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "meshsync local API", "version": "1"},
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": dict(sorted(components.items()))},
    }


def render() -> str:
    """Return the document as the text of `docs/openapi.json`."""
    return json.dumps(describe(), indent=1, sort_keys=True) + "\n"


def _operation(route: Route) -> dict[str, Any]:
    summary = route.summary if route.result is None else f"{route.summary}; the job's result: {route.result.__name__}"
    names = re.findall(r"{(\w+)}", route.path)
    parameters = [_parameter(name, "path", name) for name in names]
    parameters += [_parameter(name, "query", text) for name, text in route.query.items()]
    problem = {"application/problem+json": {"schema": _reference(Problem)}}
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": summary,
        "parameters": parameters,
        "responses": {
            str(route.status): {
                "description": summary,
                "content": {"application/json": {"schema": _reference(route.answer)}},
            },
            "default": {"description": "What went wrong and what to do next", "content": problem},
        },
    }
    if route.request is not None:
        operation["requestBody"] = {"content": {"application/json": {"schema": _reference(route.request)}}}
    return operation


def _parameter(name: str, where: str, text: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": where,
        "description": text,
        "required": where == "path",
        "schema": {"type": "string"},
    }


def _reference(kind: type) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


if __name__ == "__main__":
    sys.stdout.write(render())
