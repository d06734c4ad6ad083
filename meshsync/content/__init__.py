"""What a version is made of: records, manifests, compression, sealing."""
