//! The replicated log of commands: Raft, log files, packing and recovery.
