"""Sums over shards along a fixed binary tree: within a node, between nodes, and of gradients."""
