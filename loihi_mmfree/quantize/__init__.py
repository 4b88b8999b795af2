"""From a float checkpoint to integers and formats: Brevitas quantizers, calibration, fixed-point parameters.

Nothing is imported here, so that reading a configuration costs no import of torch or Brevitas.
"""
