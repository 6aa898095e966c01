"""The TLS handshake, with the site's own certificate and against its own authority, by Python's ssl.

gRPC says only "unavailable" when it fails. Nothing but HTTP/2's greeting is sent.

Source: RFC 8446; RFC 9113, section 3.4 (the greeting).
"""

import ssl
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from aggregator.crypto.certificates import MALFORMED, Certificate, stamp
from aggregator.crypto.identity import IDENTITY_FILE, KEY_FILE, Identity
from aggregator.doctor.case import Case
from aggregator.doctor.finding import Finding, fault, good
from aggregator.doctor.line import Dial
from aggregator.errors import NotAdmitted

_CHECK: Final = "TLS"
_ALPN: Final = "h2"
_GREETING: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)  # and an empty SETTINGS frame
# OpenSSL's verification codes (x509_vfy.h)
_NOT_YET_VALID, _EXPIRED, _PURPOSE, _HOST, _ADDRESS = 9, 10, 26, 62, 64


def look_at_tls(case: Case, identity: Identity, dial: Dial) -> Finding:
    """Shake hands as gRPC would, and wait for the server's first word: with TLS 1.3 it refuses a client only then."""
    try:
        with dial() as line, _context(case.directory, identity).wrap_socket(line, server_hostname=case.host) as secure:
            return _look_at_greeting(case, secure)
    except ssl.SSLCertVerificationError as error:
        return _explain(case, identity, error, _peer(case, dial))
    except (ssl.SSLEOFError, ConnectionError, TimeoutError) as error:
        what = "is silent" if isinstance(error, TimeoutError) else "breaks the line"
        remedy = "a firewall may let TCP pass and stop TLS: ask the network team to pass it on without inspection"
        return fault(_CHECK, f"{case.address} {what} during the handshake", remedy)
    except ssl.SSLError as error:
        remedy = f"is {case.address} the aggregator's address? Another service, or a proxy, may listen there"
        return fault(_CHECK, f"{case.address} speaks no TLS that fits: {_reason(error)}", remedy)
    except OSError as error:
        return fault(_CHECK, f"{case.address} cannot be reached any more: {error.strerror or error}", "try again")


def _look_at_greeting(case: Case, secure: ssl.SSLSocket) -> Finding:
    if secure.selected_alpn_protocol() != _ALPN:
        remedy = f"is {case.address} the aggregator's address? If it is, have TLS to it passed on untouched"
        return fault(_CHECK, f"{case.address} speaks TLS, but not HTTP/2", remedy)
    try:
        secure.sendall(_GREETING)
        if secure.recv(1):
            return good(
                _CHECK, f"{case.address} proves that it is {case.host}, and accepts this site, by {secure.version()}"
            )
        why = "it closes the line"
    except OSError as error:
        why = _reason(error) if isinstance(error, ssl.SSLError) else error.strerror or str(error)
    remedy = "ask the consortium whether the aggregator trusts the authority that certified this site"
    return fault(_CHECK, f"{case.address} refuses this site's certificate: {why}", remedy)


def _context(directory: Path, identity: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=identity.authority.pem.decode())
    context.load_cert_chain(directory / IDENTITY_FILE, directory / KEY_FILE)
    context.set_alpn_protocols([_ALPN])
    return context


def _peer(case: Case, dial: Dial) -> x509.Certificate | None:
    """Whatever certificate is shown, without believing it; None when it cannot be had. Ours is not shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([_ALPN])
    try:
        with dial() as line, context.wrap_socket(line, server_hostname=case.host) as secure:
            return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"")
    except (OSError, *MALFORMED):
        return None


def _explain(
    case: Case, identity: Identity, error: ssl.SSLCertVerificationError, peer: x509.Certificate | None
) -> Finding:
    shown, clock = f"the certificate that {case.address} shows", stamp(case.now())
    if peer is None:
        return fault(_CHECK, f"{shown} does not verify: {error.verify_message}", "try again")
    if error.verify_code in (_HOST, _ADDRESS):
        remedy = f"dial it by a name in its certificate, or have one issued to it that names {case.host}"
        return fault(_CHECK, f"{shown} is for {', '.join(_names(peer)) or 'nobody'}, not for {case.host}", remedy)
    if error.verify_code == _EXPIRED:
        remedy = f"tell the consortium, unless this machine's clock ({clock}) is wrong"
        return fault(_CHECK, f"{shown} expired on {stamp(peer.not_valid_after_utc)}", remedy)
    if error.verify_code == _NOT_YET_VALID:
        remedy = f"set this machine's clock ({clock}) if it is late; else tell the consortium"
        return fault(_CHECK, f"{shown} is not valid before {stamp(peer.not_valid_before_utc)}", remedy)
    if error.verify_code == _PURPOSE:
        remedy = "is this the aggregator's address? Only an aggregator's certificate may serve"
        return fault(_CHECK, f"{shown} may not serve: it is {peer.subject.rfc4514_string()}", remedy)
    return _name_stranger(case, identity, peer, shown)


def _name_stranger(case: Case, identity: Identity, peer: x509.Certificate, shown: str) -> Finding:
    """Another consortium, or somebody in between: a firewall that inspects TLS signs by an authority of its own."""
    own = identity.authority.deployment
    try:
        other = Certificate.from_der(peer.public_bytes(Encoding.DER))
    except NotAdmitted:
        remedy = (
            f"a firewall or proxy intercepts TLS: ask the network team to pass {case.address} on without inspection"
        )
        says = f"{shown} was issued by {peer.issuer.rfc4514_string()}, not by the authority of {own}"
        return fault(_CHECK, says, remedy)
    says = f"{shown} is that of {other.name} in {other.deployment}, of another authority than this site's, of {own}"
    remedy = "compare the address and the authority's fingerprint with the consortium, by telephone"
    return fault(_CHECK, says, remedy)


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()


def _names(peer: x509.Certificate) -> list[str]:
    try:
        names = peer.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except MALFORMED:
        return []
    return [str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress)]
