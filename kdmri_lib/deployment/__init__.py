"""Taking a trained network away: an ONNX file that says what it is, and running it without PyTorch.

>>> from kdmri_lib.deployment import Model
>>> model = Model("student.onnx")
>>> image = model.reconstruct(kspace)
"""

from kdmri_lib.deployment.model import Model

__all__ = ["Model"]
