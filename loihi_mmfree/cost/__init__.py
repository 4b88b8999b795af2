"""Time and energy on Loihi 2: models of them, fitted to published figures, with ranges and sensitivities."""
