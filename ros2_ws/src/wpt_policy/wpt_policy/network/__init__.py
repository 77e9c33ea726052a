"""The student network in pure torch. Everything here is tensors in, tensors out; poses and images come from
outside.

Shape letters used throughout: B batch, N cameras, H W image rows and columns, C channels, h w feature rows
and columns, X Y bird's-eye-view cells (forward, left), Z pillar heights, P = Z * X * Y pillar points, M
cameras per point, K = M * Z samples per cell, S history entries, T plan steps, D query channels, E ego
inputs.
"""
