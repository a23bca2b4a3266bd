"""The daemons of a relay: how each is checked, asked and looked after."""
