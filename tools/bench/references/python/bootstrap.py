"""Lambda Runtime API client that passes invocations to the handler."""

import http.client
import json
import logging
import os

from handler import handler

logging.basicConfig(level=logging.INFO)
runtime = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])


def call(method, path, content=None):
    runtime.request(method, f"/2018-06-01/runtime/invocation/{path}", content)
    answer = runtime.getresponse()
    body = answer.read()
    if answer.status >= 300:
        raise RuntimeError(f"the Runtime API answers {answer.status} to {method} {path}")
    return answer.headers, body


while True:
    headers, body = call("GET", "next")
    request_id = headers["Lambda-Runtime-Aws-Request-Id"]
    try:
        kind, content = "response", handler(json.loads(body), None)
    except Exception as error:
        logging.exception("the invocation failed")
        kind, content = "error", {"errorType": type(error).__name__, "errorMessage": str(error)}
    call("POST", f"{request_id}/{kind}", json.dumps(content))
