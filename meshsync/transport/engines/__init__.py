"""QUIC engines behind one small Protocol."""
