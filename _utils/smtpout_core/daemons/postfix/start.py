"""What Postfix reads when it starts, and not again when it is reloaded."""

from __future__ import annotations

import re

from smtpout_core.daemons.postfix import conf

# Seen on Postfix 3.7.11, each changed and reloaded on a relay that ran:
#   inet_interfaces, inet_protocols   "ignoring ... change", "to change ..., stop and start Postfix" in the log; the
#                                     sockets stay as they were. (Services of master.cf come and go on a reload, at the
#                                     addresses that these two had at the start.)
#   queue_directory                   the reload fails, since it looks for a master in the new queue; the old one goes
#                                     on, while sendmail(1) puts mail into the new one, where nobody looks
#   mail_owner                        the reload fails ("open directory active: Permission denied"); the daemons go on
#                                     as the old user
#   data_directory                    not a word; the daemons take the new one, master(8) keeps its lock in the old one
#   process_id_directory              not a word; master's file is made anew by a start only
#   import_environment                not a word; master cleans its environment once, and each daemon inherits that
# Not tried: the parameters of several instances (multi_instance_*), which postfix(1) and systemd's generator of units
# read at a start or a stop. Seen to be followed on a reload: daemon_directory, syslog_name, maillog_file,
# master_service_disable.
PARAMETERS = (
    "inet_interfaces",
    "inet_protocols",
    "queue_directory",
    "mail_owner",
    "data_directory",
    "process_id_directory",
    "import_environment",
    "multi_instance_enable",
    "multi_instance_name",
    "multi_instance_group",
    "multi_instance_directories",
    "multi_instance_wrapper",
)

IGNORED = re.compile(
    r"(?:service (?P<service>\S+): )?ignoring (?P<parameter>\S+) (?:parameter value )?change$"
    r"|to change (?P<stopped>\S+), stop and start Postfix$",
    re.MULTILINE,
)
"""What master(8) logs on a reload of a change that it doesn't follow (master_ent.c, master_watch.c)."""


def start_only(config_directory: str = conf.LIVE) -> dict[str, str]:
    """Return what a reload doesn't bring about, expanded, by parameter: where one differs, Postfix has to be restarted.

    By trial: master(8) warns of ``inet_interfaces`` and ``inet_protocols`` (:data:`IGNORED`); with another
    ``queue_directory`` or ``mail_owner`` the reload fails and the old Postfix goes on; ``data_directory`` (master's
    lock), ``process_id_directory`` and ``import_environment`` are passed over in silence.

    :param config_directory: live or staged.
    :raises RelayError: postconf can't read the configuration.
    :raises NotInstalledError: there is no Postfix.
    """
    return conf.values(config_directory, *PARAMETERS)
