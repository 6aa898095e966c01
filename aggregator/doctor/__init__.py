"""What keeps a site from its aggregator, or an aggregator from starting: one sentence for each check.

    finding        what a check says
    disk, journal  files, permissions, certificate, authority, journal
    proxy, line    name, proxy, TCP
    tls, probe     handshake, admission, clock, versions, roster
    case           what a site asks
    examination    a site's checks, in order
    configuration  an aggregator's checks, before it starts

Nothing is changed by looking: no file is written but a probe in a staging directory, and no round is entered.
"""
