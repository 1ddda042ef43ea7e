"""The workbench on the host: what stands behind every `make` command.

It drives Docker and never imports the application (app/), nor does the application import it.
"""
