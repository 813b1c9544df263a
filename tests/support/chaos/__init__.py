"""Chaos on real servers: a driver that breaks everything at random, and an oracle that counts (docs/reliability.md)."""
