"""`make chaos`: a consortium of processes that are killed at random, while an operator runs round after round.

    harness --- operator, over a cable of its own
       |------- cables, one for each process: they delay, and they break in the middle of a message
       |------- server, over a state directory on a disk that fills up
       |------- key holder, auditor
       `------- sites, which repeat themselves, and write down what they mask before it leaves

Every process that ends is started again, as systemd would. What the rounds gave is compared with what the sites wrote
down, in plain integers: no code of the server's or the protocol's judges.
"""
