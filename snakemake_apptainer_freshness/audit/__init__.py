"""What runs did: their records, what an auditor finds in them, and how that is shown.

:mod:`.record.run` says what one run leaves behind; :mod:`.results` what an audit finds; each rendering takes the
results and adds nothing to them.
"""
