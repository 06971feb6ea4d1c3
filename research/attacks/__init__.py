"""Attacks: how much one lying site of four, or two of eight, cost the honest ones under each rule."""
