"""Postfix: its configuration before it is live, its tables, its ports and its queue."""
