"""Writes docs/rpc.md: ``python -m compute_agent.rpc.reference > docs/rpc.md``."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any, get_type_hints

import msgspec

from compute_agent.errors import ComputeAgentError
from compute_agent.instance.wire import UUID_PATTERN
from compute_agent.rpc.client import ComputeClient
from compute_agent.rpc.decode import MAX_SIZE
from compute_agent.rpc.messages import EXCHANGE, RPC_VERSION, TOPIC, VERBS, Change
from compute_agent.rpc.notifications import PRIORITY
from compute_agent.rpc.notifications import TOPIC as NOTIFICATIONS

Schema = dict[str, Any]

_INTRODUCTION = f"""\
<!-- Made by compute_agent/rpc/reference.py from the message types; do not edit. -->
# RPC {RPC_VERSION}

Calls with oslo.messaging over RabbitMQ: exchange `{EXCHANGE}`, topic `{TOPIC}`, server = the host's name, version
`{RPC_VERSION}`, durable queues. `compute_agent.rpc.client.ComputeClient` does all this for a controller in Python.

- A message is a JSON object of at most {MAX_SIZE} bytes. Unknown fields, missing fields and wrong types are refused
  with the path of the field.
- A verb that changes something takes a `request_id`, a new uuid, and answers `Accepted` as soon as the request is
  durable. What comes of it is told by notifications and by `get_operation`.
- The same request with the same `request_id` gets the same answer and starts nothing, also after a restart of the
  agent. So a caller that got no answer repeats the call.
- A call waits in the queue for an agent that is away, for as long as the caller waits for its answer; then it expires.
"""

_NOTIFICATIONS = f"""\
## Notifications

Exchange `{EXCHANGE}`, topic `{NOTIFICATIONS}`, priority `{PRIORITY}` (the queue is `{NOTIFICATIONS}.{PRIORITY}`),
format `messagingv2`, publisher `compute.<host>`. Each is delivered at least once, in order; it waits in the agent while
there is no broker. `compute_agent.rpc.notifications.listen` receives them.

`event_type` is `compute.instance.<operation>.<start|progress|end|error>`; the operations are `boot`, `start`, `stop`,
`reboot`, `pause`, `unpause`, `suspend`, `resume`, `terminate`, `snapshot`, `backup`, `restore`, those about volumes,
interfaces, migrations and evacuations (named as their verbs), `guest_exit` when a guest stopped by itself,
`host_boot` when one is started because the host has been booted, and `evacuated` when a host has let go of an instance
that was taken from it while it was believed dead.
The payload:

- `request_id`, `instance_uuid`, `operation`, `host`: strings
- `arguments`: object, those of the request
- `progress`: integer, percent
- `vm_state`: string, or null while it has not changed or when the instance is gone
- `fault`: [Fault](#fault), or null
- `result`: at the end of a `snapshot` or `backup` the [Snapshot](#snapshot) or [Backup](#backup); in the progress of a
  `live_migration` or `migrate` the [StepDetails](#stepdetails) without what is not known: sizes in bytes, times in
  seconds, `dirty_rate` in bytes a second, `time_left` until the stage is over if all goes on as now,
  `expected_downtime` for which the guest will stand still, the host that is `waiting_for`; else null. `get_operation`
  says the same as `details` while the step lasts
"""

_ERRORS = """\
## Errors

Classes of `compute_agent.errors`, with their arguments; they cross the queue by name and arguments.

"""


def render() -> str:
    """The whole page."""
    answers = {verb: get_type_hints(getattr(ComputeClient, verb))["return"] for verb in VERBS}
    schemas, components = msgspec.json.schema_components(
        [*VERBS.values(), *answers.values()], ref_template="#/$defs/{name}"
    )
    messages = {kind.__name__ for kind in VERBS.values()}
    changes = [verb for verb, kind in VERBS.items() if issubclass(kind, Change)]
    questions = [verb for verb in VERBS if verb not in changes]
    answered = dict(zip(VERBS, schemas[len(VERBS) :], strict=True))
    parts = [_INTRODUCTION]
    for title, verbs in (("Changes", changes), ("Questions", questions)):
        parts.append(f"## {title}\n")
        parts += [_verb(verb, components[VERBS[verb].__name__], answered[verb]) for verb in verbs]
    parts.append("## Types\n")
    parts += [_section(name, component) for name, component in sorted(components.items()) if name not in messages]
    parts += [_NOTIFICATIONS, _errors(), _json_schema(components)]
    return "\n".join(parts)


def _verb(verb: str, message: Schema, answer: Schema) -> str:
    return f"{_section(verb, message)}\nAnswer: {_type(answer)}\n"


def _section(name: str, component: Schema) -> str:
    paragraphs = [f"### {name}", inspect.cleandoc(component.get("description", "")), "\n".join(_fields(component))]
    if "enum" in component:
        paragraphs.append(f"One of {_type(component)}")
    return "\n\n".join(filter(None, paragraphs)) + "\n"


def _fields(component: Schema) -> Iterator[str]:
    for name, schema in component.get("properties", {}).items():
        if name in component.get("required", ()):
            yield f"- `{name}`: {_type(schema)}"
        else:
            yield f"- `{name}`: {_type(schema)}; default `{json.dumps(schema.get('default', {}))}`"


def _type(schema: Schema) -> str:
    """What a value may be, for a person."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(one)}`" for one in schema["enum"])
    if schema.get("pattern") == UUID_PATTERN:
        return f"uuid, {schema['description']}"
    return ", ".join([_base(schema), *_limits(schema)])


def _base(schema: Schema) -> str:
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    if schema.get("type") == "object" and schema.get("additionalProperties"):
        return f"object of {_type(schema['additionalProperties'])}"
    return str(schema.get("type", "any value"))


def _limits(schema: Schema) -> Iterator[str]:
    description = schema.get("description", "")
    if "minimum" in schema:
        largest = schema["maximum"] if "maximum" in schema else schema["exclusiveMaximum"] - 1
        yield f"{schema['minimum']} to {largest} {description}".strip()
    elif description:
        yield description
    if "maxLength" in schema:
        yield f"at most {schema['maxLength']} characters"
    if "maxItems" in schema:
        yield f"at most {schema['maxItems']} of them"
    if "pattern" in schema:
        yield f"`{schema['pattern']}`"


def _errors() -> str:
    return _ERRORS + "\n".join(_error_lines(ComputeAgentError, 0)) + "\n"


def _error_lines(error: type[ComputeAgentError], depth: int) -> Iterator[str]:
    if error.__init__ is ComputeAgentError.__init__:
        arguments = "message"
    else:
        arguments = ", ".join(inspect.signature(error).parameters)
    summary = (error.__doc__ or "").partition("\n")[0]
    yield f"{'  ' * depth}- `{error.__name__}({arguments})`: {summary}"
    for kind in error.__subclasses__():
        if kind.__module__ == error.__module__:  # oslo.messaging makes some more at run time
            yield from _error_lines(kind, depth + 1)


def _json_schema(components: dict[str, Schema]) -> str:
    text = json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": components}, indent=1)
    return f"## JSON Schema\n\n```json\n{text}\n```\n"


if __name__ == "__main__":
    print(render(), end="")
