"""Limits of what a login sends in an hour and in a day: a policy service that Postfix's smtpd(8) asks."""
