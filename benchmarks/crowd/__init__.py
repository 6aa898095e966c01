"""Does a round of honest sites close, and exactly, while a tenth of the roster is slow, silent or hostile?

    make crowd                          1,000 clients, lattice and pairwise, 100,000 values
    python -m benchmarks.crowd --clients 60 --entries 3000 --mode pairwise

A real server in a process of its own, real sessions over mutual TLS in a few processes. The last line is JSON, one
object for each mode:

    clients, honest             how many there are, and how many mean well
    summed                      whose input is in the sum
    completed                   honest ones that saw the round close over their input
    exact                       whether each word of the sum is the sum of the participants' words
    seconds, longest_step_s     of the round; a step that waits for a silent client lasts until its deadline
    server_rss_above_idle_bytes, rss_bound_bytes    at most, and what docs/operating.md promises
    refused                     by error class, what all clients were told
"""
