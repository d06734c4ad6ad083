"""Frames and messages, and the pure state machines that exchange them."""
