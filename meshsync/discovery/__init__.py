"""How devices find each other: mDNS, fixed addresses, the relay."""
