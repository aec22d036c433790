"""What `tools/gpu_day` is made of.

parts.py      the parts: what each measures, in which order
day.py        runs parts within their time, and writes the figures of each piece as they come
record.py     figures.json: what has been measured, and on what
batches.py    batches up to the card's memory, beside what the compiler foretold
bound.py      bytes over time, beside the card's bandwidth and the model's bound
profiling.py  a profile of some steps, its archive and its largest operations
tables.py     rows.md: tables as docs/results.md has them
plots.py      speed and batches as pictures
"""
