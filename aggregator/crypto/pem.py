"""What a PEM file holds, by its labels: so that the wrong file gets its name in the error.

Source: RFC 7468.
"""

import re

CERTIFICATE = "CERTIFICATE"
REQUEST = "CERTIFICATE REQUEST"

_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")


def labels(pem: bytes) -> list[str]:
    """The labels in a file, in order; none when it is no PEM file."""
    return [label.decode() for label in _BEGIN.findall(pem)]


def what_it_is(pem: bytes) -> str:
    """A few words for people about a file that is not what was wanted."""
    found = labels(pem)
    if any(label.endswith("PRIVATE KEY") for label in found):
        return "a private key, which never leaves its owner"
    if REQUEST in found:
        return "a signing request, which goes to the consortium"
    if CERTIFICATE in found:
        return f"a file of {found.count(CERTIFICATE)} certificates"
    return "no PEM file of ours"
