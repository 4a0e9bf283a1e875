//! Users, credentials, and everything that blocks.
