//! The target `fuzz::client_messages` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    fuzz::client_messages(octets);
});
