"""What kitchen.yml's verifier runs: tests of one applied relay that need no other host."""
