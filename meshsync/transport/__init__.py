"""Authenticated links between devices over QUIC."""
