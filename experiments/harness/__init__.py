"""What the experiments share.

command_line.py reads the options, datasets.py fetches files; tokens.py, batches.py and dropout.py
serve data and models; training.py is the loop, with its checkpoints.py; records.py and figures.py
write results by files.py, and processor.py says what they were measured on.
"""
