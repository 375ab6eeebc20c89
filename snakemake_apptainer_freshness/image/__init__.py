"""What an image is called: references, digests, manifests, platforms. Pure: no network, no disk."""
