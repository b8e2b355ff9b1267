"""Tests of the local VSS without sockets."""
