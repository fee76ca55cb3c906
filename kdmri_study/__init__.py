"""The engine of the study, beside the library: from a profile to runs, notebooks, tables and a report.

It imports `kdmri_lib`; nothing there imports it but the commands (``python -m kdmri_lib``), and a contract keeps it so.
"""
