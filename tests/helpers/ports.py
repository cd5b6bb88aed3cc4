"""Ports of this machine that nobody listens on."""

import socket


def free_port():
    """Return a port that was free a moment ago."""
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return server.getsockname()[1]
