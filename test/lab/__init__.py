"""The lab: throw-away hosts with a real systemd on one machine, for the demo, the tests and for looking around."""

from lab.lab import Client, Lab
from lab.process import CommandFailed, LabError

__all__ = ["Client", "CommandFailed", "Lab", "LabError"]
