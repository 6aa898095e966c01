"""A round as a chain of phases, one file each, and the one driver that runs them.

advertise_keys -> share_keys -> masked_input -> consistency_check -> unmasking -> Completed
      |               |              |                 |                 |
      +---------------+--------------+-----------------+-----------------+--------> Failed
"""
