"""What runs "N times" or "for minutes", one module each: `run() -> dict` returns its figures and raises
DevkitError when a promise did not hold.
"""
