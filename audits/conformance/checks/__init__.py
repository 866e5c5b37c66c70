"""The checks, by what they are about: any stage, states, rows, the clip boundary, noise, posts."""
