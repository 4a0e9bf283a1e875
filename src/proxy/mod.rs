//! The data plane: SOCKS5 sessions over TCP, one file a stage, in the order of the dialogue.
