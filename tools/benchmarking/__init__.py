"""What `tools/benchmark.py` is made of.

case.py       what is measured
process.py    a side of a case as a process of its own, and the rounds in which sides take turns
worker.py     that process
jax_side.py   jaxcd's training step, inference and augmentation; ceilings of the hardware
torch_side.py the same in PyTorch
loading.py    batches from disk, jaxcd's and the paper's
in_memory.py  training on a synthetic array
stepping.py   the training steps of both
bare.py       what stands in for jaxtyping where it is missing
figures.py    rows of figures out of measured sides
report.py     table and plot
compiling/    suite compile: programs compiled for a card and counted, nothing measured
gpu_day/      `tools/gpu_day`: all that a GPU is asked, in parts of a few minutes
"""
