"""Evaluates whether IAM policies allow a request.

Implements the part of IAM's evaluation that this template uses (IAM User Guide, "Policy evaluation logic" and "IAM JSON policy elements
reference"). Everything else is an error.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache

ALLOWED, DENIED, IMPLICITLY_DENIED = "allowed", "denied", "implicitly denied"

ELEMENTS = {"Sid", "Effect", "Action", "Resource", "Condition", "Principal"}


@dataclass(frozen=True)
class Request:
    """A request: action, resource, context and calling service. Context keys are case-insensitive."""

    action: str
    resource: str
    context: dict = field(default_factory=dict)
    # The name of a service, such as cloudwatch.amazonaws.com. None stands for a role.
    service: str | None = None


def as_list(value):
    return value if isinstance(value, list) else [value]


@lru_cache(maxsize=None)
def _wildcards(pattern, ignore_case):
    text = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern)
    return re.compile(text, re.DOTALL | (re.IGNORECASE if ignore_case else 0))


def matches(pattern, text, ignore_case=False):
    """Whether text matches a pattern with `*` and `?`."""
    return _wildcards(pattern, ignore_case).fullmatch(text) is not None


def matches_arn(pattern, arn):
    """Whether an ARN matches a pattern. A wildcard matches within one of the six parts. The last part may contain colons."""
    if pattern == "*":
        return True
    patterns = pattern.split(":", 5)
    if len(patterns) != 6 or "${" in pattern:
        raise NotImplementedError(f"no ARN of six parts without variables: {pattern}")
    parts = arn.split(":", 5)
    return len(parts) == 6 and all(map(matches, patterns, parts))


def _boolean(wanted, value):
    return str(wanted).lower() == str(value).lower()


OPERATORS = {
    "ArnLike": matches_arn,
    "Bool": _boolean,
    "StringEquals": lambda wanted, value: wanted == value,
    "StringLike": matches,
}


def holds(condition, context):
    """Whether all operators of a Condition hold. An operator holds for a key if it holds for one of the listed values."""
    context = {key.lower(): value for key, value in context.items()}
    for operator, keys in condition.items():
        for key, wanted in keys.items():
            value = context.get(key.lower())
            if operator == "Null":
                if not any(_boolean(one, value is None) for one in as_list(wanted)):
                    return False
            elif operator not in OPERATORS:
                raise NotImplementedError(f"the condition operator {operator} is not supported here")
            elif value is None or not any(OPERATORS[operator](one, value) for one in as_list(wanted)):
                return False
    return True


def _names_principal(principal, service):
    if principal == "*" or principal == {"AWS": "*"}:
        return True
    if set(principal) != {"Service"}:
        raise NotImplementedError(f"the principal {principal} is not supported here")
    return service in as_list(principal["Service"])


def applies(statement, request):
    """Whether a statement applies to a request."""
    unknown = set(statement) - ELEMENTS
    if unknown:
        raise NotImplementedError(f"the element {', '.join(sorted(unknown))} is not supported here")
    return (
        any(matches(pattern, request.action, ignore_case=True) for pattern in as_list(statement["Action"]))
        and any(matches_arn(pattern, request.resource) for pattern in as_list(statement["Resource"]))
        and ("Principal" not in statement or _names_principal(statement["Principal"], request.service))
        and holds(statement.get("Condition", {}), request.context)
    )


def decide(statements, request):
    """Returns the decision of the statements of all applicable policies."""
    effects = {statement["Effect"] for statement in statements if applies(statement, request)}
    if "Deny" in effects:
        return DENIED
    return ALLOWED if "Allow" in effects else IMPLICITLY_DENIED
