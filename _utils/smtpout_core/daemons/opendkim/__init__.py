"""OpenDKIM: its keys, their DNS records, and its configuration before it is live."""
