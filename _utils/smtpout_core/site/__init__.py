"""From the pillar to the settings: pure, no host is asked."""
