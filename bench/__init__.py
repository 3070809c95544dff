"""`./just bench`: how long things take, beside what one would do by hand. Nothing here fails because it is slow.

Times differ with the machine and with what else it does, so only the ratios are meant to be compared.
"""
