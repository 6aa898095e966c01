"""`sangam demo`: a consortium of real processes on this machine trains on real medical data and checks every sum."""
