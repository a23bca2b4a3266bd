"""The transaction: a host's daemons get other files, units and memberships as one whole, or keep what they had.

It knows nothing of mail. What a daemon is comes in as a :class:`~smtpout_core.change.parts.Daemon`.

    parts          what can be changed: a daemon, its files
    templates      a file's text, from the settings
    staging        all of it aside, where each daemon's own parser reads it
    units          systemd
    memory         what the host remembers: the last whole that proved itself, and its generations
    history        the generations: what each changed, and how two of them differ
    journal        how everything was before a change, for the way back, also after a kill or a reboot
    plan           what differs, and what that asks for
    edits          what somebody has changed by hand, shown and kept before it is put back
    masks          what of a secret file may be shown
    checking       what the parsers and trials say before anything is touched
    activation     one daemon's files in place, and the daemon serving with them
    wayback        everything as it was before
    transaction    recover, check, activate, prove, or take all of it back
"""
