"""The numbered test messages as every program must send them, and the comparison with what was received."""

import base64


def expected(prefix, number, body_bytes=0):
    """The fields that a receiver of message `number` must see, apart from those the server adds.

    A body that is shorter than `body_bytes` is filled up with every byte value in turn.
    """
    body = f"{prefix}-{number}: Grüße, 世界, 🚀".encode()
    if number % 2 == 1:
        body += bytes(range(256))
    missing = max(0, body_bytes - len(body))
    body += (bytes(range(256)) * (missing // 256 + 1))[:missing]
    return {
        "body": base64.b64encode(body).decode(),
        "tag": f"tag-{number}",
        "keys": sorted([f"{prefix}-key-{number}", f"{prefix}-schlüssel-{number}"]),
        "properties": {"number": str(number), "sender": f"{prefix} Grüße 世界"},
    }


# What makes a message one of a kind. Not every client shows all of them, and some show 0 for none.
KIND_FIELDS = ("group", "due_ms", "priority", "lite_topic")


def differences(received, prefix, number, message_id, attempt=1, body_bytes=0, **kind):
    """Sentences about every field of a received message that is not as it must be.

    `kind` has those fields of its kind that it must have; it must not have the others.
    """
    wanted = {**expected(prefix, number, body_bytes), "id": message_id, "attempt": attempt}
    seen = {**received, "keys": sorted(received["keys"] or [])}
    wrong = [_difference(field, seen[field], value) for field, value in wanted.items() if seen[field] != value]
    for field in KIND_FIELDS:
        if field in received and (received[field] or None) != (kind.get(field) or None):
            wrong.append(_difference(field, received[field], kind.get(field)))
    if not received["born_host"]:
        wrong.append("there is no born host")
    return wrong


def _difference(field, seen, wanted):
    """A sentence that stays readable when the values are long."""
    return f"{field} is {_short(seen)}, not {_short(wanted)}"


def _short(value):
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:60]}… ({len(text)} characters) …{text[-60:]}"
