"""The workflow engine: the only folder that knows Snakemake.

:mod:`.install` finds the one place where Snakemake makes a workflow; :mod:`.hook` wraps the methods of that one
workflow object; :mod:`.config` reads the flag; :mod:`.directives` knows container directives; :mod:`.engine.handover`
carries the pins to job processes; :mod:`.engine.messages` says what a user sees. Nothing here decides what a pin is or
which image may run.
"""
