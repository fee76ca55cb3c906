"""Downloads, one file per source: who is in one, and how a volume is read (`kdmri_lib.datasets.preparing.Source`)."""
