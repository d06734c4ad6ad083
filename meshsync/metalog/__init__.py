"""The signed metadata log: entries, chains, membership, receipts. Readable without folder keys."""
