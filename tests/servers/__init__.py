"""The real servers that tests talk to: one module each, with a function `server()` that starts it on first use.

A server listens on loopback, at ports that were free, and ends with the tests: when pytest is done, and also when the
process of the tests is killed. `scripts/servers` installs them all; a server that is missing fails the test.
"""
