"""meshsync: keeps chosen folders equal across devices, peer to peer, with a blind always-on relay."""
