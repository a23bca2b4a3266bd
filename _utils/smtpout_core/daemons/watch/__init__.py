"""The watch: a timer that asks the running relay what ``smtpout.verify`` asks, between applies and without Salt."""
