"""What stands around the daemons: the host's firewall and SELinux."""
