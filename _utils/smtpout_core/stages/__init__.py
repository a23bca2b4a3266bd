"""The life of DKIM keys: made, published, active, retired, removed; what would move now, and what moves it."""
