"""Which package this is."""

VERSION = "0.1.0"
