//! The pipo admin protocol, versions 1 and 2: frames, requests, replies. No I/O, no clock.
#![forbid(unsafe_code)]
