"""The always-on node: durable sealed chunks and the authoritative metadata log. It is blind to names and content."""
