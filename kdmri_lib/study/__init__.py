"""The engine of the study: from a profile to runs, notebooks, tables and a report. Nothing outside imports it but
`kdmri_lib.deployment` and the commands."""
