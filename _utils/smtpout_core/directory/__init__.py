"""The directory that knows the users: what is asked of it, as Postfix and saslauthd ask."""
