"""The server: no request breaks it."""

import importlib.util

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.core.result import Ok

from tests.labelling import learned
from tests.labelling.served import CHANGING, client, everything

_LONG = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


@pytest.mark.timeout(240)
def test_no_request_breaks_the_server(tmp_path):
    """Requests made from the OpenAPI schema, right and wrong ones: never an answer of 500 or above."""
    with client(tmp_path) as ann:
        inner = vars(ann.app)["_app"]  # the app without its guard, which is tested elsewhere
        schema = schemathesis.openapi.from_asgi("/api/openapi.json", inner)
        headers = {
            "Cookie": "; ".join(f"{name}={value}" for name, value in ann.cookies.items()),
            **CHANGING,
            "Host": "localhost",
        }
        if importlib.util.find_spec("sklearn") is not None:  # its work would disturb what Hypothesis draws
            learned.wait_scores(ann, state="labels")
        seen = set()
        for operation in schema.get_all_operations():
            assert isinstance(operation, Ok), operation
            made = operation.ok()
            seen.add((made.method.upper(), made.path))

            @settings(max_examples=12, deadline=None, database=None, derandomize=True, suppress_health_check=_LONG)
            @given(case=made.as_strategy())
            def ask(case):
                answer = case.call(headers=headers)
                assert answer.status_code < 500, (case.as_curl_command(), answer.text)

            ask()
        assert ("POST", "/api/pairs/{pair}/changes") in seen and len(seen) >= 14
        assert everything(ann)["total"] >= 25
