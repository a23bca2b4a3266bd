"""What DNS says of the site, asked of every authoritative server, held against what its mail needs."""
