"""The always-on node: durable sealed chunks and the authoritative metadata log. It can read neither names nor content."""
