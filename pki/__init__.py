"""How the certificates are made, and what is wrong with one that somebody brings. Read next: certificates.py."""
