"""What the experiments share.

settings.py has the types and ranges of options, command_line.py reads them; runs.py opens a run's
folder, and writes its record and its model (models.py); datasets.py fetches and reads files;
tokens.py, batches.py, cells.py and dropout.py serve data and models; training.py is the loop, with
its updates.py, checkpoints.py and progress.py, over the devices and processes of devices.py;
records.py and processor.py say where a result comes from, figures.py draws it, files.py writes it.
"""
