//! The target `fuzz::session_id` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    fuzz::session_id(octets);
});
