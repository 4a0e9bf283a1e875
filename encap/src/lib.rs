//! SCTP over UDP in userspace (RFC 6951), sans-I/O.
#![forbid(unsafe_code)]
