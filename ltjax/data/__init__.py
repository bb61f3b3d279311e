"""Image sets: where they come from, and how their tails are cut.

`sources` gives every labeled set in one shape, `pools` external unlabeled
images, `prepare` fetches what is missing, and `archives` and `folders` read
files which nobody has vouched for.
"""
