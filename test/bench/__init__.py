"""The benchmark: how long an apply takes and how much mail the relay carries, beside peers on the same machine."""
