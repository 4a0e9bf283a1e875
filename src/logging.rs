//! Access lines and diagnostics.
