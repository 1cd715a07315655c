"""Implementations of one `Call`: one file each, one signature."""
