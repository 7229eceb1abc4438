"""The deployed daemon that finishes stragglers; its rooms arrive with the next release."""
