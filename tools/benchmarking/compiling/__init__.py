"""What a card would have to do: programs compiled for it without having it, and counted (`--suite compile`).

suite.py     what is compiled, and what is said of it
process.py   the worker as a process, in the environment that has the compiler
worker.py    that process: compiles programs and gives XLA's optimised text
programs.py  training step and inference with shapes in place of arrays
targets.py   the cards; targets/ holds their figures, one file each
hlo.py       XLA's text as computations and instructions
traffic.py   bytes: what each kernel reads and writes
work.py      operations
kinds.py     what a kernel is for, and the line of code that it comes from
counted.py   a program's kernels added up
fit.py       which batch fits a card
compare.py   two results against each other
tables.py    what is printed and drawn
"""
